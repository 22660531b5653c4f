from __future__ import annotations

from typing import Any

import pytest

from localaws.simgpu.errors import UnknownValueError

MIB = 1024 * 1024
GIB = 1024 * MIB
DEVICES = """
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
result = []
for i in range(n.nvmlDeviceGetMaxMigDeviceCount(h)):
    d = call(n.nvmlDeviceGetMigDeviceHandleByIndex, h, i)
    if isinstance(d, str):
        result.append(d)
        continue
    a = n.nvmlDeviceGetAttributes_v2(d)
    v1, v2 = n.nvmlDeviceGetMemoryInfo(d), n.nvmlDeviceGetMemoryInfo(d, version=n.nvmlMemory_v2)
    gi = n.nvmlDeviceGetGpuInstanceId(d)
    info = n.nvmlGpuInstanceGetInfo(n.nvmlDeviceGetGpuInstanceById(h, gi))
    profiles = [call(n.nvmlDeviceGetGpuInstanceProfileInfo, h, p) for p in range(n.NVML_GPU_INSTANCE_PROFILE_COUNT)]
    result.append({
        "name": n.nvmlDeviceGetName(d), "uuid": n.nvmlDeviceGetUUID(d),
        "ids": [gi, n.nvmlDeviceGetComputeInstanceId(d)],
        "is mig": [n.nvmlDeviceIsMigDeviceHandle(x).value for x in (d, h)],
        "parent": n.nvmlDeviceGetIndex(n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(d)),
        "index": n.nvmlDeviceGetIndex(d),
        "attributes": [a.multiprocessorCount, a.gpuInstanceSliceCount, a.computeInstanceSliceCount, a.memorySizeMB],
        "memory": [v1.total, v1.used, v1.free, v2.total, v2.used, v2.free],
        "profile": [text(p.name) for p in profiles if not isinstance(p, str) and p.id == info.profileId],
        "by uuid": n.nvmlDeviceGetGpuInstanceId(n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(d).encode())),
    })
"""


@pytest.fixture
def a100s(bare_machine: Any) -> Any:
    assert bare_machine.gpus.install("p4d.24xlarge", "i-1") == 8
    return bare_machine


def test_each_device_says_what_it_is_and_what_memory_it_uses(a100s: Any) -> None:
    a100s.gpus.set_mig(0, [("1g.5gb", GIB), None, ("3g.20gb", 7 * GIB)])

    small, empty, large, *rest = a100s.nvml(DEVICES)

    total = 4864 * MIB
    assert [empty, *rest] == ["error 6"] * 5
    assert small | {"uuid": ""} == {
        "name": "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "uuid": "",
        "ids": [7, 0],
        "is mig": [1, 0],
        "parent": 0,
        "index": 0,
        "attributes": [14, 1, 1, 4864],
        "memory": [total, GIB, total - GIB, total, GIB, total - GIB],
        "profile": ["MIG 1g.5gb"],
        "by uuid": 7,
    }
    assert small["uuid"].startswith("MIG-")
    assert small["uuid"] != large["uuid"]
    assert (large["ids"], large["index"], large["profile"], large["attributes"][:3]) == (
        [1, 0],
        2,
        ["MIG 3g.20gb"],
        [42, 3, 3],
    )
    assert large["memory"][1] == 7 * GIB


def test_the_gpu_itself_reports_memory_of_all_devices_and_no_activity(a100s: Any) -> None:
    a100s.gpus.set(0, memory_used_bytes=MIB)
    a100s.gpus.set_mig(0, [("1g.5gb", GIB), ("3g.20gb", 7 * GIB)])
    calls = ("UtilizationRates", "EncoderUtilization", "DecoderUtilization", "RemappedRows")
    asked = ", ".join(f"call(n.nvmlDeviceGet{name}, h)" for name in calls)

    found = a100s.nvml_of(
        0,
        f"""[{asked}, call(n.nvmlDeviceGetProcessUtilization, h, 0),
        n.nvmlDeviceGetFieldValues(h, [142])[0].nvmlReturn, n.nvmlDeviceGetMigMode(h), n.nvmlDeviceGetTemperature(h, 0),
        n.nvmlDeviceGetMemoryInfo(h, version=n.nvmlMemory_v2).used]""",
    )

    assert found == [*["error 3"] * 5, 3, [1, 1], 29, MIB + 8 * GIB]


