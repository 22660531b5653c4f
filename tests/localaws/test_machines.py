from __future__ import annotations

from pathlib import Path

import pytest

from localaws.cgroups import ControlGroups
from localaws.images import Image
from localaws.machines import InstanceSpec, Machine
from localaws.simgpu.gpus import SimulatedGpus


def nspawn_options(folder: Path, instance_type: str) -> list[str]:
    (folder / "gpus").mkdir()
    SimulatedGpus(folder / "gpus").install(instance_type, "i-1")
    spec = InstanceSpec("i-1", instance_type, "198.51.100.9", "02:00:00:00:00:01")
    machine = Machine(spec, Image("ami-1", (folder,)), folder, ControlGroups("unused", folder))
    return machine._nspawn(folder / "netns")  # starting it takes root, an image and a bridge


@pytest.mark.skipif(not Path("/sys/bus/pci/devices").is_dir(), reason="the host has no PCI bus")
def test_a_machine_with_gpus_has_them_as_its_pci_devices(tmp_path: Path) -> None:
    bind = f"--bind-ro={tmp_path}/gpus/pci:/sys/bus/pci/devices"
    assert bind in nspawn_options(tmp_path, "g5.12xlarge")


def test_a_machine_without_gpus_has_no_pci_devices_of_ours(tmp_path: Path) -> None:
    assert [option for option in nspawn_options(tmp_path, "m6i.large") if "/sys/" in option] == []
