from __future__ import annotations

import json
from typing import Any

import pytest

from localaws.simgpu.instance_types import gpus_of, known_instance_types

MIB = 1024 * 1024

# Instance type, GPUs, NVML name, total memory, default power limit (W), compute capability.
FACTS = [
    ("g4dn.xlarge", 1, "Tesla T4", 15360, 70, [7, 5]),
    ("g4dn.12xlarge", 4, "Tesla T4", 15360, 70, [7, 5]),
    ("g5.12xlarge", 4, "NVIDIA A10G", 23028, 300, [8, 6]),
    ("g6.48xlarge", 8, "NVIDIA L4", 23034, 72, [8, 9]),
    ("g6e.xlarge", 1, "NVIDIA L40S", 46068, 350, [8, 9]),
    ("p3.16xlarge", 8, "Tesla V100-SXM2-16GB", 16384, 300, [7, 0]),
    ("p4d.24xlarge", 8, "NVIDIA A100-SXM4-40GB", 40960, 400, [8, 0]),
    ("p4de.24xlarge", 8, "NVIDIA A100-SXM4-80GB", 81920, 400, [8, 0]),
    ("p5.48xlarge", 8, "NVIDIA H100 80GB HBM3", 81559, 700, [9, 0]),
    ("p5en.48xlarge", 8, "NVIDIA H200", 143771, 700, [9, 0]),
]

INVENTORY = """
n.nvmlInit()
result = []
for i in range(n.nvmlDeviceGetCount()):
    h = n.nvmlDeviceGetHandleByIndex(i)
    uuid, serial, pci = n.nvmlDeviceGetUUID(h), n.nvmlDeviceGetSerial(h), n.nvmlDeviceGetPciInfo(h)
    again = [n.nvmlDeviceGetHandleByUUID(uuid), n.nvmlDeviceGetHandleBySerial(serial.encode()),
             n.nvmlDeviceGetHandleByPciBusId(pci.busId), n.nvmlDeviceGetHandleByPciBusId(pci.busIdLegacy)]
    result.append({
        "name": n.nvmlDeviceGetName(h), "uuid": uuid, "serial": serial, "bus_id": text(pci.busId),
        "legacy_bus_id": text(pci.busIdLegacy), "pci": [pci.domain, pci.bus, pci.device],
        "device_id": hex(pci.pciDeviceId), "indexes": [n.nvmlDeviceGetIndex(x) for x in [h, *again]],
        "total": n.nvmlDeviceGetMemoryInfo(h).total, "minor": n.nvmlDeviceGetMinorNumber(h),
        "power": n.nvmlDeviceGetPowerManagementDefaultLimit(h),
        "enforced": n.nvmlDeviceGetEnforcedPowerLimit(h),
        "power_range": n.nvmlDeviceGetPowerManagementLimitConstraints(h),
        "capability": list(n.nvmlDeviceGetCudaComputeCapability(h)),
    })
"""


@pytest.mark.parametrize("facts", FACTS, ids=[str(facts[0]) for facts in FACTS])
def test_an_instance_type_has_the_gpus_that_nvml_reports_on_the_real_one(
    bare_machine: Any, facts: tuple[str, int, str, int, int, list[int]]
) -> None:
    instance_type, count, name, total_mib, watts, capability = facts
    assert bare_machine.gpus.install(instance_type, "i-1") == count

    found = bare_machine.nvml(INVENTORY)

    assert [gpu["name"] for gpu in found] == [name] * count
    assert {gpu["total"] for gpu in found} == {total_mib * MIB}
    assert {gpu["power"] for gpu in found} == {gpu["enforced"] for gpu in found} == {watts * 1000}
    assert all(gpu["capability"] == capability for gpu in found)