def test_most_calls_refuse_a_mig_device(a100s: Any) -> None:
    a100s.gpus.set_mig(0, [("7g.40gb", 0)])
    device = "n.nvmlDeviceGetMigDeviceHandleByIndex(h, 0)"
    calls = ("PowerUsage", "PciInfo", "MigMode", "SupportedEventTypes")
    asked = ", ".join(f"call(n.nvmlDeviceGet{name}, {device})" for name in calls)
    assert a100s.nvml_of(0, f"[{asked}]") == ["error 2"] * 4
    assert a100s.nvml_of(0, f"n.nvmlDeviceGetComputeRunningProcesses({device})") == []


def test_a_gpu_without_instances_and_one_without_mig_mode(a100s: Any) -> None:
    asked = """[n.nvmlDeviceGetMaxMigDeviceCount(h), call(n.nvmlDeviceGetMigDeviceHandleByIndex, h, 0),
        call(n.nvmlDeviceGetRemappedRows, h)]"""
    assert a100s.nvml_of(0, asked) == [0, "error 6", [0, 0, 0, 0]]

    a100s.gpus.set_mig(0, [])
    assert a100s.nvml_of(0, asked) == [7, "error 6", [0, 0, 0, 0]]

    a100s.gpus.set_mig(0, [("1g.5gb", 0)])
    a100s.gpus.set_mig(0, None)
    assert a100s.nvml_of(0, asked) == [0, "error 6", [0, 0, 0, 0]]
    assert a100s.nvml_of(0, "n.nvmlDeviceGetUtilizationRates(h).gpu") == 0


def test_a_model_without_mig(machine: Any) -> None:
    asked = "[call(n.nvmlDeviceGetMaxMigDeviceCount, h), call(n.nvmlDeviceGetMigDeviceHandleByIndex, h, 0)]"
    assert machine.nvml_of(0, asked) == [0, "error 3"]
    with pytest.raises(UnknownValueError, match="A100, H100 or H200"):
        machine.gpus.set_mig(0, [("1g.5gb", 0)])


def test_a_handle_of_a_destroyed_device_is_invalid(a100s: Any) -> None:
    a100s.gpus.set_mig(0, [("1g.5gb", 0)])
    code = f"""
import sys
sys.path.insert(0, {__file__.rsplit("/tests/", 1)[0]!r})
from pathlib import Path
from localaws.simgpu.gpus import SimulatedGpus
n.nvmlInit()
d = n.nvmlDeviceGetMigDeviceHandleByIndex(n.nvmlDeviceGetHandleByIndex(0), 0)
before = n.nvmlDeviceGetGpuInstanceId(d)
SimulatedGpus(Path({str(a100s.state)!r})).set_mig(0, [])
result = [before, call(n.nvmlDeviceGetUUID, d), call(n.nvmlDeviceGetMemoryInfo, d)]
"""
    assert a100s.nvml(code) == [7, "error 2", "error 2"]


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ([("2g.5gb", 0)], "1g.5gb, 1g.10gb, 2g.10gb, 3g.20gb, 4g.20gb, 7g.40gb"),
        ([("1g.5gb", 5 * GIB)], "bytes of a 1g.5gb"),
        ([("4g.20gb", 0), ("4g.20gb", 0)], "7 slices"),
        ([None] * 7 + [("1g.5gb", 0)], "7 slices"),
    ],
)
def test_devices_that_cannot_be_are_refused_and_nothing_changes(a100s: Any, devices: list[Any], message: str) -> None:
    before = a100s.gpus.read(0)
    with pytest.raises(UnknownValueError, match=message):
        a100s.gpus.set_mig(0, devices)
    assert a100s.gpus.read(0) == before


def test_seven_small_devices_fit(a100s: Any) -> None:
    a100s.gpus.set_mig(3, [("1g.5gb", slot * MIB) for slot in range(7)])
    found = a100s.nvml(DEVICES.replace("ByIndex(0)", "ByIndex(3)"))
    assert [device["ids"][0] for device in found] == [7, 8, 9, 10, 11, 12, 13]
    assert [device["memory"][1] for device in found] == [slot * MIB for slot in range(7)]
