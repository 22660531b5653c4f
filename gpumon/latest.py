"""The newest value of everything, for sinks that are asked rather than told (a Prometheus scrape)."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpumon.publisher import DeliveryStats
    from gpumon.samples import Gpu, GpuProcess, Reading, Sample


@dataclass(frozen=True)
class GpuState:
    """The newest values of one GPU or MIG instance.

    Attributes:
        gpu: Which one.
        values: By reader name; what could not be read is not there.
        processes: Its processes, or None if they are not asked for.
        xids: How often each Xid code was seen since gpumon started.
    """

    gpu: Gpu
    values: Mapping[str, float]
    processes: tuple[GpuProcess, ...] | None = None
    xids: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """Everything that is known at one moment.

    Attributes:
        unix_seconds: Wall-clock time of the last sample, or None before the first.
        gpus: One entry per known GPU and MIG instance.
        host: Values of the host, by reader name; what could not be read is not there.
        driver_version: Version of the loaded driver; "" while it is unknown.
        sinks: How each sink that is told is doing, by its name.
    """

    unix_seconds: float | None = None
    gpus: tuple[GpuState, ...] = ()
    host: Mapping[str, float] = field(default_factory=dict)
    driver_version: str = ""
    sinks: Mapping[str, DeliveryStats] = field(default_factory=dict)


class Latest:
    """Merges readings, each of which has only what was due; one thread writes, any number read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[Gpu, dict[str, float]] = {}
        self._processes: dict[Gpu, tuple[GpuProcess, ...]] = {}
        self._snapshot = Snapshot()

    def update(
        self,
        sample: Sample,
        reading: Reading | None,
        xids: Mapping[str, Mapping[int, int]],
        sinks: Mapping[str, DeliveryStats],
    ) -> None:
        """Take in a sample.

        Args:
            sample: The values; a GPU or MIG instance that is not in it is forgotten.
            reading: What it came from, or None where the driver did not answer.
            xids: Counts per code, by UUID of the GPU.
            sinks: How each sink that is told is doing.
        """
        gpus = []
        for gpu_sample in sample.gpus:
            gpu = gpu_sample.gpu
            values = self._merged(gpu, gpu_sample.values, gpu_sample.bursts)
            if gpu_sample.processes is not None:
                self._processes[gpu] = gpu_sample.processes
            own_xids = xids.get(gpu.uuid, {}) if gpu.mig is None else {}
            gpus.append(
                GpuState(gpu, values, self._processes.get(gpu) if values.get("gpu_up") != 0 else None, own_xids)
            )
        self._values = {state.gpu: dict(state.values) for state in gpus}
        self._processes = {gpu: found for gpu, found in self._processes.items() if gpu in self._values}
        host = {name: value for name, value in sample.host.items() if value is not None}
        version = (reading.driver_version or "") if reading is not None else ""
        snapshot = Snapshot(sample.unix_seconds, tuple(gpus), host, version, dict(sinks))
        with self._lock:
            self._snapshot = snapshot

    def snapshot(self) -> Snapshot:
        """Return what is known now."""
        with self._lock:
            return self._snapshot

    def _merged(
        self, gpu: Gpu, values: Mapping[str, float | None], bursts: Mapping[str, tuple[float, ...]]
    ) -> dict[str, float]:
        if values.get("gpu_up") == 0:
            return {"gpu_up": 0.0}  # a GPU that is lost has no newest values, only old ones
        merged = self._values.get(gpu, {})
        for name, value in values.items():
            if value is None:
                merged.pop(name, None)
            else:
                merged[name] = value
        merged.update((name, fmean(burst)) for name, burst in bursts.items() if burst)
        return merged
