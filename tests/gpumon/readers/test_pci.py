from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpumon.readers.pci import expected_gpus
from localaws.simgpu.gpus import SimulatedGpus

if TYPE_CHECKING:
    from pathlib import Path


def add(bus: Path, address: str, vendor: str, kind: str) -> None:
    (bus / address).mkdir(parents=True)
    (bus / address / "vendor").write_text(f"{vendor}\n")
    (bus / address / "class").write_text(f"{kind}\n")


@pytest.mark.parametrize(
    ("vendor", "kind", "count"),
    [
        ("0x10de", "0x030000", 1),  # VGA controller
        ("0x10de", "0x030200", 1),  # 3D controller, which GPUs for data centres are
        ("0x10de", "0x068000", 0),  # NVSwitch
        ("0x10de", "0x040300", 0),  # audio of a graphics card
        ("0x10de", "0x0c0330", 0),  # its USB controller
        ("0x1d0f", "0x030000", 0),  # the VGA controller that EC2 gives every instance
    ],
)
def test_gpus_of_nvidia_are_counted_and_nothing_else(tmp_path: Path, vendor: str, kind: str, count: int) -> None:
    add(tmp_path, "0000:00:1e.0", vendor, kind)
    add(tmp_path, "0000:00:1d.0", "0x8086", "0x060100")

    assert expected_gpus(tmp_path) == count


def test_every_gpu_of_an_instance_is_counted(tmp_path: Path) -> None:
    SimulatedGpus(tmp_path).install("p4d.24xlarge", "i-0123456789abcdef0")

    assert expected_gpus(tmp_path / "pci") == 8


def test_a_bus_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert expected_gpus(tmp_path / "absent") is None


def test_a_bus_without_devices_has_no_gpu(tmp_path: Path) -> None:
    assert expected_gpus(tmp_path) == 0


@pytest.mark.parametrize("content", [None, "", "what\n"])
def test_a_device_that_cannot_be_read_hides_no_other(tmp_path: Path, content: str | None) -> None:
    add(tmp_path, "0000:00:1e.0", "0x10de", "0x030200")
    (tmp_path / "0000:00:1f.0").mkdir()
    if content is not None:
        (tmp_path / "0000:00:1f.0" / "vendor").write_text(content)

    assert expected_gpus(tmp_path) == 1
