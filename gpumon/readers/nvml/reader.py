"""The `GpuReader` on NVML: one session, and GPUs that are remembered while they are lost."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pynvml

from gpumon.errors import DriverUnavailableError
from gpumon.readers.nvml import finding
from gpumon.readers.nvml.codes import DRIVER_GONE, Outcome, driver_error, nvml_error, text
from gpumon.readers.nvml.open_gpu import OpenGpu, Parts, Surroundings
from gpumon.samples import Gpu, GpuSample, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gpumon.readers import Due

RESCAN_SECONDS = 60.0  # how soon a lost or new GPU is looked for

log = logging.getLogger("gpumon.readers.nvml")


class Companion(Protocol):
    """Somebody else who uses this session on another thread."""

    def resume(self, gpus: Mapping[str, Any]) -> None:
        """Use these handles (UUID -> handle) and no others from now on."""

    def pause(self) -> bool:
        """Return when no handle is used any more; say whether that is so."""


class _RememberedGpu:
    """A GPU for as long as this process lives, open or lost."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.open: OpenGpu | None = None
        self.said_unsupported: set[str] = set()

    def let_go(self) -> None:
        """Never use its handle again."""
        if self.open is not None:
            self.open.close()
            self.open = None


class NvmlReader:
    """A `GpuReader` that holds one NVML session.

    Args:
        known: GPUs that this host had when somebody last looked: lost until they are found.
        with_processes: Whether slow readings list the processes of each GPU.
        companion: Is told which GPUs are open, and to stop before the session ends.
        monotonic_seconds: Clock of the schedules.
        unix_seconds: Wall clock, by which the driver dates its own samples.
        proc: Where the kernel shows processes.
    """

    def __init__(
        self,
        known: Sequence[Gpu] = (),
        *,
        with_processes: bool = False,
        companion: Companion | None = None,
        monotonic_seconds: Callable[[], float] = time.monotonic,
        unix_seconds: Callable[[], float] = time.time,
        proc: Path = Path("/proc"),
    ) -> None:
        self._monotonic_seconds = monotonic_seconds
        self._surroundings = Surroundings(monotonic_seconds, unix_seconds, proc, with_processes)
        self._gpus = {gpu.uuid: _RememberedGpu(gpu) for gpu in known if gpu.mig is None}
        self._companion = companion
        self._told: Mapping[str, Any] = {}
        self._is_open = False
        self._next_scan = 0.0
        self._driver_version: str | None = None
        self._counted = 0
        self._scan_failures = 0

    def read(self, due: Due) -> Reading:
        """Read what is due of every GPU that was ever seen.

        Raises:
            DriverUnavailableError: No driver or library answers; the next call tries anew.
            DriverMismatchError: The library in memory does not belong to the loaded driver.
        """
        self._scan_failures = 0
        self._prepare()
        parts = Parts.of(due)
        samples: list[GpuSample] = []
        outcomes: list[tuple[_RememberedGpu, Outcome]] = []
        for remembered in self._in_order():
            if remembered.open is None:
                samples.append(GpuSample(remembered.gpu, {"gpu_up": 0}))
                continue
            outcome = Outcome()
            outcomes.append((remembered, outcome))
            samples += _read(remembered.open, parts, outcome)
        if outcomes and not any(outcome.succeeded for _, outcome in outcomes):
            self._require_driver([error for _, outcome in outcomes for _, error in outcome.failures])
        for remembered, outcome in outcomes:
            _conclude(remembered, outcome)
        _tell_unsupported(outcomes)
        self._tell_companion()
        errors = self._scan_failures + sum(len(outcome.failures) for _, outcome in outcomes)
        return Reading(tuple(samples), self._driver_version, errors, self._counted)

    def _prepare(self) -> None:
        """Open the session if it is not open, and look for GPUs if it is time to."""
        is_scan_due = self._monotonic_seconds() >= self._next_scan
        if self._is_open and is_scan_due and not any(remembered.open for remembered in self._gpus.values()):
            self.close()  # where nothing works, it may be the session that is stale
        try:
            if not self._is_open:
                pynvml.nvmlInit()
                self._is_open = True
                self._driver_version = _driver_version()
                is_scan_due = True
            if is_scan_due:
                self._next_scan = self._monotonic_seconds() + RESCAN_SECONDS
                self._scan()
        except pynvml.NVMLError as error:
            self.close()
            raise driver_error(error) from error

    def _in_order(self) -> list[_RememberedGpu]:
        return sorted(self._gpus.values(), key=lambda remembered: remembered.gpu.index)

    def _require_driver(self, errors: Sequence[Any]) -> None:
        """Tell a driver that went away under us, which makes all calls fail in some way, from GPUs that are all lost.

        Raises:
            DriverUnavailableError: It went away; one sentence for all the calls.
        """
        if not errors:
            return
        gone = {int(error.value) for error in errors} & DRIVER_GONE
        try:
            if gone:
                raise nvml_error(max(gone))
            pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            self.close()
            raise driver_error(error) from error
        # It may also be our session that is stale, because the driver was loaded anew between two readings.
        self.close()

    def _scan(self) -> None:
        """Find GPUs that are new, and take lost ones up again.

        Raises:
            pynvml.NVMLError: The driver does not even count its GPUs.
        """
        self._counted = count = int(pynvml.nvmlDeviceGetCount())
        lost = [remembered.gpu for remembered in self._gpus.values() if remembered.open is None]
        if count == len(self._gpus) - len(lost) and not lost and count:
            return
        seen = self._take_up(finding.gpus_by_index(count, self._note_failure))
        still_lost = [gpu for gpu in lost if self._gpus[gpu.uuid].open is None]
        seen |= self._take_up(finding.gpus_by_identity(still_lost))
        self._keep_indices_apart(seen)
        for gpu in still_lost:
            if self._gpus[gpu.uuid].open is None:
                log.warning("GPU %s, last seen as index %s, is not there", gpu.uuid, str(gpu.index))
        if not self._gpus:
            log.warning("the driver answers and shows no GPU that can be opened (it counts %d)", count)

    def _note_failure(self, what: str, error: Any) -> None:
        self._scan_failures += 1
        log.warning("GPU with %s cannot be opened: %s", what, error)

    def _take_up(self, found: Iterable[tuple[Gpu, Any]]) -> dict[str, Gpu]:
        """Open what is not open yet; return all that was found, as the driver numbers it now."""
        seen = {}
        for gpu, handle in found:
            seen[gpu.uuid] = gpu
            remembered = self._gpus.setdefault(gpu.uuid, _RememberedGpu(gpu))
            if remembered.open is None:
                remembered.gpu = gpu
                remembered.open = OpenGpu(gpu, handle, self._surroundings)
                log.info("reading GPU %d: %s, %s", gpu.index, gpu.name, gpu.uuid)
        return seen

    def _keep_indices_apart(self, seen: Mapping[str, Gpu]) -> None:
        """Number open GPUs anew if two have the same index; else each keeps the one that its series began with."""
        opened = [remembered for remembered in self._gpus.values() if remembered.open is not None]
        if len({remembered.gpu.index for remembered in opened}) == len(opened):
            return
        for remembered in opened:
            remembered.gpu = seen.get(remembered.gpu.uuid, remembered.gpu)
            if remembered.open is not None:
                remembered.open.gpu = remembered.gpu

    def _tell_companion(self) -> None:
        handles = {uuid: found.open.handle for uuid, found in self._gpus.items() if found.open is not None}
        if self._companion is not None and handles.keys() != self._told.keys():
            self._companion.resume(handles)
            self._told = handles

    def close(self) -> None:
        """End the session; GPUs keep their identity for the next one.

        Raises:
            DriverUnavailableError: Somebody else is inside the driver and does not come back; the session goes on.
        """
        if self._companion is not None and self._told:
            if not self._companion.pause():
                raise DriverUnavailableError("Restart gpumon: a call into the NVIDIA driver does not come back.")
            self._told = {}
        for remembered in self._gpus.values():
            remembered.let_go()
        if self._is_open:
            self._is_open = False
            try:
                pynvml.nvmlShutdown()
            except pynvml.NVMLError as error:
                log.debug("nvmlShutdown: %s", error)


