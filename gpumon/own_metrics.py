"""What gpumon says about itself: whether its data is fresh, what it costs, what it could not do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpumon.publisher import DeliveryStats
    from gpumon.sampler import Outcome

MEMORY_FILE = Path("/proc/self/statm")


class OwnMetrics:
    """Sums up what happened since this process started.

    Attributes:
        collect_seconds: How long the last reading took, or None before the first.
    """

    def __init__(self, memory_file: Path = MEMORY_FILE) -> None:
        self._memory_file = memory_file
        self._error_count = 0
        self._last_reading: float | None = None
        self.collect_seconds: float | None = None

    def saw(self, outcome: Outcome) -> None:
        """Take note of an attempt to read the driver."""
        if outcome.error is not None:
            self._error_count += 1
        elif outcome.reading is not None:
            self._error_count += outcome.reading.error_count
            self.collect_seconds = outcome.duration_seconds
            if any(sample.values.get("gpu_up") for sample in outcome.reading.gpus):
                self._last_reading = outcome.monotonic_seconds

    def values(self, monotonic_seconds: float, stats: Iterable[DeliveryStats]) -> dict[str, float | None]:
        """Return the values of scope "host" (see ``metrics.toml``) that are about gpumon itself."""
        delivery = tuple(stats)
        return {
            "heartbeat": 1.0,
            "collect_error_count": self._error_count,
            "publish_error_count": sum(stat.failed_calls for stat in delivery),
            "dropped_datapoint_count": sum(stat.dropped_datums for stat in delivery),
            "data_age_seconds": None if self._last_reading is None else monotonic_seconds - self._last_reading,
            "process_resident_bytes": self._resident_bytes(),
        }

    def _resident_bytes(self) -> float | None:
        try:
            return int(self._memory_file.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")  # proc(5): resident
        except (OSError, ValueError, IndexError):
            return None
