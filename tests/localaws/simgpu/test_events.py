from __future__ import annotations

import re
import time
from typing import Any

import pytest

from localaws.simgpu.errors import UnknownValueError

CONTROL = """
import sys, threading, time
sys.path.insert(0, {root!r})
from pathlib import Path
from localaws.simgpu.gpus import SimulatedGpus
gpus = SimulatedGpus(Path({state!r}))

def watch(*indexes):
    events = n.nvmlEventSetCreate()
    for index in indexes:
        n.nvmlDeviceRegisterEvents(n.nvmlDeviceGetHandleByIndex(index), n.nvmlEventTypeXidCriticalError, events)
    return events

def wait(events, milliseconds, function="nvmlEventSetWait_v2"):
    began, outcome = time.monotonic(), call(getattr(n, function), events, milliseconds)
    if not isinstance(outcome, str):
        device = n.nvmlDeviceGetIndex(outcome.device)
        outcome = [device, outcome.eventType, outcome.eventData, outcome.gpuInstanceId, outcome.computeInstanceId]
    return [outcome, round((time.monotonic() - began) * 1000)]

n.nvmlInit()
"""
WHOLE_GPU = [0xFFFFFFFF, 0xFFFFFFFF]


def run(machine: Any, code: str) -> Any:
    control = CONTROL.format(root=__file__.rsplit("/tests/", 1)[0], state=str(machine.state))
    return machine.nvml(control + code)


def test_an_event_after_registration_is_delivered_once_and_then_time_runs_out(machine: Any) -> None:
    code = """
gpus.xid(2, 31)
events = watch(0, 2)
gpus.xid(2, 79)
gpus.xid(1, 48)
gpus.xid(0, 94, gpu_instance_id=3, compute_instance_id=0)
result = [wait(events, 5000), wait(events, 5000), wait(events, 200)]
n.nvmlEventSetFree(events)
"""
    first, second, third = run(machine, code)

    assert first[0] == [2, 8, 79, *WHOLE_GPU]
    assert second[0] == [0, 8, 94, 3, 0]
    assert third[0] == "error 10"
    assert 200 <= third[1] < 2000


def test_a_gpu_that_joins_a_set_later_brings_no_earlier_events(machine: Any) -> None:
    code = """
events = watch(0)
gpus.xid(2, 31)
n.nvmlDeviceRegisterEvents(n.nvmlDeviceGetHandleByIndex(2), n.nvmlEventTypeXidCriticalError, events)
gpus.xid(2, 79)
result = [wait(events, 5000)[0][2], wait(events, 50)[0]]
"""
    assert run(machine, code) == [79, "error 10"]


def test_a_waiting_call_wakes_up_at_once_and_costs_nothing_until_then(machine: Any) -> None:
    code = """
events = watch(1)
threading.Timer(0.5, gpus.xid, (1, 48)).start()
used = time.process_time()
result = [wait(events, 30000), time.process_time() - used]
"""
    (event, waited_ms), cpu_seconds = run(machine, code)

    assert event == [1, 8, 48, *WHOLE_GPU]
    assert 450 <= waited_ms < 5000
    assert cpu_seconds < 0.1


def test_every_process_and_every_set_sees_each_event(machine: Any) -> None:
    code = """
import os
first, second = watch(0), watch(0)
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    mine = watch(0)
    os.write(writer, b"r")
    os._exit(wait(mine, 20000)[0][2])
os.read(reader, 1)
gpus.xid(0, 63)
result = [wait(first, 20000)[0], wait(second, 20000)[0], os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]
"""
    assert run(machine, code) == [[0, 8, 63, *WHOLE_GPU], [0, 8, 63, *WHOLE_GPU], 63]


def test_a_burst_arrives_whole_and_in_order(machine: Any) -> None:
    code = """
events = watch(0)
for number in range(1, 101):
    gpus.xid(0, number, log=False)
result = [wait(events, 1000)[0][2] for _ in range(100)]
"""
    assert run(machine, code) == list(range(1, 101))


def test_a_gpu_that_is_lost_ends_every_wait_at_once(machine: Any) -> None:
    code = """
events = watch(0, 1)
gpus.xid(1, 79)
threading.Timer(0.3, gpus.lose, (1,)).start()
result = [wait(events, 20000), wait(events, 20000), wait(events, 20000)]
result.append(call(n.nvmlDeviceRegisterEvents, n.nvmlDeviceGetHandleByIndex(0), 8, events))
gpus.restore(1)
result.append(wait(events, 100)[0])
"""
    before, first, second, register_other, after = run(machine, code)

    assert before[0][2] == 79
    assert first[0] == second[0] == "error 15"
    assert 200 <= first[1] < 5000
    assert second[1] < 200
    assert (register_other, after) == (None, "error 10")


