"""The state of a machine's GPUs right after boot."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from localaws.simgpu.errors import StateError
from localaws.simgpu.instance_types import InstanceGpus

_MIB = 1024 * 1024
_CLASS_3D_CONTROLLER = "0x030200"
# Counters that start at 0 when the driver is loaded; energy does as well.
_SINCE_DRIVER_LOAD = ("ecc_corrected_volatile", "ecc_uncorrected_volatile")


def versions(driver_version: str, cuda_version: int) -> dict[str, object]:
    """Return what the driver's file says of a driver version."""
    return {"driver_version": driver_version, "nvml_version": f"{cuda_version // 1000}.{driver_version}"}


def energy_from(now_ns: int, millijoules: int = 0) -> dict[str, str]:
    """Return an energy counter that starts now."""
    return {"energy_millijoules": str(millijoules), "energy_since_nanoseconds": str(now_ns)}


def counters_at_driver_load(state: Iterable[str], now_ns: int) -> dict[str, str]:
    """Return the counters among a GPU's keys that a driver starts anew, at their start."""
    keys = set(state)
    fresh = dict.fromkeys(_SINCE_DRIVER_LOAD, "0") | energy_from(now_ns)
    fresh |= dict.fromkeys((key for key in keys if key.startswith(("violation_", "slowdown_"))), "0")
    return {key: value for key, value in fresh.items() if key in keys}


def gpu(gpus: InstanceGpus, index: int, instance_id: str, now_ns: int) -> dict[str, object]:
    """Return the state of one GPU; UUID and serial number follow from the instance id."""
    digest = hashlib.sha256(f"{instance_id}/{index}".encode()).hexdigest()
    return {
        "name": gpus.name,
        "uuid": f"GPU-{uuid_of(digest)}",
        "serial": f"132{int(digest[32:48], 16) % 10**9:09d}{index}",  # 13 digits, as on the cards
        "vbios_version": gpus.vbios_version,
        "pci_bus_id": gpus.pci_bus_ids[index],
        "minor_number": index,
        "lost": 0,
        **gpus.numbers,
        **energy_from(now_ns),
        **dict(_mig_profile(name, *columns) for name, columns in gpus.mig_profiles.items()),
    }


def _mig_profile(name: str, number: int, *columns: int) -> tuple[str, str]:
    *numbers, memory_mib = columns
    return f"mig_profile.{number}", ",".join(map(str, (*numbers, memory_mib * _MIB, name)))


def uuid_of(digest: str) -> str:
    """Return the first 32 hexadecimal digits of a digest in the form of a UUID."""
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))


def write_pci_devices(directory: Path, gpus: InstanceGpus) -> None:
    """Write what /sys/bus/pci/devices says of the GPUs; an earlier directory is replaced.

    Raises:
        StateError: the directory cannot be written.
    """
    device_id = f"0x{gpus.numbers['pci_device_id'] >> 16:04x}"
    values = {"vendor": "0x10de", "device": device_id, "class": _CLASS_3D_CONTROLLER}
    try:
        if directory.exists():
            shutil.rmtree(directory)
        for pci_bus_id in gpus.pci_bus_ids:
            device = directory / pci_bus_id
            device.mkdir(parents=True)
            for name, value in values.items():
                (device / name).write_text(f"{value}\n", encoding="ascii")
        for path in (directory, *directory.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)  # every user of the machine reads it, whatever our umask
    except OSError as error:
        raise StateError(f"Make {directory} writable: {error.strerror}.") from error
