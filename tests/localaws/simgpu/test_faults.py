from __future__ import annotations

from typing import Any

from localaws.simgpu.gpu_values import NvmlReturn

INIT = "result = call(n.nvmlInit)"
NO_DEVICE = 100


def test_a_failing_function_fails_on_that_gpu_only_and_heals(machine: Any) -> None:
    machine.gpus.fail(0, "nvmlDeviceGetPowerUsage", NvmlReturn.NO_PERMISSION)
    query = "[call(n.nvmlDeviceGetPowerUsage, h), call(n.nvmlDeviceGetTemperature, h, 0)]"

    assert machine.nvml_of(0, query) == ["error 4", 22]
    assert machine.nvml_of(1, query) == [16000, 22]
    machine.gpus.heal(0, "nvmlDeviceGetPowerUsage")
    assert machine.nvml_of(0, query) == [16000, 22]


def test_memory_version_2_can_be_missing_while_version_1_works(machine: Any) -> None:
    query = "[call(n.nvmlDeviceGetMemoryInfo, h, version=n.nvmlMemory_v2), n.nvmlDeviceGetMemoryInfo(h).total > 0]"
    for code in (NvmlReturn.FUNCTION_NOT_FOUND, NvmlReturn.ARGUMENT_VERSION_MISMATCH):
        machine.gpus.fail(2, "nvmlDeviceGetMemoryInfo_v2", code)
        assert machine.nvml_of(2, query) == [f"error {int(code)}", True]


def test_heal_without_a_name_undoes_every_fault(machine: Any) -> None:
    for function in ("nvmlDeviceGetPowerUsage", "nvmlDeviceGetName", "nvmlDeviceGetHandleByIndex_v2"):
        machine.gpus.fail(0, function, NvmlReturn.UNKNOWN)

    machine.gpus.heal(0)

    assert machine.nvml_of(0, "[n.nvmlDeviceGetPowerUsage(h), n.nvmlDeviceGetName(h)]") == [16000, "NVIDIA A10G"]


def test_every_function_that_can_be_made_to_fail_is_exported(machine: Any) -> None:
    from localaws.simgpu.gpu_values import nvml_functions

    code = f"n.nvmlInit()\nresult = [f for f in {sorted(nvml_functions())} if not hasattr(n.nvmlLib, f)]"
    assert len(nvml_functions()) > 50
    assert machine.nvml(code) == []


def test_a_lost_gpu_fails_every_call_and_the_others_work(machine: Any) -> None:
    code = """
n.nvmlInit()
handles = [n.nvmlDeviceGetHandleByIndex(i) for i in range(4)]
uuid = n.nvmlDeviceGetUUID(handles[1])
{lose}
result = [n.nvmlDeviceGetCount(), call(n.nvmlDeviceGetHandleByUUID, uuid), call(n.nvmlDeviceGetUUID, handles[1]),
          *(call(n.nvmlDeviceGetTemperature, h, 0) for h in handles)]
"""
    lose = f"""
import sys
sys.path.insert(0, {__file__.rsplit("/tests/", 1)[0]!r})
from pathlib import Path
from localaws.simgpu.gpus import SimulatedGpus
SimulatedGpus(Path({str(machine.state)!r})).lose(1)
"""
    lost = "error 15"

    assert machine.nvml(code.format(lose=lose)) == [4, lost, lost, 22, lost, 22, 22]
    assert machine.nvml("n.nvmlInit()\nresult = call(n.nvmlDeviceGetHandleByIndex, 1)") == lost
    machine.gpus.restore(1)
    assert machine.nvml_of(1, "n.nvmlDeviceGetTemperature(h, 0)") == 22


def test_cuda_calls_fail_on_a_lost_gpu_and_its_memory_can_still_be_freed(machine: Any) -> None:
    process = machine.cuda()
    process.do("alloc 1024")
    machine.gpus.lose(0)

    assert process.do("alloc 1024") == 999
    assert process.do("free") == 0


def test_a_lost_gpu_can_answer_as_some_drivers_do(machine: Any) -> None:
    machine.gpus.lose(1)
    machine.gpus.fail(1, "nvmlDeviceGetHandleByIndex_v2", NvmlReturn.UNKNOWN)
    assert machine.nvml("n.nvmlInit()\nresult = call(n.nvmlDeviceGetHandleByIndex, 1)") == "error 999"


def test_without_state_there_is_no_driver(bare_machine: Any) -> None:
    assert bare_machine.nvml(INIT) == "error 9"
    assert bare_machine.cuda(gpu_index=None).do("context 0") == NO_DEVICE


def test_an_unloaded_driver_is_as_if_it_were_absent_until_it_is_loaded(machine: Any) -> None:
    machine.gpus.unload_driver()
    assert machine.nvml(INIT) == "error 9"
    assert machine.cuda(gpu_index=None).do("context 0") == NO_DEVICE

    machine.gpus.load_driver()

    assert machine.nvml(INIT) is None


