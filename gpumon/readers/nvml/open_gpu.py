"""One GPU that the driver has opened for us: reads what is due of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from gpumon.readers import Due
from gpumon.readers.nvml import activity
from gpumon.readers.nvml.activity import ActivityMeter
from gpumon.readers.nvml.codes import binding
from gpumon.readers.nvml.fields import FieldBatch
from gpumon.readers.nvml.links import Links
from gpumon.readers.nvml.mig import MigInstances
from gpumon.readers.nvml.probes import ProbeSet
from gpumon.readers.nvml.processes import Processes
from gpumon.readers.nvml.sample_calls import SAMPLE_PROBES, UTILIZATION, UTILIZATION_NOW
from gpumon.readers.nvml.slow_calls import FIELD_FALLBACKS, SLOW_PROBES, pcie_link
from gpumon.readers.nvml.utilization_buffer import BURST, UtilizationBuffer
from gpumon.samples import Gpu, GpuProcess, GpuSample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpumon.readers.nvml.codes import Outcome
    from gpumon.readers.nvml.probes import Values

# How soon what was not supported is asked for again (a change of MIG mode brings it back).
REPROBE_SECONDS = 3600.0

_get_sample = binding("nvmlGpmSampleGet")


class Parts(NamedTuple):
    """What of a reading is due; a Flag would be taken apart anew for each GPU."""

    sample: bool
    buffer: bool
    slow: bool

    @classmethod
    def of(cls, due: Due) -> Parts:
        """Take `due` apart."""
        return cls(Due.SAMPLE in due, Due.BUFFER in due, Due.SLOW in due)


class Surroundings(NamedTuple):
    """What a GPU is read with, besides NVML: clocks, and where and whether processes are listed."""

    monotonic_seconds: Callable[[], float]
    unix_seconds: Callable[[], float]
    proc: Path
    with_processes: bool


class OpenGpu:
    """A GPU with a handle. The first reading asks for everything; later ones leave out what is not supported.

    Args:
        gpu: Which.
        handle: NVML's; of no use once the GPU is lost.
        surroundings: What else it takes.
    """

    def __init__(self, gpu: Gpu, handle: Any, surroundings: Surroundings) -> None:
        self.gpu = gpu
        self.handle = handle
        self._monotonic_seconds = surroundings.monotonic_seconds
        self._is_new = True
        self._reprobe_at = surroundings.monotonic_seconds() + REPROBE_SECONDS
        self._sample = ProbeSet(SAMPLE_PROBES)
        self._utilization = ProbeSet((UTILIZATION,))
        self._slow = ProbeSet((*SLOW_PROBES, pcie_link()))
        self._fallbacks: dict[str, ProbeSet] = {}
        self._buffer = UtilizationBuffer(surroundings.unix_seconds)
        self._fields = FieldBatch()
        self._links = Links()
        self._processes = Processes(surroundings.proc, with_names=surroundings.with_processes)
        self._meter = ActivityMeter(
            partial(_get_sample, handle),
            partial(activity.is_supported, handle),
            surroundings.monotonic_seconds,
        )
        self._mig = MigInstances(handle, surroundings.monotonic_seconds)

    def read(self, due: Parts, outcome: Outcome) -> list[GpuSample]:
        """Return what is due of the GPU, and of its MIG instances.

        Raises:
            pynvml.NVMLError: The GPU is lost; `outcome` has the error.
        """
        if self._monotonic_seconds() >= self._reprobe_at:
            self._forget_unsupported()
        if self._is_new:
            due = Parts(sample=True, buffer=True, slow=True)
            self._is_new = False
        values: Values = {"gpu_up": 1}
        bursts: dict[str, tuple[float, ...]] = {}
        processes = None
        if due.sample:
            self._sample.read(self.handle, values, outcome)
        if due.buffer:
            self._read_buffer(values, bursts, outcome)
        elif due.sample and not self._buffer.is_there:
            values[BURST] = values[UTILIZATION_NOW]
        if due.slow:
            processes = self._read_slow(values, outcome)
        instances = self._mig.read(self.gpu, outcome, sample=due.sample, slow=due.slow)
        if outcome.nothing_works:
            return [GpuSample(self.gpu, {"gpu_up": 0})]
        return [GpuSample(self.gpu, values, bursts, processes), *instances]

    def _read_buffer(self, values: Values, bursts: dict[str, tuple[float, ...]], outcome: Outcome) -> None:
        if self._buffer.is_there:
            samples = self._buffer.read(self.handle, outcome)
            if samples:
                bursts[BURST] = samples
                return
        if UTILIZATION_NOW not in values:
            rates: Values = {}
            self._utilization.read(self.handle, rates, outcome)
            values[BURST] = rates[UTILIZATION_NOW]
        else:
            values[BURST] = values[UTILIZATION_NOW]

    def _read_slow(self, values: Values, outcome: Outcome) -> tuple[GpuProcess, ...] | None:
        self._slow.read(self.handle, values, outcome)
        self._links.read(self.handle, values, outcome)
        self._fields.read(self.handle, self._links.there, values, outcome)
        for name in self._fields.unsupported_values & FIELD_FALLBACKS.keys():
            if name not in self._fallbacks:
                self._fallbacks[name] = ProbeSet((FIELD_FALLBACKS[name],))
            self._fallbacks[name].read(self.handle, values, outcome)
        outcome.unsupported = [name for name in outcome.unsupported if values.get(name) is None]
        self._meter.read(values, outcome)
        return self._processes.read(self.handle, values, outcome)

    def _forget_unsupported(self) -> None:
        self._reprobe_at = self._monotonic_seconds() + REPROBE_SECONDS
        self._buffer.is_there = True
        self._fallbacks.clear()
        for part in (self._sample, self._utilization, self._slow, self._fields, self._links, self._processes):
            part.forget_unsupported()
        self._meter.forget_unsupported()
        self._mig.forget_unsupported()

    def close(self) -> None:
        """Give back what the driver keeps for this GPU besides the handle."""
        self._meter.close()
        self._mig.close()
