"""Reads the driver on a thread of its own, because a call into a broken driver may never return.

The thread hands out what it read; whoever takes it can tell from `busy_seconds` that a call does not come back.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gpumon.backoff import Backoff
from gpumon.errors import DriverUnavailableError
from gpumon.readers import EVERYTHING, Due

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpumon.clock import Clock
    from gpumon.readers import GpuReader
    from gpumon.samples import Reading

BUFFER_SECONDS = 10.0  # drivers keep the samples of some 15 seconds
DRIVER_RETRY_SECONDS = (1.0, 30.0)
# The values of a period are read shortly before it ends, so that what a counter gained belongs to it.
LEAD_SAMPLES = 1.5
_MOST_OUTCOMES = 600  # nobody takes them: the loop is being debugged or the process is stopped

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What one attempt to read the driver gave: a reading, an error, or neither while the driver is released.

    Attributes:
        unix_seconds: Wall-clock time of its end.
        monotonic_seconds: The same on the clock that never steps.
        duration_seconds: How long it took.
        due: What was asked for.
        reading: What was read.
        error: Why nothing could be.
    """

    unix_seconds: float
    monotonic_seconds: float
    duration_seconds: float
    due: Due
    reading: Reading | None = None
    error: DriverUnavailableError | None = None


class SampleSource(Protocol):
    """Where the service gets readings from."""

    def start(self, wake: threading.Event) -> None:
        """Begin; set `wake` whenever there is something to take."""

    def outcomes(self) -> list[Outcome]:
        """Return what was read since the last call, oldest first."""

    def busy_seconds(self) -> float | None:
        """Return how long the present reading has been going on, or None between readings."""

    def is_working(self) -> bool:
        """Say whether there will be more outcomes (an error in this program ends them)."""

    def stop(self, seconds: float) -> bool:
        """End; wait up to `seconds` for the present reading and say whether it came back."""


class Sampler:
    """A `SampleSource` with a thread that holds the NVML session."""

    def __init__(
        self,
        reader: GpuReader,
        clock: Clock,
        *,
        sample_seconds: float,
        slow_seconds: float,
        is_released: Callable[[], bool] = lambda: False,
        on_held: Callable[[Reading], None] = lambda _reading: None,
        on_released: Callable[[], None] = lambda: None,
    ) -> None:
        """Make a sampler.

        Args:
            reader: Called from the sampler's thread only.
            clock: Both clocks.
            sample_seconds: Time between two readings.
            slow_seconds: Time between two readings of everything; aligned to the wall clock.
            is_released: Says whether somebody wants gpumon to let go of the driver.
            on_held: Called on the sampler's thread after each reading.
            on_released: Called on the sampler's thread whenever the reader does not hold the driver.
        """
        self._reader = reader
        self._clock = clock
        self._sample_seconds = sample_seconds
        self._slow = _Rhythm(slow_seconds, LEAD_SAMPLES * sample_seconds)
        self._buffer = _Rhythm(max(BUFFER_SECONDS, sample_seconds), LEAD_SAMPLES * sample_seconds)
        self._is_released = is_released
        self._on_held = on_held
        self._on_released = on_released
        self._backoff = Backoff(*DRIVER_RETRY_SECONDS)
        self._retry = -math.inf
        self._busy_since: float | None = None
        self._outcomes: deque[Outcome] = deque(maxlen=_MOST_OUTCOMES)
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self.run, name="sampler", daemon=True)

    def start(self, wake: threading.Event) -> None:
        """Begin to read on a thread of its own."""
        self._wake = wake
        self._thread.start()

    def outcomes(self) -> list[Outcome]:
        """Return what was read since the last call, oldest first."""
        found = []
        while self._outcomes:
            found.append(self._outcomes.popleft())
        return found

    def busy_seconds(self) -> float | None:
        """Return how long the present reading has been going on, or None between readings."""
        since = self._busy_since
        return None if since is None else self._clock.monotonic_seconds() - since

    def is_working(self) -> bool:
        """Say whether the thread lives."""
        return self._thread.is_alive()

    def stop(self, seconds: float) -> bool:
        """End; wait up to `seconds` for the present reading and say whether it came back."""
        self._stop.set()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def run(self) -> None:
        """Read until `stop`; the body of the thread."""
        start = self._clock.monotonic_seconds()
        slot = 0
        while not self._stop.is_set():
            self._step()
            # Readings that a stall swallowed are not caught up on. The slot grows even where rounding puts a multiple
            # of the interval into the past.
            elapsed = self._clock.monotonic_seconds() - start
            slot = max(slot, math.floor(elapsed / self._sample_seconds)) + 1
            self._clock.wait(self._stop, start + slot * self._sample_seconds - self._clock.monotonic_seconds())

    def _step(self) -> None:
        if self._is_released():
            self._release()
        elif self._clock.monotonic_seconds() >= self._retry:
            self._read()

    def _release(self) -> None:
        began = self._clock.monotonic_seconds()
        self._busy_since = began
        error = None
        try:
            self._reader.close()
        except DriverUnavailableError as found:  # somebody is still inside: it is not let go of
            error = found
        else:
            self._on_released()
        finally:
            self._busy_since = None
        self._retry = -math.inf
        self._put(began, Due.SAMPLE, None, error)

    def _read(self) -> None:
        due = self._what_is_due()
        began = self._clock.monotonic_seconds()
        self._busy_since = began
        reading, error = None, None
        try:
            reading = self._reader.read(due)
        except DriverUnavailableError as found:
            error = found
            self._retry = self._clock.monotonic_seconds() + self._backoff.next_seconds()
            self._on_released()
        else:
            self._backoff.reset()
            self._on_held(reading)
        finally:
            self._busy_since = None
        self._put(began, due, reading, error)

    def _what_is_due(self) -> Due:
        now = self._clock.unix_seconds()
        slow, buffer = self._slow.has_come(now), self._buffer.has_come(now)
        if slow:
            return EVERYTHING
        return Due.SAMPLE | Due.BUFFER if buffer else Due.SAMPLE

    def _put(self, began: float, due: Due, reading: Reading | None, error: DriverUnavailableError | None) -> None:
        now = self._clock.monotonic_seconds()
        self._outcomes.append(Outcome(self._clock.unix_seconds(), now, now - began, due, reading, error))
        self._wake.set()


class _Rhythm:
    """Says once per interval of the wall clock, shortly before its end, that something is due."""

    def __init__(self, seconds: float, lead_seconds: float) -> None:
        self._seconds = seconds
        self._lead_seconds = min(lead_seconds, seconds / 4)
        self._last: int | None = None

    def has_come(self, unix_seconds: float) -> bool:
        number = math.floor((unix_seconds + self._lead_seconds) / self._seconds)
        if number == self._last:
            return False
        self._last = number
        return True
