"""What is folded into periods and told to a sink: one `Channel` per such sink."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpumon.publisher import DeliveryStats, Outbox
    from gpumon.samples import Batch, Sample
    from gpumon.window import Window


class Channel:
    """A sink's own window, outbox and phase; nothing that happens to another channel's concerns it.

    Attributes:
        name: Of the sink.
    """

    def __init__(self, name: str, window: Window, outbox: Outbox, phase_seconds: float = 0.0) -> None:
        """Make a channel.

        Args:
            name: Of the sink.
            window: Folds what the sink publishes.
            outbox: Delivers it.
            phase_seconds: How long after its end a period is handed to the outbox.
        """
        self.name = name
        self._window = window
        self._outbox = outbox
        self._phase_seconds = phase_seconds
        self._has_published = False
        self._due: list[tuple[float, Batch]] = []

    def start(self) -> None:
        """Begin to deliver."""
        self._outbox.start()

    def add(self, sample: Sample) -> bool:
        """Take in a sample; say whether something was handed over.

        The first sample of all does not wait for the end of its period: it goes out at once, as a first part of it, so
        that a new host is visible within seconds.
        """
        self._put_off(self._window.add(sample), sample.monotonic_seconds)
        if not self._has_published and (first := self._window.take()):
            self._outbox.submit(first)
            self._has_published = True
            return True
        return False

    def publish_now(self) -> None:
        """Hand over what the present period has so far, without any delay; the rest of it follows at its end."""
        held = [datum for _, batch in self._due for datum in batch]
        self._due.clear()
        if datums := [*held, *self._window.take()]:
            self._outbox.submit(datums, urgent=True)

    def step(self, unix_seconds: float, monotonic_seconds: float) -> bool:
        """Hand over every finished period whose time has come; say whether there was one."""
        self._put_off(self._window.finish(unix_seconds), monotonic_seconds)
        has_submitted = False
        while self._due and self._due[0][0] <= monotonic_seconds:
            self._outbox.submit(self._due.pop(0)[1])
            has_submitted = True
        return has_submitted

    def holds_back(self) -> bool:
        """Say whether a finished period waits for its phase."""
        return bool(self._due)

    def seconds_left(self, unix_seconds: float, monotonic_seconds: float) -> float:
        """Return how long `step` has nothing to do."""
        left = self._window.seconds_left(unix_seconds)
        return min(left, self._due[0][0] - monotonic_seconds) if self._due else left

    def is_working(self) -> bool:
        """Say whether what is handed over will be delivered."""
        return self._outbox.is_working()

    def stats(self) -> DeliveryStats:
        """Return what was delivered so far."""
        return self._outbox.stats()

    def stop(self, seconds: float) -> None:
        """Hand over all that is held, and try for `seconds` to deliver it."""
        held = [datum for _, batch in self._due for datum in batch]
        self._due.clear()
        self._outbox.submit([*held, *self._window.take()])
        self._outbox.stop(seconds)

    def _put_off(self, batch: Batch, monotonic_seconds: float) -> None:
        if batch:
            self._due.append((monotonic_seconds + self._phase_seconds, batch))
