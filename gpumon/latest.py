"""The newest value of everything, for sinks that are asked rather than told (a Prometheus scrape)."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpumon.publisher import DeliveryStats
    from gpumon.samples import Gpu, GpuProcess, GpuSample


@dataclass(frozen=True)
class GpuState:
    """The newest values of one GPU or MIG instance.

    Attributes:
        gpu: Which one.
        values: By reader name; what could not be read is not there.
        processes: Its processes, or None if they are not asked for.
        xids: How often each Xid code was seen since the host started.
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
    """Merges samples, each of which has only what was due; one thread writes, any number read `snapshot`."""

    def __init__(self) -> None:
        self._gpus: dict[Gpu, dict[str, float]] = {}
        self._processes: dict[Gpu, tuple[GpuProcess, ...]] = {}
        self._host: dict[str, float] = {}
        self._snapshot = Snapshot()

    def merge(
        self, samples: Sequence[GpuSample], xids: Mapping[str, Mapping[int, int]] | None = None
    ) -> tuple[GpuState, ...]:
        """Take in the GPUs of a sample and return the newest values of each of them.

        Args:
            samples: A GPU or MIG instance that is not among them is forgotten.
            xids: Counts per code, by UUID of the GPU.
        """
        gpus = {sample.gpu: self._merged(sample) for sample in samples}
        self._processes = {
            sample.gpu: found
            for sample in samples
            if (found := self._processes.get(sample.gpu) if sample.processes is None else sample.processes) is not None
        }
        self._gpus = gpus
        return tuple(
            GpuState(gpu, values, self._processes.get(gpu), {} if gpu.mig or not xids else xids.get(gpu.uuid, {}))
            for gpu, values in gpus.items()
        )

    def publish(
        self,
        unix_seconds: float,
        gpus: tuple[GpuState, ...],
        host: Mapping[str, float | None],
        driver_version: str,
        sinks: Mapping[str, DeliveryStats],
    ) -> None:
        """Make a snapshot of what `merge` returned and of the host's values, of which those not given stay."""
        values = dict(self._host)
        for name, value in host.items():
            if value is None:
                values.pop(name, None)
            else:
                values[name] = value
        self._host = values
        self._snapshot = Snapshot(unix_seconds, gpus, values, driver_version, dict(sinks))

    def snapshot(self) -> Snapshot:
        """Return what is known now; from any thread, because a name is bound in one step."""
        return self._snapshot

    def _merged(self, sample: GpuSample) -> dict[str, float]:
        if sample.values.get("gpu_up") == 0:
            return {"gpu_up": 0.0}  # a GPU that is lost has no newest values, only old ones
        merged = dict(self._gpus.get(sample.gpu, {}))  # a copy: the one before is in somebody's snapshot
        for name, value in sample.values.items():
            if value is None:
                merged.pop(name, None)
            else:
                merged[name] = value
        for name, burst in sample.bursts.items():
            if burst:
                merged[name] = fmean(burst)
        return merged
