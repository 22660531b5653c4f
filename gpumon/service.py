"""The loop: sample, fold, publish, tell systemd."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gpumon.backoff import Backoff
from gpumon.errors import DriverMismatchError, DriverUnavailableError, GpumonError
from gpumon.samples import Batch, GpuSample, Sample

if TYPE_CHECKING:
    import threading

    from gpumon.clock import Clock
    from gpumon.publisher import Outbox
    from gpumon.readers import GpuReader
    from gpumon.settings import Settings
    from gpumon.systemd import Notifier
    from gpumon.window import Window

DRIVER_RETRY_SECONDS = (1.0, 30.0)
# A process that never read a GPU would meet the same mismatch after its restart: it waits this long, lest it restart
# every two seconds.
MISMATCH_PATIENCE_SECONDS = 60.0
SHORTEST_WAIT_SECONDS = 0.01
NO_VALUES = "Look for NVRM lines in the kernel log: the driver answers, but no GPU gives any value."

log = logging.getLogger(__name__)


class Service:
    """Runs until `stop` is set.

    A period is handed to the outbox `phase_seconds` after its end. The first samples of all do not wait for that:
    they go out at once, as a first part of their period, so that a new host is visible within seconds.
    """

    def __init__(
        self,
        *,
        reader: GpuReader,
        window: Window,
        outbox: Outbox,
        notifier: Notifier,
        clock: Clock,
        stop: threading.Event,
        settings: Settings,
        phase_seconds: float,
    ) -> None:
        self._reader = reader
        self._window = window
        self._outbox = outbox
        self._notifier = notifier
        self._clock = clock
        self._stop = stop
        self._settings = settings
        self._phase_seconds = phase_seconds
        self._started = clock.monotonic_seconds()
        self._next_sample = self._started
        self._next_ping = self._started
        self._retry_driver = self._started
        self._backoff = Backoff(*DRIVER_RETRY_SECONDS)
        self._complaint = ""
        self._has_read = False
        self._has_published = False
        self._due: list[tuple[float, Batch]] = []

    def run(self) -> None:
        """Sample and publish until the stop event is set, then publish what is held.

        Raises:
            DriverMismatchError: systemd must start a new process, which loads the library anew.
            GpumonError: The outbox does not work any more.
        """
        self._outbox.start()
        try:
            self._step()
            self._notifier.ready(self._complaint or "reading GPUs")
            while not self._clock.wait(self._stop, self._pause_seconds()):
                self._step()
        finally:
            self._shut_down()

    def _step(self) -> None:
        if not self._outbox.is_working():
            raise GpumonError("Report the error above: the publishing thread ended.")
        now = self._clock.monotonic_seconds()
        if now >= self._next_sample:
            self._sample(now)
            # Samples that a stall swallowed are not caught up on.
            self._next_sample = max(self._next_sample + self._settings.sample_seconds, now)
        self._put_off(self._window.finish(self._clock.unix_seconds()))
        self._publish_due(self._clock.monotonic_seconds())
        if self._notifier.ping_seconds is not None and now >= self._next_ping:
            self._notifier.watchdog()
            self._next_ping = now + self._notifier.ping_seconds

    def _sample(self, now: float) -> None:
        gpus = self._read(now)
        self._put_off(self._window.add(Sample(self._clock.unix_seconds(), gpus)))
        if not self._has_published and (first := self._window.take()):
            self._outbox.submit(first)
            self._has_published = True

    def _read(self, now: float) -> tuple[GpuSample, ...]:
        if now < self._retry_driver:
            return ()
        try:
            gpus = self._reader.read()
        except DriverUnavailableError as error:
            is_mismatch = isinstance(error, DriverMismatchError)
            if is_mismatch and (self._has_read or now >= self._started + MISMATCH_PATIENCE_SECONDS):
                raise
            self._retry_driver = now + self._backoff.next_seconds()
            self._say(str(error))
            return ()
        self._has_read = True
        self._backoff.reset()
        can_be_read = any(value is not None for gpu in gpus for value in gpu.values.values())
        self._say("" if can_be_read else NO_VALUES)
        return gpus

    def _say(self, complaint: str) -> None:
        """Log a change between working and not working, once."""
        if complaint == self._complaint:
            return
        self._complaint = complaint
        if complaint:
            log.warning("no GPU can be read, trying again: %s", complaint)
        else:
            log.info("GPUs can be read again")
        self._notifier.status(complaint or "reading GPUs")

    def _put_off(self, batch: Batch) -> None:
        if batch:
            self._due.append((self._clock.monotonic_seconds() + self._phase_seconds, batch))

    def _publish_due(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            self._outbox.submit(self._due.pop(0)[1])

    def _pause_seconds(self) -> float:
        now = self._clock.monotonic_seconds()
        moments = [self._next_sample, *(moment for moment, _ in self._due[:1])]
        if self._notifier.ping_seconds is not None:
            moments.append(self._next_ping)
        until_period_ends = self._window.seconds_left(self._clock.unix_seconds())
        return max(SHORTEST_WAIT_SECONDS, min(min(moments) - now, until_period_ends))

    def _shut_down(self) -> None:
        self._notifier.stopping()
        held = [datum for _, batch in self._due for datum in batch]
        self._outbox.submit([*held, *self._window.take()])
        self._outbox.stop(self._settings.stop_seconds)
        self._reader.close()
