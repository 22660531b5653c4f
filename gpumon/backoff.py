"""Waiting longer after each failure in a row."""

from __future__ import annotations


class Backoff:
    """Doubles the wait with every failure, up to a longest one."""

    def __init__(self, first_seconds: float, longest_seconds: float) -> None:
        self._first_seconds = first_seconds
        self._longest_seconds = longest_seconds
        self._next_seconds = first_seconds

    def next_seconds(self) -> float:
        """Return how long to wait now, and double the wait after it."""
        seconds = self._next_seconds
        self._next_seconds = min(2 * seconds, self._longest_seconds)
        return seconds

    def reset(self) -> None:
        """Begin again with the first wait: something succeeded."""
        self._next_seconds = self._first_seconds