def test_initialisation_can_fail_as_after_a_driver_upgrade(machine: Any) -> None:
    machine.gpus.fail(None, "nvmlInitWithFlags", NvmlReturn.LIB_RM_VERSION_MISMATCH)  # what pynvml's nvmlInit calls
    machine.gpus.fail(None, "nvmlInit_v2", NvmlReturn.LIB_RM_VERSION_MISMATCH)
    assert machine.nvml(INIT) == "error 18"


def test_a_driver_that_goes_away_under_a_client_is_an_unknown_error(machine: Any) -> None:
    code = f"""
import sys
sys.path.insert(0, {__file__.rsplit("/tests/", 1)[0]!r})
from pathlib import Path
from localaws.simgpu.gpus import SimulatedGpus
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
SimulatedGpus(Path({str(machine.state)!r})).unload_driver()
result = [call(n.nvmlDeviceGetTemperature, h, 0), call(n.nvmlDeviceGetCount), call(n.nvmlShutdown), call(n.nvmlInit)]
"""
    assert machine.nvml(code) == ["error 999", "error 999", None, "error 9"]


def test_calls_before_init_and_after_the_last_shutdown_are_refused(machine: Any) -> None:
    code = """
n.nvmlInit()
n.nvmlInit()
n.nvmlShutdown()
still = n.nvmlDeviceGetCount()
n.nvmlShutdown()
result = [still, call(n.nvmlDeviceGetCount), call(n.nvmlDeviceGetHandleByIndex, 0), call(n.nvmlShutdown)]
"""
    assert machine.nvml(code) == [4, "error 1", "error 1", "error 1"]


def test_null_pointers_and_bad_arguments_are_refused(machine: Any) -> None:
    code = """
import ctypes
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
lib, seven = n.nvmlLib, ctypes.byref(ctypes.c_uint(7))
functions = [f for f in FUNCTIONS if f.startswith("nvmlDeviceGet") and "Count" not in f and "HandleBy" not in f]
result = {
    "null handle": sorted({getattr(lib, f)(None, seven, None, None) for f in functions}),
    "null result": {f: getattr(lib, f)(h, None, None, None) for f in functions if "Clock" not in f},
    "no such handle": lib.nvmlDeviceGetPowerUsage(ctypes.c_void_p(0x1234), seven),
    "others": [lib.nvmlDeviceGetCount_v2(None), lib.nvmlDeviceGetHandleByIndex_v2(0, None),
        lib.nvmlDeviceGetHandleByUUID(None, seven), lib.nvmlSystemGetDriverVersion(None, 80),
        lib.nvmlSystemGetNVMLVersion(None, 80), lib.nvmlSystemGetCudaDriverVersion_v2(None),
        lib.nvmlDeviceGetClockInfo(h, 99, seven), lib.nvmlDeviceGetTemperature(h, 99, seven),
        lib.nvmlDeviceGetClockInfo(h, 1, None), lib.nvmlDeviceGetTotalEccErrors(h, 0, 0, None)],
    "index": call(n.nvmlDeviceGetHandleByIndex, 4), "uuid": call(n.nvmlDeviceGetHandleByUUID, "GPU-none"),
    "bus": call(n.nvmlDeviceGetHandleByPciBusId, b"nonsense"),
    "short": lib.nvmlDeviceGetName(h, ctypes.create_string_buffer(4), 4),
}
"""
    from localaws.simgpu.gpu_values import nvml_functions

    found = machine.nvml(f"FUNCTIONS = {sorted(nvml_functions())}\n{code}")

    assert found["null handle"] == [2]
    assert {function: code for function, code in found["null result"].items() if code != 2} == {}
    assert found["no such handle"] == 2
    assert found["others"] == [2] * 10
    assert (found["index"], found["uuid"], found["bus"], found["short"]) == ("error 2", "error 6", "error 6", 7)


def test_what_is_not_implemented_is_a_missing_symbol_as_with_an_old_driver(machine: Any) -> None:
    assert machine.nvml_of(0, "call(n.nvmlDeviceGetFanSpeed_v2, h, 0)") == "error 13"


def test_versions_and_error_texts(machine: Any) -> None:
    machine.gpus.upgrade_driver("570.133.20")
    code = """
n.nvmlInit()
result = [n.nvmlSystemGetDriverVersion(), n.nvmlSystemGetNVMLVersion(), n.nvmlSystemGetCudaDriverVersion_v2(),
          n.nvmlErrorString(3), n.nvmlErrorString(15), n.nvmlErrorString(999), n.nvmlErrorString(12345)]
"""
    texts = ["Not Supported", "GPU is lost", "Unknown Error", "Unknown Error"]
    assert machine.nvml(code) == ["570.133.20", "13.570.133.20", 13000, *texts]
