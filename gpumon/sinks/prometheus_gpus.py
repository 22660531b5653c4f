"""Series of a GPU that are no single value of the table: its Xids by code, its jobs, its processes."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from gpumon.sinks.prometheus_text import Labels, filled
from gpumon.xids import OTHER_XIDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import prometheus_client

    from gpumon.samples import GpuProcess
    from gpumon.sinks.prometheus_labels import GpuLabels
    from gpumon.xids import XidTable

MOST_PROCESSES = 100  # per GPU; those with the least memory are summed up in one more series
OTHERS = "others"


def extra_families(gpus: Sequence[GpuLabels], xids: XidTable, *, with_job_info: bool) -> list[prometheus_client.Metric]:
    """Return the families; those of GPUs that have no such series are empty."""
    families = [
        filled(
            CounterMetricFamily("gpumon_xid_errors", "Xid errors by code; class says what the code means."),
            _xid_series(gpus, xids),
        ),
        filled(
            GaugeMetricFamily(
                "gpumon_gpu_process_memory_bytes",
                f"GPU memory that a process holds, for the {MOST_PROCESSES} largest; the rest of them together.",
            ),
            _process_series(gpus),
        ),
    ]
    if with_job_info:
        family = GaugeMetricFamily("gpumon_gpu_job_info", "1 for each job that the workload manager has on the GPU.")
        families.append(filled(family, _job_series(gpus)))
    return families


def _xid_series(gpus: Sequence[GpuLabels], xids: XidTable) -> Iterator[tuple[Labels, float]]:
    for gpu in gpus:
        for code, count in sorted(gpu.state.xids.items()):
            xid = "other" if code == OTHER_XIDS else f"{code}"
            for labels in gpu.own:
                yield Labels(labels | {"xid": xid, "class": xids[code].xid_class}), count


def _job_series(gpus: Sequence[GpuLabels]) -> Iterator[tuple[Labels, float]]:
    for gpu in gpus:
        for job in gpu.jobs:
            for labels in gpu.own:
                yield Labels(labels | {"hpc_job": job}), 1.0


def _process_series(gpus: Sequence[GpuLabels]) -> Iterator[tuple[Labels, float]]:
    for gpu in gpus:
        for pid, name, memory_bytes in _largest(gpu.state.processes or ()):
            for labels in gpu.own:
                yield Labels(labels | {"pid": pid, "process": name}), memory_bytes


def _largest(processes: Sequence[GpuProcess]) -> list[tuple[str, str, int]]:
    """Return (pid, name, bytes) of the largest processes, and of the others as one.

    A process that has several contexts on the GPU is listed once, with all it holds.
    """
    held: dict[int, tuple[str, int]] = {}
    for process in processes:
        if process.memory_bytes is not None:
            held[process.pid] = (process.name, held.get(process.pid, ("", 0))[1] + process.memory_bytes)
    shown = heapq.nlargest(MOST_PROCESSES, held.items(), key=lambda item: item[1][1])
    rows = [(f"{pid}", name, memory_bytes) for pid, (name, memory_bytes) in shown]
    if len(held) > len(shown):
        rest = sum(memory_bytes for _, memory_bytes in held.values()) - sum(row[2] for row in rows)
        rows.append((OTHERS, OTHERS, rest))
    return rows