def test_a_lost_gpu_cannot_be_registered(machine: Any) -> None:
    code = """
h, events = n.nvmlDeviceGetHandleByIndex(1), n.nvmlEventSetCreate()
gpus.lose(1)
result = [call(n.nvmlDeviceRegisterEvents, h, 8, events), call(n.nvmlDeviceGetSupportedEventTypes, h)]
"""
    assert run(machine, code) == ["error 15", "error 15"]


def test_an_unloaded_driver_ends_the_wait(machine: Any) -> None:
    code = """
events = watch(0)
threading.Timer(0.3, gpus.unload_driver).start()
result = wait(events, 20000)
"""
    assert run(machine, code)[0] == "error 999"


def test_types_that_are_not_supported_and_sets_that_do_not_exist(machine: Any) -> None:
    machine.gpus.set(1, ecc_mode=0)
    code = """
with_ecc, without_ecc = n.nvmlDeviceGetHandleByIndex(0), n.nvmlDeviceGetHandleByIndex(1)
events = n.nvmlEventSetCreate()
result = [n.nvmlDeviceGetSupportedEventTypes(with_ecc), n.nvmlDeviceGetSupportedEventTypes(without_ecc),
    *(call(n.nvmlDeviceRegisterEvents, h, 2 | 8, events) for h in (without_ecc, with_ecc)),
    call(n.nvmlDeviceRegisterEvents, with_ecc, 1 << 40, events), call(n.nvmlDeviceRegisterEvents, with_ecc, 8, None),
    call(n.nvmlEventSetWait_v2, None, 10), call(n.nvmlEventSetFree, None)]
"""
    assert run(machine, code) == [0x1F, 0x1C, "error 3", None, "error 2", "error 2", "error 2", "error 2"]


def test_version_1_of_the_wait_leaves_the_instance_alone(machine: Any) -> None:
    code = """
import ctypes
events, data = watch(0), n.c_nvmlEventData_t()
data.gpuInstanceId = 77
gpus.xid(0, 48)
result = [n.nvmlLib.nvmlEventSetWait(events, ctypes.byref(data), 1000), data.eventData, data.gpuInstanceId]
"""
    assert run(machine, code) == [0, 48, 77]


def test_new_gpus_begin_with_new_events(machine: Any) -> None:
    code = """
for _ in range(5):
    gpus.xid(0, 31)
events = watch(0)
gpus.install("g5.12xlarge", "i-2")
gpus.xid(0, 79)
result = wait(events, 1000)[0][2]
"""
    assert run(machine, code) == 79


def test_an_unprivileged_user_receives_events(machine: Any, unprivileged_user_id: int) -> None:
    code = """
n.nvmlInit()
events = n.nvmlEventSetCreate()
n.nvmlDeviceRegisterEvents(n.nvmlDeviceGetHandleByIndex(0), 8, events)
result = call(n.nvmlEventSetWait_v2, events, 50)
"""
    assert machine.nvml(code, user_id=unprivileged_user_id) == "error 10"


def test_the_kernel_log_has_a_record_per_xid_in_the_form_of_dev_kmsg(machine: Any) -> None:
    before_us = time.monotonic_ns() // 1000
    machine.gpus.xid(3, 79)
    machine.gpus.xid(0, 94, gpu_instance_id=5)
    machine.gpus.xid(0, 777)

    first, second, third = (machine.state / "kmsg").read_text().splitlines()

    found = re.fullmatch(r"4,0,(\d+),-;(.*)", first)
    assert found is not None
    assert before_us <= int(found[1]) <= time.monotonic_ns() // 1000
    text = "NVRM: Xid (PCI:0000:00:1e): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
    assert found[2] == text
    assert re.match(r"4,1,\d+,-;NVRM: Xid \(PCI:0000:00:1b GPU-I:05\): 94, ", second)
    assert re.match(r"4,2,\d+,-;NVRM: Xid \(PCI:0000:00:1b\): 777, ", third)


def test_event_and_kernel_log_can_each_be_left_out(machine: Any) -> None:
    machine.gpus.xid(0, 79, event=False)
    assert ((machine.state / "events").read_text(), (machine.state / "kmsg").read_text().count("\n")) == ("", 1)

    machine.gpus.xid(0, 79, log=False)

    assert (machine.state / "events").read_text() == "0 8 79 4294967295 4294967295\n"
    assert (machine.state / "kmsg").read_text().count("\n") == 1


@pytest.mark.parametrize("number", [0, -1, 1000])
def test_numbers_that_are_no_xid_are_refused(machine: Any, number: int) -> None:
    with pytest.raises(UnknownValueError, match="from 1 to 999"):
        machine.gpus.xid(0, number)
