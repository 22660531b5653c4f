"""Where values come from: one module or package per source."""

from __future__ import annotations

from enum import Flag, auto
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gpumon.samples import Reading


class Due(Flag):
    """Which values a reading is to have (column ``every`` of ``metrics.toml``)."""

    SAMPLE = auto()  # cheap calls, every second
    BUFFER = auto()  # what the driver has sampled itself and keeps for some 15 seconds
    SLOW = auto()  # all the rest, every minute


EVERYTHING = Due.SAMPLE | Due.BUFFER | Due.SLOW


class GpuReader(Protocol):
    """Reads the GPUs of this host. All calls come from one thread."""

    def read(self, due: Due) -> Reading:
        """Read what is due of every known GPU; a value that cannot be read is None and costs nothing else.

        The first reading after opening the driver has everything, whatever is due.

        Raises:
            DriverUnavailableError: No driver answers; the next call tries anew.
            DriverMismatchError: Only a new process can talk to the driver that is loaded now.
        """

    def close(self) -> None:
        """Let go of the driver; `read` opens it again."""
