"""Keeps what is not delivered yet, bounded: the seam `Spool` and its plain form in memory.

The order of delivery is the same everywhere: of the batches whose delivery failed least often the newest, by the time
of their datums and then by when they were added. So live data goes before the backlog, the backlog goes newest first,
and a batch that fails again and again cannot stand before the others for ever.
"""

from __future__ import annotations

import itertools
import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpumon.samples import Batch

log = logging.getLogger(__name__)


class TimeRange(NamedTuple):
    """Unix seconds, both ends included."""

    earliest: float
    latest: float


class Entry(NamedTuple):
    """A kept batch.

    Attributes:
        key: The name by which the spool knows it; never used again for another one.
        batch: Its datums, at least one.
        failures: How often its delivery failed.
    """

    key: int
    batch: Batch
    failures: int = 0

    @property
    def rank(self) -> tuple[int, int, int]:
        """Return what the order of delivery compares: the greatest is the next one."""
        return -self.failures, latest_unix_seconds(self.batch), abs(self.key)


@dataclass(frozen=True)
class SpoolState:
    """What a spool holds now, and what it has dropped since it was made.

    Attributes:
        waiting_datums: Datums kept.
        volatile_datums: Those of them that end with this process.
        dropped_datums: Datums that it dropped: too many, too old, unreadable, of another host.
        oldest_unix_seconds: Time of the oldest datum kept, or None.
    """

    waiting_datums: int = 0
    volatile_datums: int = 0
    dropped_datums: int = 0
    oldest_unix_seconds: int | None = None


class Spool(Protocol):
    """Keeps batches until they are removed; safe to use from several threads. No method raises for a bad disk."""

    def add(self, batch: Batch) -> None:
        """Keep a batch (of at least one datum); the oldest are dropped where it would be too much."""

    def next_entry(self, sendable: TimeRange) -> Entry | None:
        """Return the next batch to deliver of those whose datums all lie in `sendable`; None: there is none."""

    def remove(self, key: int) -> None:
        """Forget a batch; nothing happens if it was dropped meanwhile."""

    def divide(self, key: int, parts: Sequence[Batch]) -> None:
        """Put `parts` in the place of a batch, all or nothing; nothing happens if it was dropped meanwhile."""

    def put_back(self, key: int) -> None:
        """Note that the delivery of a batch failed: it now comes after those that failed less often."""

    def drop_outside(self, sendable: TimeRange) -> None:
        """Drop the batches with a datum outside of `sendable`."""

    def state(self) -> SpoolState:
        """Return what it holds and what it dropped."""

    def close(self) -> None:
        """Let go of everything outside of this process."""


class MemorySpool:
    """Keeps a number of batches in memory; they are lost with the process."""

    def __init__(self, most_batches: int, keys: itertools.count[int] | None = None) -> None:
        """Make an empty spool.

        Args:
            most_batches: Beyond this the oldest are dropped.
            keys: Where the keys of entries come from, counting away from 0; None: 0, 1, 2, ...
        """
        self._most_batches = most_batches
        self._keys = keys or itertools.count()
        self._entries: dict[int, Entry] = {}
        self._dropped_datums = 0
        self._lock = threading.Lock()

    def add(self, batch: Batch) -> None:
        """Keep a batch; the oldest are dropped where there are more than `most_batches`."""
        with self._lock:
            self._insert(batch)
            dropped = self._drop_surplus()
        if dropped:
            log.warning("the queue in memory is full: dropped the oldest %d datums", dropped)

    def next_entry(self, sendable: TimeRange) -> Entry | None:
        """Return the next batch to deliver of those whose datums all lie in `sendable`; None: there is none."""
        with self._lock:
            candidates = (entry for entry in self._entries.values() if _lies_in(entry.batch, sendable))
            return max(candidates, key=lambda entry: entry.rank, default=None)

    def remove(self, key: int) -> None:
        """Forget a batch; nothing happens if it was dropped meanwhile."""
        with self._lock:
            self._entries.pop(key, None)

    def divide(self, key: int, parts: Sequence[Batch]) -> None:
        """Put `parts` in the place of a batch, even if those are more than `most_batches` for a while."""
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is not None:
                for part in parts:
                    self._insert(part, entry.failures)

    def put_back(self, key: int) -> None:
        """Note that the delivery of a batch failed: it now comes after those that failed less often."""
        with self._lock:
            if (entry := self._entries.get(key)) is not None:
                self._entries[key] = entry._replace(failures=entry.failures + 1)

    def drop_outside(self, sendable: TimeRange) -> None:
        """Drop the batches with a datum outside of `sendable`."""
        with self._lock:
            outside = [entry for entry in self._entries.values() if not _lies_in(entry.batch, sendable)]
            dropped = sum(self._drop(entry) for entry in outside)
        if dropped:
            log.warning("dropped %d datums: CloudWatch does not take their time", dropped)

    def state(self) -> SpoolState:
        """Return what it holds and what it dropped."""
        with self._lock:
            batches = [entry.batch for entry in self._entries.values()]
            waiting = sum(map(len, batches))
            oldest = min(map(earliest_unix_seconds, batches), default=None)
            return SpoolState(waiting, waiting, self._dropped_datums, oldest)

    def close(self) -> None:
        """Do nothing: there is nothing outside of this process."""

    def entries(self) -> list[Entry]:
        """Return everything that is kept, oldest first."""
        with self._lock:
            return sorted(self._entries.values(), key=_age)

    def _insert(self, batch: Batch, failures: int = 0) -> None:
        entry = Entry(next(self._keys), batch, failures)
        self._entries[entry.key] = entry

    def _drop_surplus(self) -> int:
        surplus = len(self._entries) - self._most_batches
        oldest = sorted(self._entries.values(), key=_age)[:surplus] if surplus > 0 else []
        return sum(self._drop(entry) for entry in oldest)

    def _drop(self, entry: Entry) -> int:
        del self._entries[entry.key]
        self._dropped_datums += len(entry.batch)
        return len(entry.batch)


def with_other(first: SpoolState, other: SpoolState) -> SpoolState:
    """Return the state of two spools taken together."""
    times = [state.oldest_unix_seconds for state in (first, other) if state.oldest_unix_seconds is not None]
    return replace(
        first,
        waiting_datums=first.waiting_datums + other.waiting_datums,
        volatile_datums=first.volatile_datums + other.volatile_datums,
        dropped_datums=first.dropped_datums + other.dropped_datums,
        oldest_unix_seconds=min(times, default=None),
    )


def earliest_unix_seconds(batch: Batch) -> int:
    """Return the time of the oldest datum of a batch."""
    return min(datum.unix_seconds for datum in batch)


def latest_unix_seconds(batch: Batch) -> int:
    """Return the time of the newest datum of a batch."""
    return max(datum.unix_seconds for datum in batch)


def _lies_in(batch: Batch, sendable: TimeRange) -> bool:
    return sendable.earliest <= earliest_unix_seconds(batch) and latest_unix_seconds(batch) <= sendable.latest


def _age(entry: Entry) -> tuple[int, int]:
    return latest_unix_seconds(entry.batch), abs(entry.key)
