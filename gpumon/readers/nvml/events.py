"""Xids as NVML's events, on a thread of their own.

How the reader uses it::

    watcher = NvmlXidWatcher(counts, clock, stop)
    watcher.start()
    watcher.resume({uuid: handle, ...})   # whenever the set of open GPUs changed; takes effect within WAIT_SECONDS
    watcher.pause()                       # before every nvmlShutdown, be it for a release, a reload or an error

The watcher has no NVML session of its own (nvmlInit counts references: a second one would keep the library initialised
through the reader's shutdown, so that a reloaded driver was never found). It lives on the reader's session; hence
`pause` returns only once the thread is out of NVML and the event set is freed.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pynvml

from gpumon.backoff import Backoff
from gpumon.errors import DriverUnavailableError
from gpumon.xids import XidEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpumon.clock import Clock
    from gpumon.xid_counts import XidCounts

WAIT_SECONDS = 3.0  # of one call: how long `pause` may take, and a GPU that is new waits to be watched
IDLE_SECONDS = 1.0  # between looks at whether there is something to do
RETRY_SECONDS = (1.0, 30.0)
PAUSE_SECONDS = 8.0
# A source that has an event at every call must not take a whole core: some 2,500 events per second are enough.
_MOST_AT_ONCE = 256
_BREATH_SECONDS = 0.1

_NO_INSTANCE = 0xFFFFFFFF
_NO_EVENTS = frozenset(
    {pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND, pynvml.NVML_ERROR_NO_PERMISSION}
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeenXid:
    """One Xid as a source gives it; `gpu_uuid` is None where it cannot tell the GPU."""

    gpu_uuid: str | None
    xid: int
    gpu_instance_id: int | None


class EventSource(Protocol):
    """Where Xids come from. All calls are made by one thread at a time."""

    def open(self, gpus: Mapping[str, Any]) -> int:
        """Ask for the Xids of GPUs (UUID -> handle); return how many of them can give any.

        Raises:
            DriverUnavailableError: It does not work now; trying again later is right.
        """

    def wait(self, seconds: float) -> SeenXid | None:
        """Return the next Xid, or None when `seconds` passed or something else happened.

        Raises:
            DriverUnavailableError: It does not work any more; it must be opened anew.
        """

    def close(self) -> None:
        """Let go of everything; does no harm when nothing is open."""


class NvmlEventSource:
    """NVML's event set (nvmlEventSetCreate, nvmlDeviceRegisterEvents, nvmlEventSetWait_v2)."""

    def __init__(self) -> None:
        self._set: Any = None
        self._uuids: dict[int | None, str] = {}  # NVML's pointer to the GPU -> UUID

    def open(self, gpus: Mapping[str, Any]) -> int:
        """Register every GPU that supports events; one that fails costs only itself, unless all do."""
        self._uuids = {}
        try:
            self._set = pynvml.nvmlEventSetCreate()
        except pynvml.NVMLError as error:
            if error.value in _NO_EVENTS:
                return 0
            raise _unavailable(error) from error
        failure: pynvml.NVMLError | None = None
        for uuid, handle in gpus.items():
            try:
                if self._register(handle):
                    self._uuids[_pointer(handle)] = uuid
            except pynvml.NVMLError as error:
                log.info("GPU %s gives no Xid events: %s", uuid, error)
                failure = failure if error.value in _NO_EVENTS else error
        if not self._uuids:
            self.close()
            if failure is not None:
                raise _unavailable(failure) from failure
        return len(self._uuids)

    def _register(self, handle: Any) -> bool:
        wanted = pynvml.nvmlEventTypeXidCriticalError | pynvml.nvmlEventTypeDoubleBitEccError
        types = pynvml.nvmlDeviceGetSupportedEventTypes(handle) & wanted
        if types & pynvml.nvmlEventTypeXidCriticalError:
            pynvml.nvmlDeviceRegisterEvents(handle, types, self._set)
            return True
        return False

    def wait(self, seconds: float) -> SeenXid | None:
        """Wait for one event; the others than Xids are only logged, since counters of their own cover them."""
        try:
            event = pynvml.nvmlEventSetWait_v2(self._set, int(seconds * 1000))
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_TIMEOUT:
                return None
            raise _unavailable(error) from error
        uuid = self._uuids.get(_pointer(event.device))
        if event.eventType != pynvml.nvmlEventTypeXidCriticalError:
            log.warning("GPU %s: NVML event of type 0x%x", uuid, event.eventType)
            return None
        instance = int(event.gpuInstanceId)
        return SeenXid(uuid, int(event.eventData), None if instance == _NO_INSTANCE else instance)

    def close(self) -> None:
        """Free the event set."""
        events, self._set = self._set, None
        if events is not None:
            try:
                pynvml.nvmlEventSetFree(events)
            except pynvml.NVMLError as error:
                log.debug("nvmlEventSetFree: %s", error)


