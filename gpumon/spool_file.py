"""The file of the spool on disk: one SQLite database, for one process of one host.

It is given up and begun anew where it cannot be ours: damaged, of another schema (both are moved aside, for people to
look at), or brought here from another host with the image of its disk, for its datums would be published under the
wrong instance.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "spool.sqlite3"
LOCK_NAME = "spool.lock"
ASIDE_SUFFIX = ".corrupt"
SCHEMA_VERSION = 1  # with every change of the tables below, and of spool_format where it could not be read any more

# FULL keeps the file as small as what it holds, at the price of moving a few pages per removal. Without the shared
# memory of the other locking mode a process that was killed leaves nothing that its successor would have to wait for.
# What was committed survives the death of this process; a power cut may take the last commits, never the file.
_PRAGMAS = """
PRAGMA auto_vacuum = FULL;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA wal_autocheckpoint = 64;
PRAGMA journal_size_limit = 1048576;
PRAGMA cache_size = -256;
"""
_SCHEMA = f"""
BEGIN;
CREATE TABLE host (name TEXT NOT NULL);
CREATE TABLE entries (
    key INTEGER PRIMARY KEY,
    failures INTEGER NOT NULL,
    newest INTEGER NOT NULL,
    oldest INTEGER NOT NULL,
    datums INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX delivery ON entries (failures, newest, key, oldest, datums, bytes);
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

log = logging.getLogger(__name__)


class InUseError(OSError):
    """Another process holds the spool."""


def is_damage(error: Exception) -> bool:
    """Say whether an error of SQLite means that the file is no (whole) database.

    SQLITE_CORRUPT and SQLITE_NOTADB alone are a plain DatabaseError (Python 3.10 gives no error codes).
    """
    return type(error) is sqlite3.DatabaseError


class SpoolFile:
    """The open database, locked for this process.

    Attributes:
        connection: Autocommits; usable from any thread, by one at a time.
        dropped_datums: How many datums of another host it held; they are gone.
    """

    def __init__(self, directory: Path, host: str) -> None:
        """Open or make the file in `directory`, which must exist.

        Raises:
            InUseError: Another process holds it.
            OSError, sqlite3.Error: The disk does not let us.
        """
        self._path = directory / FILE_NAME
        self.dropped_datums = 0
        with contextlib.ExitStack() as undo:
            self._lock = _locked(directory / LOCK_NAME)
            undo.callback(os.close, self._lock)
            self.connection = self._open_or_begin_anew(host)
            undo.pop_all()

    def close(self) -> None:
        """Close the database and let the next process have it."""
        try:
            self.connection.close()
        finally:
            os.close(self._lock)

    def set_aside(self) -> None:
        """Close the database and move it out of the way.

        Raises:
            OSError: It cannot be moved.
        """
        try:
            self.connection.close()
            _move_aside(self._path)
        finally:
            os.close(self._lock)

    def _open_or_begin_anew(self, host: str) -> sqlite3.Connection:
        try:
            return self._open(host)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            log.error("the spool cannot be read, an unknown number of datums is lost: %s", error)  # noqa: TRY400 - no traceback: nothing of ours failed
        _move_aside(self._path)
        return self._open(host)

    def _open(self, host: str) -> sqlite3.Connection:
        connection = _connected(self._path)
        try:
            self._claim(connection, host)
        except BaseException:
            connection.close()
            raise
        return connection

    def _claim(self, connection: sqlite3.Connection, host: str) -> None:
        row = connection.execute("SELECT name FROM host").fetchone()
        if row == (host,):
            return
        with connection:
            connection.execute("BEGIN")
            (self.dropped_datums,) = connection.execute("SELECT coalesce(sum(datums), 0) FROM entries").fetchone()
            connection.execute("DELETE FROM entries")
            connection.execute("DELETE FROM host")
            connection.execute("INSERT INTO host VALUES (?)", (host,))
        if row is not None:
            log.warning("the spool came from another host: dropped its %d datums", self.dropped_datums)


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise InUseError(f"another gpumon uses {path.parent}") from error
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _connected(path: Path) -> sqlite3.Connection:
    """Return a connection to the database at `path`, which is made if it does not exist.

    Raises:
        sqlite3.DatabaseError: It is damaged or another schema (see `is_damage`), or the disk does not let us.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite's own files get the mode of this one
    connection = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
    try:
        connection.executescript(_PRAGMAS)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0 and _is_empty(connection):
            connection.executescript(_SCHEMA)
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"schema {version} is not {SCHEMA_VERSION}")  # noqa: TRY301 - one way out
    except BaseException:
        connection.close()
        raise
    return connection


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Say whether the file is new; of a process that was killed between making the file and the tables, too."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return bool(tables == 0)


def _move_aside(path: Path) -> None:
    path.replace(path.with_name(path.name + ASIDE_SUFFIX))
    for suffix in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
