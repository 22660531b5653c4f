from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from localaws.cgroups import ControlGroups

_FOLDERS_OF = {
    "v1": (["systemd", "memory"], ["systemd"]),
    "hybrid": (["systemd", "unified", "memory"], ["systemd", "unified"]),
    "v2": ([], ["."]),
}


@pytest.fixture(params=sorted(_FOLDERS_OF))
def hierarchies(request: pytest.FixtureRequest, tmp_path: Path) -> list[Path]:
    """The hierarchies in which systemd keeps units, below `tmp_path`, which looks like /sys/fs/cgroup."""
    kind: str = request.param
    there, used = _FOLDERS_OF[kind]
    for name in there:
        (tmp_path / name).mkdir()
    if kind == "v2":
        (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    if kind == "hybrid":
        (tmp_path / "unified/cgroup.controllers").write_text("")
    return [tmp_path / name for name in used]


def test_machine_gets_a_group_in_every_hierarchy_of_systemd(hierarchies: list[Path], tmp_path: Path) -> None:
    groups = ControlGroups("cloud", tmp_path)

    files = groups.create("i-1")

    assert files == [hierarchy / "cloud/i-1/cgroup.procs" for hierarchy in hierarchies]
    assert all(file.parent.is_dir() for file in files)
    assert not (tmp_path / "memory/cloud").exists()
    assert groups.create("i-1") == files


def test_processes_are_found_in_every_hierarchy_and_depth(hierarchies: list[Path], tmp_path: Path) -> None:
    groups = ControlGroups("cloud", tmp_path)
    one, two = groups.create("i-1"), groups.create("i-2")
    for number, file in enumerate(one):
        file.write_text(f"{100 + number}\n0\n")  # 0: a process of another namespace
    below = one[-1].parent / "system.slice/ssh.service/cgroup.procs"
    below.parent.mkdir(parents=True)
    below.write_text("200\n201\n")
    two[0].write_text("300\n")

    of_one = {100 + number for number in range(len(hierarchies))} | {200, 201}
    assert groups.process_ids("i-1") == of_one
    assert groups.process_ids() == of_one | {300}
    assert groups.process_ids("i-3") == set()


def test_another_clouds_machines_are_not_touched(hierarchies: list[Path], tmp_path: Path) -> None:
    other = ControlGroups("other", tmp_path).create("i-1")
    other[0].write_text("400\n")
    groups = ControlGroups("cloud", tmp_path)
    groups.create("i-1")

    assert groups.process_ids() == set()
    groups.remove()
    assert all(file.parent.is_dir() for file in other)
    assert not any((hierarchy / "cloud").exists() for hierarchy in hierarchies)


def test_one_machines_groups_are_removed_with_what_is_below(hierarchies: list[Path], tmp_path: Path) -> None:
    groups = ControlGroups("cloud", tmp_path)
    for file in groups.create("i-1"):
        (file.parent / "system.slice/ssh.service").mkdir(parents=True)
        (file.parent / "user.slice").mkdir()
    groups.create("i-2")

    groups.remove("i-1")

    for hierarchy in hierarchies:
        assert [path.name for path in (hierarchy / "cloud").iterdir()] == ["i-2"]


def test_what_is_not_there_needs_no_removing(hierarchies: list[Path], tmp_path: Path) -> None:
    ControlGroups("cloud", tmp_path).remove()
    ControlGroups("cloud", tmp_path).remove("i-1")

    assert not any((hierarchy / "cloud").exists() for hierarchy in hierarchies)


def test_group_that_does_not_empty_is_an_error(hierarchies: list[Path], tmp_path: Path) -> None:
    groups = ControlGroups("cloud", tmp_path)
    files = groups.create("i-1")
    files[-1].write_text("100\n")  # here a file keeps the folder; in a real one a process does

    with pytest.raises(OSError, match="i-1"):
        groups.remove("i-1", patience_seconds=0)
    assert hierarchies[-1].joinpath("cloud/i-1").is_dir()


def test_kill_ends_what_is_inside_and_takes_what_ended_by_itself(
    tmp_path: Path, hierarchies: list[Path], sleeping_process: Callable[[], int]
) -> None:
    groups = ControlGroups("cloud", tmp_path)
    inside, outside, gone = sleeping_process(), sleeping_process(), sleeping_process()
    os.kill(gone, 9)
    os.waitpid(gone, 0)
    groups.create("i-1")[0].write_text(f"{gone}\n{inside}\n")

    groups.kill("i-1")

    assert os.waitstatus_to_exitcode(os.waitpid(inside, 0)[1]) == -9
    assert os.waitpid(outside, os.WNOHANG) == (0, 0)
    assert len(hierarchies) > 0


def test_machine_without_any_hierarchy_runs_where_its_starter_does(tmp_path: Path) -> None:
    assert ControlGroups("cloud", tmp_path).create("i-1") == []
