from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpunodes.errors import PreflightError
from gpunodes.preflight import machine
from gpunodes.preflight.finding import NotAnsweredError
from tests.gpunodes.fakes import GIB, executable


def only(monkeypatch: pytest.MonkeyPatch, folder: Path, *more: str) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join([str(folder), *more]))


def test_session_manager_plugin_is_found_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path, "session-manager-plugin", "echo 1.2.707.0")
    only(monkeypatch, tmp_path, "/bin")

    assert machine.session_manager_plugin().evidence == {"version": "1.2.707.0"}


def test_session_manager_plugin_that_does_not_work_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path, "session-manager-plugin", "exit 1")
    only(monkeypatch, tmp_path, "/bin")

    with pytest.raises(PreflightError, match="plugin on PATH does not work; install it anew"):
        machine.session_manager_plugin()


@pytest.mark.parametrize("script", [None, "exit 1"], ids=["missing", "broken"])
def test_bake_goes_on_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None) -> None:
    tmp_path.joinpath("empty").mkdir()
    if script:
        executable(tmp_path, "git", script)
    only(monkeypatch, tmp_path)

    with pytest.raises(NotAnsweredError, match="cannot name the commit that it was baked from; install git"):
        machine.git()


def test_disk_of_a_folder_that_does_not_exist_yet_is_its_nearest_parents(tmp_path: Path) -> None:
    seen = machine.disk(tmp_path / "a" / "b", lambda folder: 2 * GIB if folder == tmp_path else 0)

    assert seen.fact == 2.0
    assert seen.evidence["folder"] == str(tmp_path)
    assert not (tmp_path / "a").exists()


def test_full_disk_is_a_preflight_error(tmp_path: Path) -> None:
    with pytest.raises(PreflightError) as caught:
        machine.disk(tmp_path, lambda _folder: GIB // 2)

    assert str(caught.value) == f"{tmp_path} has 0.5 GiB free and a run needs 2 GiB; make room there."
    assert caught.value.exit_code == 2
