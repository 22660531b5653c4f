"""What can be set on a simulated GPU, what NVML can be made to answer, and the limits of both."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

from localaws.simgpu.errors import UnknownValueError

SOURCES = Path(__file__).with_name("src")
_UINT32_MAX = 2**32 - 1
_UINT64_MAX = 2**64 - 1
_OF_64_BITS = ("_bytes", "_kib", "_errors", "_nanoseconds", "_millijoules", "_mask", "_types", "_reasons")
_PATTERN_LENGTH_MAX = 64  # SIMGPU_MAX_PATTERN
# Kept by the driver itself: lose() and restore() set the first, every change of power the others.
_NOT_SETTABLE = frozenset({"lost", "energy_since_nanoseconds"})


class Loss(IntEnum):
    """How a GPU can be gone (enum simgpu_loss in src/state.h)."""

    LOST = 1
    UNKNOWN = 2
    VANISHED = 3


class NvmlReturn(IntEnum):
    """NVML's return codes (nvmlReturn_t in nvml.h) that a call can be made to fail with."""

    UNINITIALIZED = 1
    INVALID_ARGUMENT = 2
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    NOT_FOUND = 6
    INSUFFICIENT_SIZE = 7
    INSUFFICIENT_POWER = 8
    DRIVER_NOT_LOADED = 9
    TIMEOUT = 10
    IRQ_ISSUE = 11
    LIBRARY_NOT_FOUND = 12
    FUNCTION_NOT_FOUND = 13
    CORRUPTED_INFOROM = 14
    GPU_IS_LOST = 15
    RESET_REQUIRED = 16
    OPERATING_SYSTEM = 17
    LIB_RM_VERSION_MISMATCH = 18
    IN_USE = 19
    MEMORY = 20
    NO_DATA = 21
    INSUFFICIENT_RESOURCES = 23
    ARGUMENT_VERSION_MISMATCH = 25
    DEPRECATED = 26
    NOT_READY = 27
    GPU_NOT_FOUND = 28
    INVALID_STATE = 29
    UNKNOWN = 999


@functools.cache
def state_keys() -> frozenset[str]:
    """Return the keys that the C libraries know, from `src/gpu_numbers.h`."""
    header = (SOURCES / "gpu_numbers.h").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^    X\((\w+)\)", header, re.MULTILINE))


def settable_keys() -> frozenset[str]:
    """Return the keys that SimulatedGpus.set takes."""
    return state_keys() - _NOT_SETTABLE


@functools.cache
def nvml_functions() -> frozenset[str]:
    """Return the NVML functions that the simulated driver has and that can be made to fail."""
    defined = re.compile(r"^(?:nvmlReturn_t |[A-Z_]+\()(nvml[A-Z]\w*)", re.MULTILINE)
    sources = [path.read_text(encoding="utf-8") for path in sorted(SOURCES.glob("nvml_*.c"))]
    return frozenset(name for source in sources for name in defined.findall(source)) - {"nvmlShutdown"}


def check_value(key: str, value: int) -> None:
    """Check one value.

    Raises:
        UnknownValueError: no GPU has such a value, or NVML could not report it.
    """
    if key not in settable_keys():
        raise UnknownValueError(f"Unknown value {key!r}: choose one of {', '.join(sorted(settable_keys()))}.")
    if key.endswith("_percent"):
        largest = 100
    elif key.endswith(_OF_64_BITS) or key.startswith(("ecc_corrected", "ecc_uncorrected")):
        largest = _UINT64_MAX
    else:
        largest = _UINT32_MAX
    if not 0 <= value <= largest:
        raise UnknownValueError(f"Set {key} to a whole number from 0 to {largest}, not {value!r}.")


def check_pattern(percentages: Sequence[int]) -> None:
    """Check a pattern of utilization samples.

    Raises:
        UnknownValueError: it is empty, too long, or holds something else than percentages.
    """
    if not 1 <= len(percentages) <= _PATTERN_LENGTH_MAX or not all(0 <= percent <= 100 for percent in percentages):
        message = f"Give 1 to {_PATTERN_LENGTH_MAX} whole numbers from 0 to 100, not {list(percentages)!r}."
        raise UnknownValueError(message)


def check_function(nvml_function: str) -> None:
    """Check the name of a call.

    Raises:
        UnknownValueError: the simulated driver has no such function.
    """
    if nvml_function not in nvml_functions():
        known = ", ".join(sorted(nvml_functions()))
        raise UnknownValueError(f"Unknown NVML function {nvml_function!r}: choose one of {known}.")


def check_code(code: int) -> NvmlReturn:
    """Return an error code as a return code of NVML.

    Raises:
        UnknownValueError: NVML has no such error.
    """
    try:
        return NvmlReturn(code)
    except ValueError as error:
        raise UnknownValueError(f"Use a return code of nvml.h that is an error, not {code!r}.") from error


def check_field(field_id: int) -> None:
    """Check the id of a field value.

    Raises:
        UnknownValueError: nvml.h can have no such field.
    """
    if not 0 < field_id <= _UINT32_MAX:
        raise UnknownValueError(f"Use a field id of nvml.h (NVML_FI_DEV_*), not {field_id!r}.")
