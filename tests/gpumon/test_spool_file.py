from __future__ import annotations

import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest

from gpumon.spool_file import FILE_NAME, LOCK_NAME, SCHEMA_VERSION, InUseError, SpoolFile

if TYPE_CHECKING:
    from pathlib import Path


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path, "h")

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    file.close()

    assert modes == {FILE_NAME: 0o600, f"{FILE_NAME}-wal": 0o600, LOCK_NAME: 0o600}


def test_it_belongs_to_one_process_until_that_closes_it(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path, "h")
    with pytest.raises(InUseError):
        SpoolFile(tmp_path, "h")

    file.close()

    SpoolFile(tmp_path, "h").close()


def test_one_that_could_not_be_opened_is_not_held(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(OSError, match="directory"):
        SpoolFile(tmp_path, "h")
    (tmp_path / FILE_NAME).rmdir()

    SpoolFile(tmp_path, "h").close()


def test_a_file_that_is_no_database_is_moved_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 1000)
    (tmp_path / f"{FILE_NAME}-wal").write_bytes(b"nor this")

    SpoolFile(tmp_path, "h").close()

    assert "an unknown number of datums is lost" in caplog.text
    assert (tmp_path / f"{FILE_NAME}.corrupt").read_bytes().startswith(b"no database")
    assert (tmp_path / FILE_NAME).read_bytes().startswith(b"SQLite format 3")


def test_a_file_of_another_schema_is_moved_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    SpoolFile(tmp_path, "h").close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()

    SpoolFile(tmp_path, "h").close()

    assert f"schema {SCHEMA_VERSION + 1} is not {SCHEMA_VERSION}" in caplog.text
    assert (tmp_path / f"{FILE_NAME}.corrupt").exists()


def test_a_file_of_a_process_that_was_killed_before_it_made_the_tables_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).touch()

    file = SpoolFile(tmp_path, "h")

    assert file.connection.execute("SELECT count(*) FROM entries").fetchone() == (0,)
    file.close()
    assert caplog.records == []
