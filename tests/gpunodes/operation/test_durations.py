from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from gpunodes.operation.durations import KEPT_RUNS, Durations
from gpunodes.operation.steps import Timing


def durations(folder: Path, notices: list[str] | None = None) -> Durations:
    return Durations(folder / "durations.json", (notices if notices is not None else []).append)


def test_typical_is_the_median_of_steps_and_phases(tmp_path: Path) -> None:
    kept = durations(tmp_path)
    for seconds in (1, 2, 90):
        kept.remember("offline", "build-ami", [Timing("bake", seconds + 10, (Timing("wait for SSH", seconds),))])

    assert durations(tmp_path).typical("offline", "build-ami") == {"bake": 12, "bake / wait for SSH": 2}


def test_targets_and_commands_are_kept_apart(tmp_path: Path) -> None:
    kept = durations(tmp_path)
    kept.remember("offline", "build-ami", [Timing("bake", 10)])
    kept.remember("aws", "build-ami", [Timing("bake", 600)])

    assert kept.typical("offline", "build-ami") == {"bake": 10}
    assert kept.typical("aws", "build-ami") == {"bake": 600}
    assert kept.typical("aws", "test-instance") == {}


def test_only_the_last_runs_count(tmp_path: Path) -> None:
    kept = durations(tmp_path)
    for seconds in [1000] * KEPT_RUNS + [3] * KEPT_RUNS:
        kept.remember("offline", "build-ami", [Timing("bake", seconds)])

    assert kept.typical("offline", "build-ami") == {"bake": 3}
    assert len(json.loads((tmp_path / "durations.json").read_text())["offline build-ami"]) == KEPT_RUNS


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", '{"a": 1}', '{"a": [{"b": "c"}]}', '{"a": [{"b": NaN}]}', '{"a": [{"b": -1}]}', "\xff"],
)  # fmt: skip
def test_damaged_file_starts_anew_with_a_notice(tmp_path: Path, damage: str) -> None:
    (tmp_path / "durations.json").write_text(damage, encoding="latin-1")
    notices: list[str] = []
    kept = durations(tmp_path, notices)

    assert kept.typical("offline", "build-ami") == {}
    assert notices == [
        f"the durations of earlier runs in {tmp_path}/durations.json cannot be read (it is damaged); starting anew"
    ]

    kept.remember("offline", "build-ami", [Timing("bake", 1)])

    assert kept.typical("offline", "build-ami") == {"bake": 1}


def test_missing_file_is_nothing_to_speak_of(tmp_path: Path) -> None:
    notices: list[str] = []

    assert durations(tmp_path / "not yet", notices).typical("offline", "build-ami") == {}
    assert notices == []


def test_folder_that_takes_no_file_is_a_notice_and_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    notices: list[str] = []

    Durations(tmp_path / "file" / "durations.json", notices.append).remember("offline", "build-ami", [])

    assert any("cannot be kept" in notice for notice in notices)


def test_file_that_is_a_folder_is_a_notice_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "durations.json").mkdir()
    notices: list[str] = []

    durations(tmp_path, notices).remember("offline", "build-ami", [Timing("bake", 1)])

    assert [notice.split("(")[1] for notice in notices] == ["Is a directory); starting anew", "Is a directory)"]
    assert [path.name for path in tmp_path.iterdir()] == ["durations.json"]


def test_two_writers_at_once_do_no_damage(tmp_path: Path) -> None:
    notices: list[str] = []

    def write(target: str) -> None:
        for _ in range(20):
            durations(tmp_path, notices).remember(target, "build-ami", [Timing("bake", 1)])

    writers = [threading.Thread(target=write, args=(target,)) for target in ("offline", "aws")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert notices == []
    assert set(json.loads((tmp_path / "durations.json").read_text())) <= {"offline build-ami", "aws build-ami"}
    assert [path.name for path in tmp_path.iterdir()] == ["durations.json"]


def test_file_is_replaced_and_never_written_in_place(tmp_path: Path) -> None:
    kept = durations(tmp_path)
    kept.remember("offline", "build-ami", [Timing("bake", 1)])
    with (tmp_path / "durations.json").open() as somebody_reads:
        kept.remember("offline", "build-ami", [Timing("bake", 2)])

        assert json.load(somebody_reads) == {"offline build-ami": [{"bake": 1}]}
