from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpunodes.errors import PreflightError
from gpunodes.operation import runs
from gpunodes.settings import Settings
from tests.gpunodes import fakes

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_run_has_a_folder_named_by_its_id(tmp_path: Path) -> None:
    run = runs.start(Settings(work_folder=tmp_path / "new" / "work"), "offline us-east-1", NOW)

    assert run.run_id.startswith("20300102-030405-")
    assert run.folder == tmp_path / "new" / "work" / "runs" / run.run_id
    assert run.folder.is_dir()


def test_runs_of_the_same_second_have_different_ids(tmp_path: Path) -> None:
    settings = Settings(work_folder=tmp_path)

    assert len({runs.start(settings, "offline us-east-1", NOW).run_id for _ in range(5)}) == 5


def test_disk_that_is_nearly_full_is_found_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"1\.5 GiB free and a run needs 2 GiB; make room there\."):
        runs.start(Settings(work_folder=tmp_path), "offline us-east-1", NOW, lambda _folder: 3 * 2**29)

    assert list(tmp_path.iterdir()) == []


def test_two_gib_are_enough(tmp_path: Path) -> None:
    assert runs.start(
        Settings(work_folder=tmp_path), "offline us-east-1", NOW, lambda _folder: 2 * 2**30
    ).folder.is_dir()


def test_work_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(PreflightError, match="set work_folder in"):
        runs.start(Settings(work_folder=tmp_path / "file" / "work"), "offline us-east-1", NOW)


def test_documents_are_kept_in_the_folder(tmp_path: Path) -> None:
    path = fakes.run(tmp_path).write_json("facts.json", {"at": NOW})

    assert path == tmp_path / "facts.json"
    assert json.loads(path.read_text()) == {"at": "2030-01-02 03:04:05+00:00"}


def test_tags_carry_the_run_id(tmp_path: Path) -> None:
    assert runs.tags(fakes.run(tmp_path, "r1"), Name="n") == {
        "gpunodes": "true",
        "gpunodes:run-id": "r1",
        "Name": "n",
    }


def test_a_run_that_failed_its_preflight_leaves_no_folder(tmp_path: Path) -> None:
    run = runs.start(Settings(work_folder=tmp_path), "offline us-east-1", NOW)

    with pytest.raises(PreflightError), runs.going_on(run):
        raise PreflightError("No Packer.")

    assert not run.folder.exists()


def test_a_run_that_made_something_keeps_its_folder(tmp_path: Path) -> None:
    run = runs.start(Settings(work_folder=tmp_path), "offline us-east-1", NOW)

    (run.folder / "packer.log").touch()

    with pytest.raises(PreflightError), runs.going_on(run):
        raise PreflightError("Expired credentials.")

    assert run.folder.exists()


def test_a_run_knows_where_it_happened(tmp_path: Path) -> None:
    settings = Settings(work_folder=tmp_path)
    run = runs.start(settings, "aws eu-central-1", NOW)

    assert runs.target_of(settings, run.run_id) == "aws eu-central-1"
    assert runs.target_of(settings, "another") is None
