"""Where values come from: one module per source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gpumon.samples import GpuSample


class GpuReader(Protocol):
    """Reads the GPUs of this host."""

    def read(self) -> tuple[GpuSample, ...]:
        """Read every known GPU once; a value that cannot be read is None and costs nothing else.

        Raises:
            DriverUnavailableError: No driver answers; the next call tries anew.
            DriverMismatchError: Only a new process can talk to the driver that is loaded now.
        """

    def close(self) -> None:
        """Let go of the driver; `read` opens it again."""
