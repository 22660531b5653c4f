"""A program: gpumon's reading of the GPUs on its own schedule, with nothing else around it, until it is terminated."""

from __future__ import annotations

import threading

from gpumon.clock import SystemClock
from gpumon.readers.nvml import NvmlReader
from gpumon.sampler import Sampler

_SAMPLE_SECONDS, _SLOW_SECONDS = 1.0, 60.0  # gpumon's defaults


class _DrainingClock(SystemClock):
    """Throws away what was read, instead of the service."""

    def __init__(self) -> None:
        self.sampler: Sampler | None = None

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if self.sampler is not None:
            self.sampler.outcomes()
        return super().wait(event, seconds)


def main() -> None:
    """Read on and on."""
    clock = _DrainingClock()
    clock.sampler = Sampler(NvmlReader(), clock, sample_seconds=_SAMPLE_SECONDS, slow_seconds=_SLOW_SECONDS)
    clock.sampler.run()


if __name__ == "__main__":
    main()
