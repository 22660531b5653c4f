"""Keeps what is not delivered yet on disk, across restarts, crashes and ``kill -9``.

A batch is committed before `DiskSpool.add` returns and stays until it is removed, so at worst a crash between the
service's "taken" and the removal sends a batch twice; none is lost. Where the disk fails (full, read-only, gone,
held by another gpumon), batches are kept in memory instead, and move to disk when it works again. Meanwhile what is on
disk stays there, neither delivered nor counted; what was delivered but could not be removed is not sent again by this
process.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import sqlite3
import threading
from typing import TYPE_CHECKING

from gpumon import spool_format
from gpumon.spool import (
    Entry,
    MemorySpool,
    SpoolState,
    TimeRange,
    earliest_unix_seconds,
    latest_unix_seconds,
    with_other,
)
from gpumon.spool_file import SpoolFile, is_damage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gpumon.clock import Clock
    from gpumon.samples import Batch

MOST_BYTES = 64 * 1024 * 1024  # 38 hours of eight busy GPUs (24 metrics, 20 values)
MOST_BATCHES_IN_MEMORY = 60
RETRY_SECONDS = 60.0
_PAGE_BYTES = 4096
_DISK_ERRORS = (sqlite3.Error, OSError)
_INSERT = "INSERT INTO entries (key, failures, newest, oldest, datums, bytes, payload) VALUES (?, ?, ?, ?, ?, ?, ?)"
_NEXT = """SELECT key, failures, payload FROM entries WHERE key = (
    SELECT key FROM entries WHERE oldest >= ? AND newest <= ? ORDER BY failures, newest DESC, key DESC LIMIT 1)"""

log = logging.getLogger(__name__)


class DiskSpool:
    """A `Spool` in a directory."""

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        *,
        host: str,
        most_bytes: int = MOST_BYTES,
        most_batches_in_memory: int = MOST_BATCHES_IN_MEMORY,
    ) -> None:
        """Open the spool of `directory`; a disk that does not work is no error.

        Args:
            directory: Where its files are; must exist to be used.
            clock: For the time until a failed disk is tried again.
            host: What names this host (the machine id). What was kept for another host is dropped.
            most_bytes: Beyond this the oldest are dropped; the file takes this and a megabyte or two at most.
            most_batches_in_memory: The same while the disk does not work.
        """
        self._directory = directory
        self._clock = clock
        self._host = host
        self._most_bytes = most_bytes
        self._memory = MemorySpool(most_batches_in_memory, itertools.count(-1, -1))  # below 0: not a key on disk
        self._moved: dict[int, int] = {}  # key in memory -> key on disk, of the last time that batches moved
        self._gone: set[int] = set()  # keys that could not be removed from disk and must not be seen again
        self._drops: list[tuple[int, str]] = []  # how many datums the transaction drops, and why
        self._next_key = 1
        self._dropped_datums = 0
        self._file: SpoolFile | None = None
        self._works = True
        self._next_try = clock.monotonic_seconds()
        self._lock = threading.RLock()
        self._on_disk(lambda _: None)

    def add(self, batch: Batch) -> None:
        """Keep a batch; the oldest are dropped where it would be more than `most_bytes`."""
        with self._lock:
            if not self._on_disk(lambda connection: self._insert(connection, batch)):
                self._memory.add(batch)

    def next_entry(self, sendable: TimeRange) -> Entry | None:
        """Return the next batch to deliver of those whose datums all lie in `sendable`; None: there is none."""
        found: list[Entry | None] = []
        self._on_disk(lambda connection: found.append(self._read_next(connection, sendable)))
        found.append(self._memory.next_entry(sendable))
        return max((entry for entry in found if entry is not None), key=lambda entry: entry.rank, default=None)

    def remove(self, key: int) -> None:
        """Forget a batch; nothing happens if it was dropped meanwhile."""
        self.divide(key, ())

    def divide(self, key: int, parts: Sequence[Batch]) -> None:
        """Put `parts` in the place of a batch, all or nothing; nothing happens if it was dropped meanwhile."""
        with self._lock:
            key = self._moved.get(key, key)
            if key < 0:
                self._memory.divide(key, parts)
            elif not self._on_disk(lambda connection: self._replace(connection, key, parts)):
                self._gone.add(key)
                for part in parts:
                    self._memory.add(part)

    def put_back(self, key: int) -> None:
        """Note that the delivery of a batch failed: it now comes after those that failed less often."""
        with self._lock:
            key = self._moved.get(key, key)
            if key < 0:
                self._memory.put_back(key)
            else:
                change = "UPDATE entries SET failures = failures + 1 WHERE key = ?"
                self._on_disk(lambda connection: connection.execute(change, (key,)))

    def drop_outside(self, sendable: TimeRange) -> None:
        """Drop the batches with a datum outside of `sendable`."""
        self._memory.drop_outside(sendable)
        reason = "CloudWatch does not take their time"
        self._on_disk(lambda connection: self._drop(connection, "oldest < ? OR newest > ?", sendable, reason))

    def state(self) -> SpoolState:
        """Return what it holds and what it dropped."""
        rows: list[tuple[int, int | None]] = []
        query = "SELECT coalesce(sum(datums), 0), min(oldest) FROM entries"
        self._on_disk(lambda connection: rows.append(connection.execute(query).fetchone()))
        waiting, oldest = rows[0] if rows else (0, None)
        return with_other(SpoolState(waiting, 0, self._dropped_datums, oldest), self._memory.state())

    def close(self) -> None:
        """Close the file and let the next process have it; what is done afterwards opens it again."""
        with self._lock:
            if self._file is not None:
                file, self._file = self._file, None
                self._next_try = self._clock.monotonic_seconds()  # it did not fail: there is nothing to wait for
                with contextlib.suppress(*_DISK_ERRORS):  # what was committed stays
                    file.close()

    def _on_disk(self, action: Callable[[sqlite3.Connection], object]) -> bool:
        """Do something in one transaction; say whether it was done."""
        with self._lock:
            try:
                if (file := self._opened()) is None:
                    return False
                self._commit(file.connection, action)
            except _DISK_ERRORS as error:
                self._give_up(error)
                return False
            return True

    def _opened(self) -> SpoolFile | None:
        now = self._clock.monotonic_seconds()
        if self._file is None and now >= self._next_try:
            self._next_try = now + RETRY_SECONDS
            self._file = SpoolFile(self._directory, self._host)
            self._dropped_datums += self._file.dropped_datums
            self._catch_up(self._file.connection)
            if not self._works:
                log.info("the spool in %s can be used again", self._directory)
            self._works = True
        return self._file

    def _commit(self, connection: sqlite3.Connection, action: Callable[[sqlite3.Connection], object]) -> None:
        self._drops.clear()
        connection.execute("BEGIN IMMEDIATE")
        try:
            action(connection)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(*_DISK_ERRORS):  # SQLite may have rolled back already
                connection.execute("ROLLBACK")
            raise
        for count, reason in self._drops:
            self._dropped_datums += count
            log.warning("dropped %d datums: %s", count, reason)

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Bring a file that was just opened up to date with what happened without it."""
        waiting = self._memory.entries()
        moved: dict[int, int] = {}

        def move(connection: sqlite3.Connection) -> None:
            (highest,) = connection.execute("SELECT coalesce(max(key), 0) FROM entries").fetchone()
            self._next_key = max(self._next_key, highest + 1)
            connection.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in self._gone])
            for entry in waiting:
                moved[entry.key] = self._insert(connection, entry.batch, entry.failures)

        self._commit(connection, move)
        self._gone.clear()
        self._moved = moved
        for entry in waiting:
            self._memory.remove(entry.key)

    def _give_up(self, error: Exception) -> None:
        """Let go of the file; a damaged one is replaced when the spool is used next."""
        file, self._file = self._file, None
        try:
            if file is not None and is_damage(error):
                file.set_aside()
                log.error("the spool cannot be read, an unknown number of datums is lost: %s", error)
                self._next_try = self._clock.monotonic_seconds()
                return
            if file is not None:
                file.close()
        except _DISK_ERRORS as worse:
            error = worse
        if self._works:
            log.error("the spool in %s cannot be used, so datums wait in memory: %s", self._directory, error)
            self._works = False

    def _read_next(self, connection: sqlite3.Connection, sendable: TimeRange) -> Entry | None:
        """Return the next entry on disk; those that cannot be read are dropped on the way."""
        while (row := connection.execute(_NEXT, sendable).fetchone()) is not None:
            key, failures, payload = row
            try:
                return Entry(key, spool_format.decode(payload), failures)
            except spool_format.UnreadableEntryError as error:
                self._drop(connection, "key = ?", (key,), str(error))
        return None

    def _replace(self, connection: sqlite3.Connection, key: int, parts: Sequence[Batch]) -> None:
        row = connection.execute("SELECT failures FROM entries WHERE key = ?", (key,)).fetchone()
        connection.execute("DELETE FROM entries WHERE key = ?", (key,))
        for part in parts if row is not None else ():
            self._insert(connection, part, row[0])

    def _insert(self, connection: sqlite3.Connection, batch: Batch, failures: int = 0) -> int:
        payload = spool_format.encode(batch)
        size = (len(payload) // _PAGE_BYTES + 1) * _PAGE_BYTES  # what it takes of the file
        key = self._next_key
        self._next_key += 1
        times = (latest_unix_seconds(batch), earliest_unix_seconds(batch))
        connection.execute(_INSERT, (key, failures, *times, len(batch), size, payload))
        (total,) = connection.execute("SELECT sum(bytes) FROM entries").fetchone()
        if total > self._most_bytes:
            self._drop_oldest(connection, total - self._most_bytes)
        return key

    def _drop_oldest(self, connection: sqlite3.Connection, surplus: int) -> None:
        for key, size in connection.execute("SELECT key, bytes FROM entries ORDER BY newest, key").fetchall():
            if surplus <= 0:
                return
            self._drop(connection, "key = ?", (key,), "the spool is full, and they were the oldest")
            surplus -= size

    def _drop(self, connection: sqlite3.Connection, condition: str, values: Sequence[float], reason: str) -> None:
        (count,) = connection.execute(f"SELECT sum(datums) FROM entries WHERE {condition}", values).fetchone()  # noqa: S608 - conditions are literals above
        if count:
            connection.execute(f"DELETE FROM entries WHERE {condition}", values)  # noqa: S608 - same
            self._drops.append((count, reason))