class NvmlXidWatcher:
    """Counts the Xids that a source gives until `stop` is set.

    A time-out is normal. After any other error, which NVML returns at once and for ever, the event set is freed, and
    made anew after a growing wait. Where no GPU gives events, nothing is tried until the next `resume`.

    Args:
        counts: Where the events go.
        clock: Dates them, and waits.
        stop: Ends the thread.
        source: Where they come from.
    """

    def __init__(
        self, counts: XidCounts, clock: Clock, stop: threading.Event, source: EventSource | None = None
    ) -> None:
        self._counts = counts
        self._clock = clock
        self._stop = stop
        self._source = source or NvmlEventSource()
        self._inside = threading.Lock()  # held while inside the source
        self._wanted: Mapping[str, Any] | None = None  # None: paused
        self._watched: Mapping[str, Any] | None = None  # those that the source is open for; None: it is closed
        self._is_registered = False
        self._at_once = 0  # Xids in a row without a time-out
        self._retry_at = clock.monotonic_seconds()
        self._backoff = Backoff(*RETRY_SECONDS)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, paused until the first `resume`."""
        self._thread = threading.Thread(target=self.run, name="xids", daemon=True)
        self._thread.start()

    def join(self, seconds: float = PAUSE_SECONDS) -> None:
        """Wait for the end of the thread, which `stop` brings."""
        if self._thread is not None:
            self._thread.join(seconds)

    def resume(self, gpus: Mapping[str, Any]) -> None:
        """Watch these GPUs (UUID -> NVML handle), and no others, from the next second on. Does not wait."""
        self._retry_at = self._clock.monotonic_seconds()
        self._wanted = dict(gpus)

    def pause(self, seconds: float = PAUSE_SECONDS) -> bool:
        """Stop watching; return when the thread is out of NVML and the event set is freed.

        Returns:
            Whether that is so. False after `seconds`: NVML does not return, and must not be shut down.
        """
        self._wanted = None  # first, so that the thread does not go in again
        if not self._inside.acquire(timeout=seconds):
            log.error("NVML does not return from waiting for events")
            return False
        try:
            self._close()
        finally:
            self._inside.release()
        return True

    def run(self) -> None:
        """Watch until `stop` is set."""
        while not self._stop.is_set():
            with self._inside:
                pause_seconds = self._step()
            if pause_seconds:
                self._clock.wait(self._stop, pause_seconds)
        self.pause()

    def _step(self) -> float:
        """Do one thing; return how long to wait, outside of NVML, before the next."""
        wanted = self._wanted
        if wanted is None:
            return IDLE_SECONDS
        if wanted is not self._watched:
            is_too_early = self._clock.monotonic_seconds() < self._retry_at
            return IDLE_SECONDS if is_too_early else self._open(wanted)
        return self._watch() if self._is_registered else IDLE_SECONDS

    def _open(self, wanted: Mapping[str, Any]) -> float:
        self._close()
        try:
            registered = self._source.open(wanted)
        except DriverUnavailableError as error:
            return self._fail(error)
        self._watched = wanted
        self._is_registered = registered > 0
        log.info("NVML reports the Xids of %d of %d GPUs", registered, len(wanted))
        return 0.0

    def _watch(self) -> float:
        began = self._clock.monotonic_seconds()
        try:
            seen = self._source.wait(WAIT_SECONDS)
        except DriverUnavailableError as error:
            return self._fail(error)
        self._backoff.reset()
        if seen is None:
            self._at_once = 0
            # A time-out before its time, or other events than Xids in a row.
            return _BREATH_SECONDS if self._clock.monotonic_seconds() - began < WAIT_SECONDS / 2 else 0.0
        moment = self._clock.unix_seconds()
        self._counts.record(XidEvent(seen.gpu_uuid, None, seen.xid, moment, seen.gpu_instance_id, "nvml"))
        self._at_once += 1
        return _BREATH_SECONDS if self._at_once % _MOST_AT_ONCE == 0 else 0.0

    def _fail(self, error: DriverUnavailableError) -> float:
        log.warning("NVML's events do not work, trying again: %s", error)
        self._close()
        self._retry_at = self._clock.monotonic_seconds() + self._backoff.next_seconds()
        return IDLE_SECONDS

    def _close(self) -> None:
        self._source.close()
        self._watched = None
        self._is_registered = False


def _pointer(handle: Any) -> int | None:
    """Return the address that a handle is; NVML gives one GPU the same one in every call of a session."""
    return ctypes.cast(handle, ctypes.c_void_p).value


def _unavailable(error: pynvml.NVMLError) -> DriverUnavailableError:
    return DriverUnavailableError(
        f"Look at the kernel log's NVRM lines for Xids meanwhile: NVML says {str(error).rstrip('.')}."
    )
