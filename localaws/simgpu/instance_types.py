"""Which GPUs an EC2 instance type has, from `instance_types.toml`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib

TABLE = Path(__file__).with_name("instance_types.toml")
_MIB = 1024 * 1024


@dataclass(frozen=True)
class InstanceGpus:
    """The GPUs of an instance type, all of one model.

    Attributes:
        name: the model as NVML reports it.
        vbios_version: as NVML reports it.
        numbers: the state of each GPU after boot, by the keys of its state file.
        mig_profiles: by name, the columns of the table; empty if the model has no MIG.
        pci_bus_ids: one PCI address (domain:bus:device.function) per GPU, in NVML's order.
    """

    name: str
    vbios_version: str
    numbers: Mapping[str, int]
    mig_profiles: Mapping[str, tuple[int, ...]]
    pci_bus_ids: tuple[str, ...]


@functools.cache
def _table(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def known_instance_types() -> tuple[str, ...]:
    """Return the instance types that have GPUs."""
    return tuple(_table(TABLE)["instance_types"])


def gpus_of(instance_type: str) -> InstanceGpus | None:
    """Return the GPUs of an EC2 instance type; None if it has none that this driver knows."""
    table = _table(TABLE)
    entry = table["instance_types"].get(instance_type)
    if entry is None:
        return None
    model = dict(table["models"][entry["model"]])
    name, vbios_version = model.pop("name"), model.pop("vbios_version")
    pci_bus_ids = tuple(table["pci"][entry["pci"]])
    numbers: dict[str, int] = {}
    for values in (table["common"], *(table["features"][feature] for feature in model.pop("features")), model):
        numbers.update(_in_bytes(values))
    numbers.setdefault("power_limit_milliwatts", numbers["power_limit_default_milliwatts"])
    numbers.setdefault("power_limit_enforced_milliwatts", numbers["power_limit_milliwatts"])
    if len(pci_bus_ids) == 1 and "nvlink_count" in numbers:
        numbers["nvlink_down_mask"] = 2 ** numbers["nvlink_count"] - 1  # there is nothing to be linked to
    return InstanceGpus(
        name=name,
        vbios_version=vbios_version,
        numbers=numbers,
        mig_profiles={name: tuple(columns) for name, columns in table["mig"].get(entry["model"], {}).items()},
        pci_bus_ids=pci_bus_ids,
    )


def _in_bytes(values: Mapping[str, int]) -> dict[str, int]:
    """Turn `_mib` keys into the `_bytes` keys of a state file."""
    return {
        key.removesuffix("_mib") + "_bytes" if key.endswith("_mib") else key: value
        * (_MIB if key.endswith("_mib") else 1)
        for key, value in values.items()
    }
