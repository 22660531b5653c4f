"""Makes a sample of the whole host out of each attempt to read its driver."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gpumon.host import gpu_rollups
from gpumon.readers import Due
from gpumon.samples import GpuSample, Reading, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpumon.inventory import Inventory
    from gpumon.latest import Latest
    from gpumon.own_metrics import OwnMetrics
    from gpumon.publisher import DeliveryStats
    from gpumon.sampler import Outcome
    from gpumon.xid_counts import GpuXids, XidCounts


class Overview:
    """Knows what is expected of the host, and adds to a reading what the driver does not say."""

    def __init__(
        self,
        *,
        latest: Latest,
        inventory: Inventory,
        xids: XidCounts,
        own: OwnMetrics,
        count_on_bus: Callable[[], int | None],
        delivery_stats: Callable[[], Mapping[str, DeliveryStats]],
        before_xids: Callable[[], None] = lambda: None,
    ) -> None:
        """Make an overview.

        Args:
            latest: Gets the newest values, for sinks that ask.
            inventory: The GPUs that this host had.
            xids: Counts them.
            own: Values about gpumon itself.
            count_on_bus: Counts the NVIDIA GPUs on the PCI bus; None: cannot be known.
            delivery_stats: How each sink that is told is doing, by its name.
            before_xids: Called before the Xids that were counted so far are told.
        """
        self._latest = latest
        self._inventory = inventory
        self._xids = xids
        self._own = own
        self._count_on_bus = count_on_bus
        self._delivery_stats = delivery_stats
        self._before_xids = before_xids
        self._on_bus_count: int | None = None
        self._stats: Mapping[str, DeliveryStats] = {}
        self._is_first = True
        self._has_told_xids = False

    def of_outcome(self, outcome: Outcome) -> Sample:
        """Return the sample of a reading, of a driver that does not answer, or of one that is released."""
        self._own.saw(outcome)
        if outcome.error is not None:
            return self.of_silence(outcome.unix_seconds, outcome.monotonic_seconds)
        if outcome.reading is None:
            return self._sample(outcome.unix_seconds, outcome.monotonic_seconds, (), None, is_slow=True)
        gpus = self._inventory.see(outcome.reading.gpus)
        is_slow = self._is_first or Due.SLOW in outcome.due
        if is_slow or self._has_told_xids:
            self._before_xids()
            gpus = tuple(self._with_xids(sample) for sample in gpus)
            self._has_told_xids = False
        if is_slow:
            self._xids.know({sample.gpu.pci_bus_id: sample.gpu.uuid for sample in gpus})
        return self._sample(
            outcome.unix_seconds, outcome.monotonic_seconds, gpus, replace(outcome.reading, gpus=gpus), is_slow=is_slow
        )

    def of_silence(self, unix_seconds: float, monotonic_seconds: float) -> Sample:
        """Return the sample of a moment at which the driver does not answer: none of the known GPUs is up."""
        self._before_xids()
        gpus = tuple(GpuSample(gpu, {"gpu_up": 0.0, **self._xid_values(gpu.uuid)}) for gpu in self._inventory.gpus)
        return self._sample(unix_seconds, monotonic_seconds, gpus, Reading(gpus), is_slow=True, driver_is_up=False)

    def of_xids(self, unix_seconds: float, monotonic_seconds: float) -> Sample:
        """Return a sample with nothing but the Xids, for those that cannot wait."""
        self._before_xids()
        gpus = tuple(GpuSample(gpu, self._xid_values(gpu.uuid)) for gpu in self._inventory.gpus)
        self._has_told_xids = True  # what follows from them shows with the next reading
        return Sample(unix_seconds, gpus, {}, monotonic_seconds)

    def _sample(
        self,
        unix_seconds: float,
        monotonic_seconds: float,
        gpus: tuple[GpuSample, ...],
        reading: Reading | None,
        *,
        is_slow: bool,
        driver_is_up: bool = True,
    ) -> Sample:
        host: dict[str, float | None] = {}
        if is_slow:
            self._on_bus_count = self._count_on_bus()
            self._stats = self._delivery_stats()
            host.update(self._own.values(monotonic_seconds, self._stats.values()))
        states = self._latest.merge(gpus, self._xids.totals())
        if reading is not None:
            expected_count = max(self._inventory.expected_count(self._on_bus_count), reading.counted)
            host.update(gpu_rollups(states, expected_count, self._xids.table, driver_is_up=driver_is_up))
            host["collect_seconds"] = self._own.collect_seconds
        elif is_slow:
            host.update(
                dict.fromkeys(gpu_rollups((), 0, self._xids.table, driver_is_up=False))
            )  # released: nothing can be known
        version = (reading.driver_version or "") if reading is not None else ""
        self._latest.publish(unix_seconds, states, host, version, self._stats)
        self._is_first = False
        return Sample(unix_seconds, gpus, host, monotonic_seconds)

    def _with_xids(self, sample: GpuSample) -> GpuSample:
        if sample.gpu.mig is not None:
            return sample
        return replace(sample, values={**sample.values, **self._xid_values(sample.gpu.uuid)})

    def _xid_values(self, uuid: str) -> dict[str, float | None]:
        found: GpuXids = self._xids.of_gpu(uuid)
        return {
            "xid_error_count": float(found.errors_since_start),
            "xid_critical_count": float(found.critical_since_start),
            "xid_last_code": float(found.last_xid or 0),
            "xid_last_unix_seconds": found.last_unix_seconds,
        }
