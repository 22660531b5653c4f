"""Turns the newest snapshot into families of Prometheus series; a scrape never asks the driver anything."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, UnknownMetricFamily

from gpumon.sinks.prometheus_gpus import extra_families
from gpumon.sinks.prometheus_labels import MODEL_LABEL, GpuLabels, Labeller
from gpumon.sinks.prometheus_text import NO_LABELS, Labels, filled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Protocol

    import prometheus_client

    from gpumon.clock import Clock
    from gpumon.latest import GpuState, Snapshot
    from gpumon.metrics import Metric
    from gpumon.publisher import DeliveryStats
    from gpumon.samples import Gpu
    from gpumon.xids import XidTable

    class Jobs(Protocol):
        """Knows what runs where (`gpumon.jobs.JobFiles`)."""

        def jobs_of(self, gpus: Iterable[Gpu]) -> Mapping[Gpu, tuple[str, ...]]:
            """Return the ids of the jobs on each GPU or MIG instance."""


JobLabels = Literal["info", "label"]

_DCGM_PREFIX = "DCGM_"
_LAST_XID = "DCGM_FI_DEV_XID_ERRORS"
_KINDS = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}
_SINK_SERIES: tuple[tuple[str, str, Literal["gauge", "counter"], str], ...] = (
    (
        "gpumon_sink_last_success_timestamp_seconds",
        "last_success_unix_seconds",
        "gauge",
        "When the sink last took something.",
    ),
    ("gpumon_sink_published_datums_total", "published_datums", "counter", "Datums that the sink took."),
    ("gpumon_sink_dropped_datums_total", "dropped_datums", "counter", "Datums that the sink will never get."),
    ("gpumon_sink_failed_calls_total", "failed_calls", "counter", "Calls to the sink that delivered nothing."),
    ("gpumon_sink_waiting_datums", "waiting_datums", "gauge", "Datums that are kept until the sink takes them."),
)


class _Row:
    """What one metric of the table becomes."""

    def __init__(self, metric: Metric, name: str) -> None:
        self.metric = metric
        self.name = name
        self.is_dcgm = name.startswith(_DCGM_PREFIX)
        self._scale = metric.prometheus_scale
        # A division by 100 is exact to the last digit where a multiplication by 0.01 is not.
        inverse = round(1 / self._scale)
        self._divisor = inverse if inverse > 1 and 1 / inverse == self._scale else None

    def family(self) -> prometheus_client.Metric:
        if self.metric.kind == "gauge":
            return GaugeMetricFamily(self.name, self.metric.description)
        if self.is_dcgm:
            # Prometheus wants a counter's name to end in _total, which DCGM's names do not. rate() needs no type.
            return UnknownMetricFamily(self.name, f"{self.metric.description} A counter.")
        return CounterMetricFamily(self.name, self.metric.description)

    def value(self, values: Mapping[str, float]) -> float | None:
        """Return the value in the unit of the series, or None if there is none that can be a measurement."""
        value = values.get(self.metric.reader)
        if value is None or not self.metric.is_plausible(value):
            return None
        return value / self._divisor if self._divisor else value * self._scale


class SnapshotCollector:
    """A collector for a `prometheus_client.CollectorRegistry`; any number of threads may ask it."""

    def __init__(
        self,
        metrics: Iterable[Metric],
        snapshot: Callable[[], Snapshot],
        clock: Clock,
        *,
        hostname: str,
        version: str,
        xids: XidTable,
        jobs: Jobs | None = None,
        job_labels: JobLabels = "info",
        model_label: str = MODEL_LABEL,
        stale_seconds: float = 30.0,
    ) -> None:
        """Make a collector.

        Args:
            metrics: What to show (`of_tiers`); what has no name in Prometheus is not.
            snapshot: Returns the newest values of everything (`Latest.snapshot`).
            clock: Tells how old a snapshot is.
            hostname: Value of label ``Hostname``.
            version: Of gpumon.
            xids: What each Xid means.
            jobs: Knows which jobs run on which GPU; None: not asked for.
            job_labels: ``"info"``: a series ``gpumon_gpu_job_info`` per GPU and job; ``"label"``: each series of a GPU
                once per job, with label ``hpc_job``, as dcgm-exporter has it.
            model_label: Name of the label with the product name. dcgm-exporter's is the one thing that ``promtool check
                metrics`` complains about.
            stale_seconds: Values that are older than this are not shown.
        """
        rows = [_Row(metric, metric.prometheus) for metric in metrics if metric.prometheus is not None]
        self._gpu_rows = [row for row in rows if row.metric.scope == "gpu"]
        self._host_rows = [row for row in rows if row.metric.scope == "host"]
        self._snapshot = snapshot
        self._clock = clock
        self._build = Labels({"version": version})
        self._xids = xids
        self._jobs = jobs
        self._jobs_are_labels = job_labels == "label"
        self._labeller = Labeller(hostname, model_label)
        self._stale_seconds = stale_seconds
        self._first_seen: tuple[Snapshot | None, float] = (None, -math.inf)

    def collect(self) -> Iterator[prometheus_client.Metric]:
        """Yield every family that has a series; a value that could not be read has none."""
        snapshot = self._snapshot()
        if self._is_fresh(snapshot):
            yield from self._current(snapshot)
        yield filled(GaugeMetricFamily("gpumon_build_info", "1; the label says what runs."), [(self._build, 1.0)])
        if snapshot.unix_seconds is not None:
            family = GaugeMetricFamily("gpumon_last_sample_timestamp_seconds", "When the GPUs were last sampled.")
            yield filled(family, [(NO_LABELS, snapshot.unix_seconds)])
        yield from _sink_families(snapshot.sinks)

    def _current(self, snapshot: Snapshot) -> Iterator[prometheus_client.Metric]:
        gpus = _that_answer(snapshot.gpus)
        jobs = self._jobs.jobs_of(state.gpu for state in gpus) if self._jobs else {}
        labelled = self._labeller.label(
            [(state, jobs.get(state.gpu, ())) for state in gpus],
            snapshot.driver_version,
            jobs_are_labels=self._jobs_are_labels,
        )
        families = [filled(row.family(), self._gpu_series(row, labelled)) for row in self._gpu_rows]
        families += extra_families(labelled, self._xids, with_job_info=not self._jobs_are_labels)
        for row in self._host_rows:
            value = row.value(snapshot.host)
            families.append(filled(row.family(), [] if value is None else [(NO_LABELS, value)]))
        yield from (family for family in families if family.samples)

    def _gpu_series(self, row: _Row, gpus: list[GpuLabels]) -> Iterator[tuple[Labels, float]]:
        for gpu in gpus:
            value = row.value(gpu.state.values)
            if value is not None:
                for labels in gpu.dcgm if row.is_dcgm else gpu.own:
                    yield (self._with_error(labels, value) if row.name == _LAST_XID else labels), value

    def _with_error(self, labels: Labels, value: float) -> Labels:
        message = self._xids[int(value)].description if value else "No Error"
        return Labels(labels | {"err_code": f"{value:.0f}", "err_msg": message})

    def _is_fresh(self, snapshot: Snapshot) -> bool:
        """Say whether the values are those of now.

        The wall clock alone could make old values look new by a step back, so the time since a scrape first saw this
        snapshot counts as well.
        """
        if snapshot.unix_seconds is None:
            return False
        now = self._clock.monotonic_seconds()
        seen, since = self._first_seen
        if seen is not snapshot:
            since = now
            self._first_seen = (snapshot, now)
        age = abs(self._clock.unix_seconds() - snapshot.unix_seconds)
        return max(age, now - since) <= self._stale_seconds


def _that_answer(gpus: Iterable[GpuState]) -> list[GpuState]:
    """Return the GPUs, those that are lost without any value but that, and without their MIG instances."""
    gpus = list(gpus)
    lost = {state.gpu.uuid for state in gpus if state.gpu.mig is None and state.values.get("gpu_up") == 0}
    return [
        replace(state, values={"gpu_up": 0.0}, processes=None) if state.gpu.uuid in lost else state
        for state in gpus
        if state.gpu.mig is None or state.gpu.uuid not in lost
    ]


def _sink_families(sinks: Mapping[str, DeliveryStats]) -> Iterator[prometheus_client.Metric]:
    for name, field, kind, text in _SINK_SERIES:
        series = [(Labels({"sink": sink}), getattr(stats, field)) for sink, stats in sinks.items()]
        family = filled(_KINDS[kind](name, text), [(labels, value) for labels, value in series if value is not None])
        if family.samples:
            yield family
