"""Keeps what is not delivered yet, bounded; `Spool` is the seam for a spool on disk."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from gpumon.samples import Batch


class Entry(NamedTuple):
    """A kept batch and the name by which the spool knows it."""

    key: int
    batch: Batch


class Spool(Protocol):
    """Keeps batches until they are removed; safe to use from several threads."""

    def add(self, batch: Batch) -> int:
        """Keep a batch; return how many datums of the oldest batches had to be dropped for it."""

    def newest(self) -> Entry | None:
        """Return the batch that was added last of those kept, or None if there is none."""

    def remove(self, key: int) -> None:
        """Forget a batch; nothing happens if it was dropped meanwhile."""

    def datum_count(self) -> int:
        """Return how many datums are kept."""


class MemorySpool:
    """Keeps a number of batches in memory; they are lost with the process."""

    def __init__(self, most_batches: int) -> None:
        self._most_batches = most_batches
        self._batches: OrderedDict[int, Batch] = OrderedDict()
        self._next_key = 0
        self._lock = threading.Lock()

    def add(self, batch: Batch) -> int:
        """Keep a batch; return how many datums of the oldest batches had to be dropped for it."""
        with self._lock:
            self._batches[self._next_key] = batch
            self._next_key += 1
            dropped = 0
            while len(self._batches) > self._most_batches:
                dropped += len(self._batches.popitem(last=False)[1])
            return dropped

    def newest(self) -> Entry | None:
        """Return the batch that was added last of those kept, or None if there is none."""
        with self._lock:
            key = next(reversed(self._batches), None)
            return None if key is None else Entry(key, self._batches[key])

    def remove(self, key: int) -> None:
        """Forget a batch; nothing happens if it was dropped meanwhile."""
        with self._lock:
            self._batches.pop(key, None)

    def datum_count(self) -> int:
        """Return how many datums are kept."""
        with self._lock:
            return sum(map(len, self._batches.values()))