def test_every_handle_leads_to_its_own_gpu(machine: Any) -> None:
    found = machine.nvml(INVENTORY)

    assert [gpu["indexes"] for gpu in found] == [[index] * 5 for index in range(4)]
    assert [gpu["minor"] for gpu in found] == [0, 1, 2, 3]
    assert len({gpu["uuid"] for gpu in found}) == len({gpu["serial"] for gpu in found}) == 4
    assert [gpu["bus_id"] for gpu in found] == [f"00000000:00:1{digit}.0" for digit in "BCDE"]
    assert [gpu["legacy_bus_id"] for gpu in found] == [f"0000:00:1{digit}.0" for digit in "BCDE"]
    assert found[0]["pci"] == [0, 0, 0x1B]
    assert found[0]["device_id"] == "0x223710de"


def test_the_same_instance_has_the_same_gpus_again_and_another_instance_others(machine: Any) -> None:
    first = [gpu["uuid"] for gpu in machine.nvml(INVENTORY)]
    machine.gpus.install("g5.12xlarge", "i-0123456789abcdef0")
    assert [gpu["uuid"] for gpu in machine.nvml(INVENTORY)] == first

    machine.gpus.install("g5.12xlarge", "i-2")

    assert not set(first) & {gpu["uuid"] for gpu in machine.nvml(INVENTORY)}


def test_another_instance_type_leaves_no_gpu_of_the_earlier_one(machine: Any) -> None:
    machine.gpus.install("g4dn.xlarge", "i-1")

    assert [gpu["name"] for gpu in machine.nvml(INVENTORY)] == ["Tesla T4"]
    assert sorted(path.name for path in machine.state.glob("gpu*")) == ["gpu0"]


def test_cuda_and_nvml_speak_of_the_same_gpus(machine: Any) -> None:
    code = """
import ctypes, uuid
c = ctypes.CDLL("libcuda.so.1")
count, device, raw, name, bus, major = ctypes.c_int(), ctypes.c_int(), (ctypes.c_ubyte * 16)(), *(
    ctypes.create_string_buffer(64) for _ in range(2)), ctypes.c_int()
codes = [c.cuInit(0), c.cuDeviceGetCount(ctypes.byref(count)), c.cuDeviceGet(ctypes.byref(device), 2),
    c.cuDeviceGetUuid_v2(raw, device), c.cuDeviceGetName(name, 64, device), c.cuDeviceGetPCIBusId(bus, 64, device),
    c.cuDeviceGetAttribute(ctypes.byref(major), 75, device)]
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(2)
result = [codes, count.value, [f"GPU-{uuid.UUID(bytes=bytes(raw))}", name.value.decode(), bus.value.decode()],
    [n.nvmlDeviceGetUUID(h), n.nvmlDeviceGetName(h), text(n.nvmlDeviceGetPciInfo(h).busIdLegacy)], major.value]
"""
    codes, count, in_cuda, in_nvml, major = machine.nvml(code)

    assert codes == [0] * 7
    assert count == 4
    assert in_cuda == in_nvml
    assert major == 8


def test_an_instance_type_without_gpus_leaves_nothing_behind(bare_machine: Any) -> None:
    assert bare_machine.gpus.install("m5.large", "i-1") == 0
    assert not bare_machine.state.exists()


@pytest.mark.parametrize("instance_type", known_instance_types())
def test_the_table_is_consistent(instance_type: str) -> None:
    gpus = gpus_of(instance_type)

    assert gpus is not None
    assert len(set(gpus.pci_bus_ids)) == len(gpus.pci_bus_ids) in {1, 4, 8}
    assert 0 < gpus.numbers["memory_reserved_bytes"] < gpus.numbers["memory_total_bytes"] // 20
    assert gpus.numbers["power_limit_min_milliwatts"] <= gpus.numbers["power_limit_default_milliwatts"]
    assert gpus.numbers["power_limit_default_milliwatts"] <= gpus.numbers["power_limit_max_milliwatts"]
    assert gpus.numbers["clock_sm_mhz"] <= gpus.numbers["clock_sm_max_mhz"]
    assert gpus.numbers["pci_device_id"] & 0xFFFF == 0x10DE
    assert json.dumps(gpus.name).isascii()
