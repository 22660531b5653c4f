"""MIG devices in a GPU's state: `mig_instance.<slot>` rows that refer to the GPU's `mig_profile.<number>` rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from localaws.simgpu.errors import UnknownValueError
from localaws.simgpu.fresh_state import uuid_of

_INSTANCE = "mig_instance."
_PROFILE = "mig_profile."
_SLICES = 7
# GPU instance ids start here, by the slices of a profile, as nvidia-smi numbers them on an empty GPU.
_FIRST_ID = {7: 0, 4: 1, 3: 1, 2: 3, 1: 7}


def without_devices(state: Mapping[str, str]) -> dict[str, str]:
    """Return a GPU's state with MIG mode off."""
    kept = {key: value for key, value in state.items() if not key.startswith(_INSTANCE)}
    return kept | {"mig_mode": "0", "mig_mode_pending": "0"}


def with_devices(state: Mapping[str, str], devices: Sequence[tuple[str, int] | None]) -> dict[str, str]:
    """Return a GPU's state in MIG mode with one device per slot.

    Args:
        state: the GPU's state.
        devices: per slot a profile's name and the bytes used, or None for an empty slot.

    Raises:
        UnknownValueError: the GPU has no such profile, or the devices do not fit.
    """
    profiles = {
        (columns := value.split(","))[-1]: (int(key.removeprefix(_PROFILE)), int(columns[1]), int(columns[-2]))
        for key, value in state.items()
        if key.startswith(_PROFILE)
    }
    if not profiles:
        raise UnknownValueError("Choose a GPU with MIG: A100, H100 or H200.")
    rows: dict[str, str] = {}
    taken: set[int] = set()
    start = 0
    for slot, device in enumerate(devices):
        if device is None:
            continue
        name, used_bytes = device
        if name not in profiles:
            raise UnknownValueError(f"Unknown MIG profile {name!r}: choose one of {', '.join(profiles)}.")
        number, slices, memory_bytes = profiles[name]
        if not 0 <= used_bytes <= memory_bytes:
            raise UnknownValueError(f"Use 0 to {memory_bytes} bytes of a {name} device, not {used_bytes!r}.")
        instance_id = next(free for free in range(_FIRST_ID[slices], 64) if free not in taken)
        taken.add(instance_id)
        uuid = uuid_of(hashlib.sha256(f"{state['uuid']}/{slot}/{name}".encode()).hexdigest())
        rows[f"{_INSTANCE}{slot}"] = f"{instance_id},0,{number},{start},{used_bytes},MIG-{uuid}"
        start += slices
    if start > _SLICES or len(devices) > _SLICES:
        raise UnknownValueError(f"Leave the MIG devices within {_SLICES} slices and slots, not {start} slices.")
    return {**without_devices(state), "mig_mode": "1", "mig_mode_pending": "1", **rows}


def used_bytes(state: Mapping[str, str]) -> int:
    """Return the memory that a GPU's MIG devices use."""
    return sum(int(value.split(",")[4]) for key, value in state.items() if key.startswith(_INSTANCE))