def _read(gpu: OpenGpu, parts: Parts, outcome: Outcome) -> list[GpuSample]:
    try:
        return gpu.read(parts, outcome)
    except pynvml.NVMLError:  # `outcome` has it
        return [GpuSample(gpu.gpu, {"gpu_up": 0})]


def _conclude(remembered: _RememberedGpu, outcome: Outcome) -> None:
    """Say what went wrong with a GPU, in one line per reason, and let go of it if it is lost."""
    uuid = remembered.gpu.uuid
    if outcome.lost or outcome.nothing_works:
        remembered.let_go()  # using the handle of a lost GPU can crash the library
        log.error("GPU %s is lost (%s); looking for it every %.0f s", uuid, outcome.failures[-1][1], RESCAN_SECONDS)
        return
    reasons: dict[str, list[str]] = {}
    for name, error in outcome.failures:
        reasons.setdefault(str(error), []).append(name)
    for reason, names in reasons.items():
        log.warning("GPU %s does not give %s: %s", uuid, ", ".join(names), reason)


def _tell_unsupported(outcomes: Iterable[tuple[_RememberedGpu, Outcome]]) -> None:
    """Say once what GPUs do not support, in one line for those that are alike."""
    alike: dict[tuple[str, ...], list[int]] = {}
    for remembered, outcome in outcomes:
        unsaid = set(outcome.unsupported) - remembered.said_unsupported
        if unsaid:
            remembered.said_unsupported |= unsaid
            alike.setdefault(tuple(sorted(unsaid)), []).append(remembered.gpu.index)
    for names, indices in alike.items():
        log.info("not supported by GPU %s: %s", ", ".join(map(str, indices)), ", ".join(names))


def _driver_version() -> str | None:
    try:
        return text(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None
