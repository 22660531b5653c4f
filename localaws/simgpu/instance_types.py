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
        numbers: the state of each GPU after boot, by the keys of its state file.
        pci_bus_ids: one PCI address (domain:bus:device.function) per GPU, in NVML's order.
    """

    name: str
    numbers: Mapping[str, int]
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
    name = model.pop("name")
    numbers = dict(table["common"])
    for key, value in model.items():
        if key.endswith("_mib"):
            numbers[key.removesuffix("_mib") + "_bytes"] = value * _MIB
        else:
            numbers[key] = value
    numbers.setdefault("power_limit_milliwatts", numbers["power_limit_default_milliwatts"])
    numbers.setdefault("power_limit_enforced_milliwatts", numbers["power_limit_milliwatts"])
    return InstanceGpus(name=name, numbers=numbers, pci_bus_ids=tuple(table["pci"][entry["pci"]]))
