"""NVML's return codes, what they mean to us, and what one reading of a GPU met."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import pynvml

from gpumon.errors import DriverMismatchError, DriverUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable


class Code(IntEnum):
    """nvmlReturn_t of nvml.h; written down here because old bindings lack some."""

    SUCCESS = 0
    UNINITIALIZED = 1
    INVALID_ARGUMENT = 2
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    NOT_FOUND = 6
    DRIVER_NOT_LOADED = 9
    LIBRARY_NOT_FOUND = 12
    FUNCTION_NOT_FOUND = 13
    GPU_IS_LOST = 15
    RESET_REQUIRED = 16
    LIB_RM_VERSION_MISMATCH = 18
    NO_DATA = 21
    ARGUMENT_VERSION_MISMATCH = 25
    DEPRECATED = 26
    GPU_NOT_FOUND = 28
    UNKNOWN = 999


UNSUPPORTED = frozenset(
    {
        Code.NOT_SUPPORTED,
        Code.FUNCTION_NOT_FOUND,
        Code.NO_PERMISSION,
        Code.ARGUMENT_VERSION_MISMATCH,
        Code.DEPRECATED,
    }
)
LOST = frozenset({Code.GPU_IS_LOST, Code.RESET_REQUIRED, Code.GPU_NOT_FOUND})
DRIVER_GONE = frozenset({Code.UNINITIALIZED, Code.DRIVER_NOT_LOADED, Code.LIB_RM_VERSION_MISMATCH})

# What NVML writes where it has no value: every bit set, or the least or greatest number of the type.
SENTINELS = frozenset({2**32 - 1, 2**64 - 1, 2**63 - 1, -(2**31), -(2**63)})


@dataclass
class Outcome:
    """What the calls of one reading of one GPU met.

    Attributes:
        succeeded: Calls that worked.
        failures: What could not be read, and why; not what the GPU does not support.
        unsupported: What was found not to be supported in this reading.
        lost: Whether a call said that the GPU is lost.
    """

    succeeded: int = 0
    lost: bool = False
    failures: list[tuple[str, Any]] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)

    def fail(self, name: str, error: Any) -> None:
        """Note a failure.

        Raises:
            pynvml.NVMLError: `error` itself, if it says that the GPU is lost: its handle must not be used any more.
        """
        if error.value == Code.NO_DATA:
            self.succeeded += 1
            return
        error.__traceback__ = None  # it would hold on to this object, in a circle that only the collector breaks
        self.failures.append((name, error))
        if error.value in LOST:
            self.lost = True
            raise error

    def absorb(self, part: Outcome) -> None:
        """Take over the failures of a part of the GPU; that a part works or not says nothing about the whole."""
        self.failures += part.failures
        self.lost |= part.lost

    @property
    def nothing_works(self) -> bool:
        """Whether calls failed and none succeeded."""
        return bool(self.failures) and not self.succeeded


def driver_error(error: Any) -> DriverUnavailableError:
    """Translate an error of NVML that no GPU in particular is to blame for."""
    if error.value == Code.LIB_RM_VERSION_MISMATCH:
        return DriverMismatchError(
            "Restart gpumon (or the host) so that it loads the library of the driver that is loaded now."
        )
    if error.value == Code.LIBRARY_NOT_FOUND:
        return DriverUnavailableError(
            "Install the NVIDIA driver's libnvidia-ml.so.1, or ignore this on a host without a GPU."
        )
    return DriverUnavailableError(
        f"Load the NVIDIA driver, or ignore this on a host without a GPU: NVML says {str(error).rstrip('.')}."
    )


def nvml_error(code: int) -> Any:
    """Return the exception of pynvml for a return code."""
    return pynvml.NVMLError(code)


def binding(name: str) -> Callable[..., Any]:
    """Return a function of pynvml. One that old bindings lack answers like one that the driver lacks."""

    def missing(*_: object) -> None:
        raise nvml_error(Code.FUNCTION_NOT_FOUND)

    return getattr(pynvml, name, missing)


def text(value: str | bytes) -> str:
    """Return a text of NVML as str; bindings before nvidia-ml-py 11.5 give bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
