"""Time as an argument: everything that waits or dates something takes a `Clock`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading


class Clock(Protocol):
    """The two clocks of a host, and a way to wait."""

    def unix_seconds(self) -> float:
        """Wall-clock time; may step in either direction at any moment."""

    def monotonic_seconds(self) -> float:
        """Time that never steps; its zero means nothing."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set or `seconds` are over; say whether it is set."""


class SystemClock:
    """The host's own clocks."""

    def unix_seconds(self) -> float:
        """Wall-clock time."""
        return time.time()

    def monotonic_seconds(self) -> float:
        """Time that never steps."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set or `seconds` are over; say whether it is set."""
        return event.wait(max(0.0, seconds))
