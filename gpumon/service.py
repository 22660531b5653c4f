"""The loop: takes what the sampler read, publishes it, tells systemd. It never calls the driver itself."""

from __future__ import annotations

import logging
import math
from enum import Enum
from typing import TYPE_CHECKING

from gpumon.errors import DriverMismatchError, DriverUnavailableError, GpumonError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpumon.channels import Channel
    from gpumon.clock import Clock
    from gpumon.overview import Overview
    from gpumon.sampler import Outcome, SampleSource
    from gpumon.samples import Sample
    from gpumon.settings import Settings
    from gpumon.signals import Requests
    from gpumon.systemd import Notifier
    from gpumon.xid_counts import XidCounts

# A process that never read a GPU would meet the same mismatch after its restart: it waits this long, lest it restart
# every two seconds.
MISMATCH_PATIENCE_SECONDS = 60.0
# Opening the driver initialises every GPU; without persistence mode eight of them take half a minute.
OPENING_FACTOR = 4
SHORTEST_WAIT_SECONDS = 0.01
LONGEST_WAIT_SECONDS = 5.0
URGENT_SECONDS = 10.0  # critical Xids that follow each other faster share one publication

READING = "reading GPUs"
NO_GPU = "Look for NVRM lines in the kernel log: the driver answers, but no GPU does."
WEDGED = "Look for NVRM lines in the kernel log: a call into the NVIDIA driver does not come back."
RELEASED = "the driver is released; `gpumon resume` takes it back"

log = logging.getLogger(__name__)


class Ending(Enum):
    """Why the loop ended."""

    STOP = "stop"
    RELOAD = "reload"


