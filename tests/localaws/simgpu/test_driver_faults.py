"""Faults that outlast a call: wedged calls, GPUs lost in several ways, a driver replaced under its clients."""

from __future__ import annotations

from typing import Any

import pytest

from localaws.simgpu.errors import UnknownValueError
from localaws.simgpu.gpu_values import NvmlReturn

CONTROL = """
import sys, threading, time
sys.path.insert(0, {root!r})
from pathlib import Path
from localaws.simgpu.gpus import SimulatedGpus
gpus = SimulatedGpus(Path({state!r}))
"""


def run(machine: Any, code: str) -> Any:
    return machine.nvml(CONTROL.format(root=__file__.rsplit("/tests/", 1)[0], state=str(machine.state)) + code)


@pytest.mark.parametrize(
    ("gpu", "function", "expression", "value"),
    [
        (0, "nvmlDeviceGetPowerUsage", "n.nvmlDeviceGetPowerUsage(h)", 16000),
        (None, "nvmlDeviceGetPowerUsage", "n.nvmlDeviceGetPowerUsage(h)", 16000),
        (None, "nvmlInitWithFlags", "n.nvmlInit()", None),
        (None, "nvmlSystemGetDriverVersion", "n.nvmlSystemGetDriverVersion()", "580.95.05"),
        (None, "nvmlSystemGetNVMLVersion", "n.nvmlSystemGetNVMLVersion()", "13.580.95.05"),
    ],
)
def test_a_wedged_call_returns_when_it_is_healed(
    machine: Any, gpu: int | None, function: str, expression: str, value: Any
) -> None:
    code = f"""
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
other = n.nvmlDeviceGetHandleByIndex(1)
gpus.hang({gpu}, {function!r})
threading.Timer(0.4, gpus.heal, ({gpu}, {function!r})).start()
temperature = n.nvmlDeviceGetTemperature(h, 0)
began = time.monotonic()
value = {expression}
result = [value, temperature, time.monotonic() - began]
"""
    found, temperature, seconds = run(machine, code)

    assert (found, temperature) == (value, 22)
    assert 0.35 <= seconds < 5


def test_a_wedged_gpu_does_not_hold_up_the_others_and_its_process_can_be_killed(machine: Any) -> None:
    code = """
import os, signal
gpus.hang(0, "nvmlDeviceGetPowerUsage")
child = os.fork()
if child == 0:
    n.nvmlInit()
    n.nvmlDeviceGetPowerUsage(n.nvmlDeviceGetHandleByIndex(0))
    os._exit(0)
n.nvmlInit()
other = n.nvmlDeviceGetPowerUsage(n.nvmlDeviceGetHandleByIndex(1))
time.sleep(0.3)
hanging = os.waitpid(child, os.WNOHANG)[0] == 0
os.kill(child, signal.SIGTERM)
result = [other, hanging, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]
"""
    assert run(machine, code) == [16000, True, -15]


def test_a_function_that_does_not_exist_cannot_hang(machine: Any) -> None:
    with pytest.raises(UnknownValueError, match="Unknown NVML function"):
        machine.gpus.hang(None, "nvmlNoSuchCall")


LOOKUPS = """
n.nvmlInit()
handles = [n.nvmlDeviceGetHandleByIndex(i) for i in range(4)]
uuids, buses = [n.nvmlDeviceGetUUID(h) for h in handles], [n.nvmlDeviceGetPciInfo(h).busId for h in handles]

def look():
    return {
        "count": n.nvmlDeviceGetCount(),
        "by index": [call(lambda: uuids.index(n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByIndex(i)))) for i in range(4)],
        "by uuid": [call(lambda u: n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID(u)), u) for u in uuids],
        "by bus": [call(lambda b: n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByPciBusId(b)), b) for b in buses],
        "handles": [call(n.nvmlDeviceGetTemperature, h, 0) for h in handles],
    }
"""
LOST, UNKNOWN, NOT_FOUND, NO_SUCH_INDEX = "error 15", "error 999", "error 6", "error 2"


