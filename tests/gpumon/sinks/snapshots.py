"""Snapshots to scrape: what `Latest` would hold of hosts of several kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpumon.latest import GpuState, Snapshot
from gpumon.metrics import load_metrics
from gpumon.samples import Gpu, MigInstance
from gpumon.sinks.prometheus_collector import SnapshotCollector
from gpumon.xids import load_xids

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpumon.clock import Clock

METRICS = load_metrics()
XIDS = load_xids()
UNIX_SECONDS = 1_700_000_000.0  # what FakeClock begins with


def gpu(index: int, *, instance: int | None = None) -> Gpu:
    mig = None if instance is None else MigInstance(instance, "1g.5gb", f"MIG-{index}-{instance}")
    return Gpu(f"GPU-{index:04d}", index, "NVIDIA H100 80GB HBM3", f"00000000:{index + 16:02X}:00.0", index, mig)


def every_value(index: int = 0) -> dict[str, float]:
    """Return a plausible value for each metric of a GPU, by reader name."""
    values = {}
    for number, metric in enumerate(METRICS):
        if metric.scope == "gpu":
            most = 1e6 if metric.maximum is None else metric.maximum
            values[metric.reader] = min(max(metric.minimum or 0, number + index / 4), most)
    return values | {"gpu_up": 1.0}


def state(index: int = 0, *, instance: int | None = None, **values: float) -> GpuState:
    return GpuState(gpu(index, instance=instance), {"gpu_up": 1.0} | values)


def full_state(index: int = 0) -> GpuState:
    return GpuState(gpu(index), every_value(index))


def snapshot(
    *gpus: GpuState, unix_seconds: float | None = UNIX_SECONDS, host: Mapping[str, float] | None = None
) -> Snapshot:
    return Snapshot(unix_seconds, gpus, host or {}, "560.35.03")


def collector(read: Callable[[], Snapshot], clock: Clock, **options: object) -> SnapshotCollector:
    given: dict[str, object] = {"hostname": "ip-10-0-0-1", "version": "1.2.3", "xids": XIDS} | options
    metrics = given.pop("metrics", METRICS)
    return SnapshotCollector(metrics, read, clock, **given)  # type: ignore[arg-type]