class Service:
    """Runs until it is asked to stop, or to begin anew with other settings."""

    def __init__(
        self,
        *,
        source: SampleSource,
        overview: Overview,
        channels: Sequence[Channel],
        xids: XidCounts,
        remember: Callable[[], None],
        reload: Callable[[], bool],
        notifier: Notifier,
        requests: Requests,
        clock: Clock,
        settings: Settings,
    ) -> None:
        """Make a service.

        Args:
            source: Gives readings of the driver.
            overview: Makes samples of them.
            channels: Are told every sample.
            xids: Says when a critical one happened.
            remember: Saves what the next process needs; called whenever something was handed over.
            reload: Called for SIGHUP; says whether there are new settings to begin anew with.
            notifier: Talks to systemd.
            requests: What the signals ask for.
            clock: Both clocks.
            settings: Of this process.
        """
        self._source = source
        self._overview = overview
        self._channels = channels
        self._xids = xids
        self._remember = remember
        self._reload = reload
        self._notifier = notifier
        self._requests = requests
        self._clock = clock
        self._settings = settings
        self._started = clock.monotonic_seconds()
        self._next_ping = self._started
        self._next_stand_in = -math.inf
        self._next_urgent = -math.inf
        self._wants_urgent = False
        self._has_submitted = False
        self._status = ""
        self._has_session = False
        self._has_read = False

    def run(self) -> Ending:
        """Publish until asked to end, then publish what is held.

        Raises:
            DriverMismatchError: systemd must start a new process, which loads the library anew.
            GpumonError: A thread that this loop depends on has ended.
        """
        for channel in self._channels:
            channel.start()
        self._source.start(self._requests.wake)
        self._notifier.ready("opening the driver")
        ending = Ending.STOP
        try:
            while not self._requests.is_stopping():
                self._clock.wait(self._requests.wake, self._pause_seconds())
                self._requests.wake.clear()
                self._step()
                if self._requests.take_reload() and self._reload():
                    ending = Ending.RELOAD
                    break
        finally:
            self._shut_down(ending)
        return ending

    def _step(self) -> None:
        self._require_threads()
        self._wants_urgent |= bool(self._xids.take_critical())
        for outcome in self._source.outcomes():
            self._take(outcome)
        now = self._clock.monotonic_seconds()
        is_wedged = self._is_wedged()
        if is_wedged and now >= self._next_stand_in:
            self._say(WEDGED, logging.ERROR)
            self._tell(self._overview.of_silence(self._clock.unix_seconds(), now))
            self._next_stand_in = now + self._settings.sample_seconds
        if self._wants_urgent and now >= self._next_urgent:
            self._publish_urgently(now)
        for channel in self._channels:
            self._has_submitted |= channel.step(self._clock.unix_seconds(), now)
        # At once, and at no other time: an end without a warning then neither repeats nor skips what a counter gained.
        if self._has_submitted and not any(channel.holds_back() for channel in self._channels):
            self._remember()
            self._has_submitted = False
        # No sign of life while a call does not come back: systemd starts a new process, which may find the driver well.
        if self._notifier.ping_seconds is not None and now >= self._next_ping and not is_wedged:
            self._notifier.watchdog()
            self._next_ping = now + self._notifier.ping_seconds

    def _require_threads(self) -> None:
        if not self._source.is_working():
            raise GpumonError("Report the error above: the sampling thread ended.")
        for channel in self._channels:
            if not channel.is_working():
                raise GpumonError(f"Report the error above: the publishing thread of {channel.name} ended.")

    def _take(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._has_session = False
            self._say(str(outcome.error), logging.WARNING)
        elif outcome.reading is None:
            self._has_session = False
            self._say(RELEASED)
        else:
            self._has_session = self._has_read = True
            gpus = outcome.reading.gpus
            if any(sample.values.get("gpu_up") for sample in gpus):
                self._say(READING)
            else:
                self._say(NO_GPU, logging.WARNING)
        self._tell(self._overview.of_outcome(outcome))
        if outcome.error is not None:
            self._require_patience(outcome.error)

    def _require_patience(self, error: DriverUnavailableError) -> None:
        """Raise a mismatch, unless this process began with one a moment ago."""
        waited = self._clock.monotonic_seconds() - self._started
        if isinstance(error, DriverMismatchError) and (self._has_read or waited >= MISMATCH_PATIENCE_SECONDS):
            raise error

    def _tell(self, sample: Sample) -> None:
        for channel in self._channels:
            self._has_submitted |= channel.add(sample)

    def _is_wedged(self) -> bool:
        busy = self._source.busy_seconds()
        return busy is not None and busy >= self._patience_seconds()

    def _patience_seconds(self) -> float:
        """Return how long one reading may take."""
        return self._settings.wedged_seconds * (1 if self._has_session else OPENING_FACTOR)

    def _publish_urgently(self, now: float) -> None:
        sample = self._overview.of_xids(self._clock.unix_seconds(), now)
        for channel in self._channels:
            channel.add(sample)
            channel.publish_now()
        self._has_submitted = True
        self._wants_urgent = False
        self._next_urgent = now + URGENT_SECONDS

    def _say(self, status: str, level: int = logging.INFO) -> None:
        """Log a change of how things are, once."""
        if status != self._status:
            self._status = status
            log.log(level, "%s", status)
            self._notifier.status(status)

    def _pause_seconds(self) -> float:
        """Return how long nothing but news can be of interest; readings set the event that ends the wait."""
        unix, now = self._clock.unix_seconds(), self._clock.monotonic_seconds()
        left = [channel.seconds_left(unix, now) for channel in self._channels]
        busy = self._source.busy_seconds()
        if busy is not None:
            left.append(max(self._patience_seconds() - busy, self._next_stand_in - now))
        if self._notifier.ping_seconds is not None:
            left.append(self._next_ping - now)
        if self._wants_urgent:
            left.append(self._next_urgent - now)
        return max(SHORTEST_WAIT_SECONDS, min([*left, LONGEST_WAIT_SECONDS]))

    def _shut_down(self, ending: Ending) -> None:
        if ending is Ending.STOP:
            self._notifier.stopping()
        self._source.stop(self._settings.stop_seconds)
        for outcome in self._source.outcomes():  # a reading that ended meanwhile
            self._tell(self._overview.of_outcome(outcome))
        # Xids are told with slow readings; those since the last one must not end as read and never told.
        self._tell(self._overview.of_xids(self._clock.unix_seconds(), self._clock.monotonic_seconds()))
        for channel in self._channels:
            channel.stop(self._settings.stop_seconds)
        self._remember()