def test_a_gpu_can_be_lost_to_handle_lookups_as_unknown(machine: Any) -> None:
    found = run(machine, LOOKUPS + "gpus.lose(1, 'unknown')\nresult = look()")
    assert found == {
        "count": 4,
        "by index": [0, UNKNOWN, 2, 3],
        "by uuid": [0, UNKNOWN, 2, 3],
        "by bus": [0, UNKNOWN, 2, 3],
        "handles": [22, LOST, 22, 22],
    }


def test_a_gpu_that_vanished_leaves_no_gap_among_the_indices(machine: Any) -> None:
    found = run(machine, LOOKUPS + "gpus.lose(1, 'vanished')\nresult = look()")
    assert found == {
        "count": 3,
        "by index": [0, 2, 3, NO_SUCH_INDEX],
        "by uuid": [0, NOT_FOUND, 1, 2],
        "by bus": [0, NOT_FOUND, 1, 2],
        "handles": [22, LOST, 22, 22],
    }


@pytest.mark.parametrize("how", ["lost", "unknown", "vanished"])
def test_a_gpu_comes_back_however_it_was_lost(machine: Any, how: str) -> None:
    code = f"before = look()\ngpus.lose(1, how={how!r})\ngpus.restore(1)\nresult = look() == before"
    assert run(machine, LOOKUPS + code) is True


def test_every_gpu_can_vanish(machine: Any) -> None:
    for index in range(4):
        machine.gpus.lose(index, how="vanished")
    assert machine.nvml("n.nvmlInit()\nresult = n.nvmlDeviceGetCount()") == 0


def test_ways_to_be_lost_that_do_not_exist_are_refused(machine: Any) -> None:
    with pytest.raises(UnknownValueError, match="lost, unknown, vanished"):
        machine.gpus.lose(0, how="asleep")


def test_a_gpu_that_needs_a_reset_says_so(machine: Any) -> None:
    machine.gpus.fail(0, "nvmlDeviceGetPowerUsage", NvmlReturn.RESET_REQUIRED)
    assert machine.nvml_of(0, "call(n.nvmlDeviceGetPowerUsage, h)") == "error 16"


def test_a_driver_upgrade_fails_who_loaded_the_library_before_and_nobody_else(machine: Any) -> None:
    code = """
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
gpus.upgrade_driver("590.44.01")
result = [call(n.nvmlDeviceGetTemperature, h, 0), call(n.nvmlDeviceGetCount), call(n.nvmlEventSetCreate),
    call(n.nvmlShutdown), call(n.nvmlInit), call(n.nvmlInit)]
"""
    mismatch = "error 18"
    assert run(machine, code) == [mismatch, mismatch, mismatch, None, mismatch, mismatch]
    assert machine.nvml("n.nvmlInit()\nresult = n.nvmlSystemGetDriverVersion()") == "590.44.01"


def test_the_library_belongs_to_the_driver_that_was_there_when_it_was_loaded(machine: Any) -> None:
    code = """
import ctypes
ctypes.CDLL("libnvidia-ml.so.1")
gpus.upgrade_driver("590.44.01")
result = call(n.nvmlInit)
"""
    assert run(machine, code) == "error 18"


def test_going_back_to_the_old_driver_ends_the_mismatch(machine: Any) -> None:
    code = """
n.nvmlInit()
gpus.upgrade_driver("590.44.01")
gpus.upgrade_driver("580.95.05")
result = n.nvmlDeviceGetCount()
"""
    assert run(machine, code) == 4


def test_what_clients_of_an_unloaded_driver_get_can_be_chosen(machine: Any) -> None:
    code = """
n.nvmlInit()
gpus.unload_driver(9)
first = call(n.nvmlDeviceGetCount)
gpus.load_driver()
gpus.unload_driver()
result = [first, call(n.nvmlDeviceGetCount)]
"""
    assert run(machine, code) == ["error 9", "error 999"]
