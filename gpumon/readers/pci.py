"""What the PCI bus says: how many GPUs this host has, whether or not the driver sees them."""

from __future__ import annotations

from pathlib import Path

_NVIDIA = 0x10DE
# VGA and 3D controllers (base class and subclass). NVSwitches are bridges (0x0680), and their audio is 0x0403.
_GPU_CLASSES = frozenset({0x0300, 0x0302})


def expected_gpus(directory: Path = Path("/sys/bus/pci/devices")) -> int | None:
    """Return how many NVIDIA GPUs are on the PCI bus, or None if the bus cannot be read.

    A GPU that no longer answers is still counted: the kernel keeps what it read when it found the device.
    """
    try:
        devices = list(directory.iterdir())
    except OSError:
        return None
    return sum(1 for device in devices if _is_gpu(device))


def _is_gpu(device: Path) -> bool:
    try:
        vendor, kind = (int((device / name).read_text(encoding="ascii"), 16) for name in ("vendor", "class"))
    except (OSError, ValueError):  # it was removed just now
        return False
    return vendor == _NVIDIA and kind >> 8 in _GPU_CLASSES
