"""Folds samples into one datum per metric, GPU and period.

A period is aligned to the wall clock (a minute starts at :00) and a sample belongs to the period of its own wall-
clock time, so a clock step merely closes one period and opens another. Values stay apart with their counts, so
minimum, maximum, mean and percentiles are those of the samples. Only where a period holds more different values than
CloudWatch takes are neighbours merged: see `fold`.
"""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

from gpumon.samples import Batch, Datum, Gpu, Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gpumon.counters import CounterDeltas
    from gpumon.metrics import Metric

MAX_VALUES_PER_DATUM = 150  # CloudWatch, MetricDatum.Values

log = logging.getLogger(__name__)


class Window:
    """Collects the samples of the current period and hands out finished ones."""

    def __init__(self, metrics: Sequence[Metric], period_seconds: int, deltas: CounterDeltas) -> None:
        """Make a window.

        Args:
            metrics: What to collect; MIG instances only if metrics of tier "extended" are among it.
            period_seconds: Length of a period.
            deltas: Knows the counters' last readings; a window of its own needs deltas of its own.
        """
        self._metrics = {
            scope: _by_reader(metric for metric in metrics if metric.scope == scope) for scope in ("gpu", "host")
        }
        self._with_mig = any(metric.tier == "extended" for metric in metrics)
        self._period_seconds = period_seconds
        self._deltas = deltas
        self._start: int | None = None
        # Nested, because a key of both would be hashed for every value of every sample.
        self._counts: dict[Gpu | None, dict[str, tuple[Metric, dict[float, int]]]] = {}

    def add(self, sample: Sample) -> Batch:
        """Take one sample in; return the datums of the period that it ended, or nothing."""
        finished = self.finish(sample.unix_seconds)
        self._start = self._period_of(sample.unix_seconds)
        moment = sample.monotonic_seconds
        for gpu_sample in sample.gpus:
            gpu = gpu_sample.gpu
            if gpu.mig is None or self._with_mig:
                self._count("gpu", gpu, gpu_sample.values, moment)
                for name, values in gpu_sample.bursts.items():
                    for value in values:
                        self._count("gpu", gpu, {name: value}, moment)
        self._count("host", None, sample.host, moment)
        return finished

    def finish(self, unix_seconds: float) -> Batch:
        """Return the datums of the current period if it is not that of `unix_seconds`; else nothing."""
        if self._start is None or self._start == self._period_of(unix_seconds):
            return ()
        return self.take()

    def take(self) -> Batch:
        """Return what the current period holds so far and forget it, so that nothing is published twice."""
        if self._start is None:
            return ()
        start = self._start
        datums = tuple(
            Datum(metric.name, metric.unit, gpu, start, *fold(counts, metric.scale))
            for gpu, series in self._counts.items()
            for metric, counts in series.values()
        )
        self._start = None
        self._counts = {}
        return datums

    def seconds_left(self, unix_seconds: float) -> float:
        """Return how long the period of `unix_seconds` still lasts."""
        return self._period_seconds - unix_seconds % self._period_seconds

    def _period_of(self, unix_seconds: float) -> int:
        return int(unix_seconds // self._period_seconds) * self._period_seconds

    def _count(self, scope: str, gpu: Gpu | None, values: Mapping[str, float | None], moment: float) -> None:
        metrics = self._metrics[scope]
        series = self._counts.setdefault(gpu, {})
        for name, value in values.items():
            if value is not None:
                for metric in metrics.get(name, ()):
                    if metric.tier == "legacy" and gpu is not None and gpu.mig is not None:
                        continue  # its dimensions cannot tell an instance from its GPU
                    self._count_one(series, gpu, metric, value, moment)

    def _count_one(
        self,
        series: dict[str, tuple[Metric, dict[float, int]]],
        gpu: Gpu | None,
        metric: Metric,
        value: float,
        moment: float,
    ) -> None:
        if not metric.is_plausible(value):
            log.warning(
                "metric %s of %s: %r is no measurement, left out", metric.name, gpu.uuid if gpu else "host", value
            )
            return
        if metric.kind != "gauge":
            added = self._deltas.added(_owner(gpu), metric, value, moment)
            if added is None:
                return
            value = added
        entry = series.get(metric.name)
        if entry is None:
            entry = series[metric.name] = (metric, {})
        counts = entry[1]
        counts[value] = counts.get(value, 0) + 1


def _by_reader(metrics: Iterable[Metric]) -> Mapping[str, tuple[Metric, ...]]:
    found: dict[str, tuple[Metric, ...]] = {}
    for metric in metrics:
        found[metric.reader] = (*found.get(metric.reader, ()), metric)
    return found


def _owner(gpu: Gpu | None) -> str:
    if gpu is None:
        return ""
    return gpu.uuid if gpu.mig is None else gpu.mig.uuid


def fold(
    counts: Mapping[float, int], scale: float = 1.0, limit: int = MAX_VALUES_PER_DATUM
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return ascending values, each times `scale`, and their counts, at most `limit` of them.

    Up to `limit` different values nothing changes. Beyond it the least and the greatest value stay as they are, and
    those between are merged in `limit` - 2 runs of neighbours, each replaced by its mean. Minimum, maximum, count and
    (to rounding) sum are kept.
    """
    ordered = sorted(counts.items())
    if len(ordered) > limit:
        inner = ordered[1:-1]
        runs = limit - 2
        edges = [len(inner) * number // runs for number in range(runs + 1)]
        merged = [_mean(inner[first:last]) for first, last in itertools.pairwise(edges)]
        ordered = [ordered[0], *merged, ordered[-1]]
    return tuple(float(value * scale) for value, _ in ordered), tuple(count for _, count in ordered)


def _mean(run: Sequence[tuple[float, int]]) -> tuple[float, int]:
    count = sum(times for _, times in run)
    mean = sum(value * (times / count) for value, times in run)
    return min(max(mean, run[0][0]), run[-1][0]), count  # rounding must not put it outside of its run
