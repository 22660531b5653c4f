from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpumon.state import StateFile, read_line

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    StateFile(tmp_path).save({"boot_id": "x", "counters": {"GPU-a": {"energy": (1.5, 2.0)}}})

    document = StateFile(tmp_path).load()

    assert document["counters"] == {"GPU-a": {"energy": [1.5, 2.0]}}
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_the_first_process_finds_nothing(tmp_path: Path) -> None:
    assert StateFile(tmp_path).load() == {}
    assert StateFile(None).load() == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"version": 0}', b"\xff", b"[" * 100_000])
def test_a_damaged_file_counts_as_nothing_and_is_said(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state.json").write_bytes(content)

    assert StateFile(tmp_path).load() == {}
    assert "beginning anew" in caplog.text


def test_a_disk_that_fails_costs_the_memory_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    StateFile(tmp_path / "missing").save({"boot_id": "x"})
    StateFile(None).save({"boot_id": "x"})

    assert "cannot be written" in caplog.text


def test_a_line_of_a_file_that_is_not_there_is_empty(tmp_path: Path) -> None:
    (tmp_path / "machine-id").write_text("abc\n")

    assert (read_line(tmp_path / "machine-id"), read_line(tmp_path / "no")) == ("abc", "")
