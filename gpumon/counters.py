"""Turns counters, which only grow, into what was added since the reading before.

CloudWatch needs the delta, because it can add datapoints up but not subtract them. A counter that falls has wrapped, or
it has begun anew (a driver that was loaded again); the table of metrics says which of the two it can be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpumon.metrics import Metric

# A counter wraps at its modulus, so it was near it before and is near zero after.
_NEAR = 0.1


class CounterDeltas:
    """Remembers the last reading of every counter of every GPU."""

    def __init__(self, baselines: object = None) -> None:
        """Start from what `baselines()` gave to an earlier process of this boot; anything else counts as nothing."""
        self._last = _readings(baselines)
        self._own: dict[str, dict[str, tuple[float, float]]] = {}  # of counters that begin at 0 with this process

    def added(self, owner: str, metric: Metric, raw: float, monotonic_seconds: float) -> float | None:
        """Return what was added to a counter since its last reading.

        Args:
            owner: UUID of the GPU, or "" for the host.
            metric: Of kind "counter" (the sum is returned) or "rate" (the sum per second).
            raw: The counter now, in the reader's unit.
            monotonic_seconds: When it was read.

        Returns:
            What was added, in the reader's unit; None if nobody can know: the first reading, or a fall that means
            nothing certain.
        """
        counters = (self._last if metric.baseline is None else self._own).setdefault(owner, {})
        before = counters.get(metric.reader)
        counters[metric.reader] = (raw, monotonic_seconds)
        if before is None:
            return None if metric.baseline is None else raw - metric.baseline
        sum_added = _sum_added(metric, before[0], raw)
        if sum_added is None or metric.kind == "counter":
            return sum_added
        seconds = monotonic_seconds - before[1]
        return sum_added / seconds if seconds > 0 else None

    def baselines(self) -> Mapping[str, Mapping[str, tuple[float, float]]]:
        """Return the last readings of the driver's counters: owner -> reader name -> (value, monotonic seconds)."""
        return self._last


def _sum_added(metric: Metric, before: float, now: float) -> float | None:
    if now >= before:
        return now - before
    modulus = metric.wraps_at
    if modulus is not None and before >= (1 - _NEAR) * modulus and now <= _NEAR * modulus:
        return now + modulus - before
    return None if metric.on_fall == "omit" else now


def _readings(baselines: object) -> dict[str, dict[str, tuple[float, float]]]:
    """Return what a state file has of counters, leaving out whatever does not look like it."""
    owners = baselines if isinstance(baselines, dict) else {}
    return {
        str(owner): {str(name): (float(pair[0]), float(pair[1])) for name, pair in counters.items() if _is_pair(pair)}
        for owner, counters in owners.items()
        if isinstance(counters, dict)
    }


def _is_pair(value: object) -> bool:
    """Say whether `value` is a counter and a time; neither can be negative, without bounds, or no number at all."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(type(part) in {int, float} and 0 <= part <= 2**64 for part in value)
    )
