from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpunodes.errors import GpunodesError, InterruptedRunError, ToolError
from gpunodes.operation import journal
from gpunodes.operation.journal import Event, Journal


class Now:
    """A UTC clock that moves on by a second each time it is read."""

    def __init__(self) -> None:
        self.time = datetime(2030, 1, 1, 14, 3, 10, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


def journal_in(folder: Path) -> Journal:
    return Journal(folder / journal.FILE, now=Now())


def bake(kept: Journal) -> None:
    with kept.run("build-ami", "offline us-east-1", {"source_ami": "", "flavor": "debian-12"}, {"packer": "1.6.6"}):
        kept.began("step", "import an SSH key")
        kept.made("key pair", "gpunodes-1")
        kept.ended("step", "import an SSH key", 0.25)
        kept.began("step", "bake with Packer")
        kept.phase("wait for SSH")
        kept.phase_end("wait for SSH", 6.04, "done")
        kept.phase("install on the instance")


def test_event_is_one_line_with_its_time(tmp_path: Path) -> None:
    journal_in(tmp_path).made("instance", "i-1")

    assert json.loads((tmp_path / journal.FILE).read_text()) == {
        "at": "2030-01-01T14:03:11.000+00:00",
        "event": "made",
        "kind": "instance",
        "id": "i-1",
    }


def test_events_are_read_back_in_their_order(tmp_path: Path) -> None:
    bake(journal_in(tmp_path))

    events = journal.read(tmp_path)

    assert [event.event for event in events] == [
        "run began", "step began", "made", "step ended", "step began",
        "phase began", "phase ended", "phase began", "run ended",
    ]  # fmt: skip
    assert events[0].facts == {
        "command": "build-ami",
        "target": "offline us-east-1",
        "options": {"source_ami": "", "flavor": "debian-12"},
        "versions": {"packer": "1.6.6"},
    }
    assert events[3].facts == {"name": "import an SSH key", "seconds": 0.25, "outcome": "done"}
    assert events[-1].facts == {"result": "done"}


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (ToolError("Packer failed: no GPU"), "failed"),
        (InterruptedRunError("Stopped as asked"), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_run_that_fails_says_so(tmp_path: Path, error: BaseException, result: str) -> None:
    with pytest.raises(type(error)), journal_in(tmp_path).run("build-ami", "offline", {}, {}):
        raise error

    assert journal.read(tmp_path)[-1].facts == {"result": result, "error": str(error) or "KeyboardInterrupt"}


def test_kill_after_an_event_does_not_lose_it(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        journal_in(tmp_path).began("step", "bake with Packer")
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)

    assert [event.facts["name"] for event in journal.read(tmp_path)] == ["bake with Packer"]


def test_torn_last_line_is_left_out_and_the_next_event_gets_a_line_of_its_own(tmp_path: Path) -> None:
    journal_in(tmp_path).made("instance", "i-1")
    with (tmp_path / journal.FILE).open("a") as file:
        file.write('{"at": "2030-01-01T14:0')

    assert [event.event for event in journal.read(tmp_path)] == ["made"]

    journal_in(tmp_path).reaped("invoke reap", "instance", "i-1")

    assert [event.event for event in journal.read(tmp_path)] == ["made", "unreadable", "reaped"]


@pytest.mark.parametrize("line", ["{", "[]", "7", "{}", '{"at": "x"}', "\x00\xff", '"text"'])
def test_line_that_is_no_event_is_reported_as_unreadable(tmp_path: Path, line: str) -> None:
    (tmp_path / journal.FILE).write_text(f"{line}\n", encoding="latin-1")

    assert [event.event for event in journal.read(tmp_path)] == ["unreadable"]


def test_folder_without_a_journal_has_no_events(tmp_path: Path) -> None:
    assert journal.read(tmp_path) == []
    assert journal.story([]) == []


def test_journal_that_is_a_folder_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / journal.FILE).mkdir()

    with pytest.raises(GpunodesError, match="cannot be read"):
        journal.read(tmp_path)


def test_disk_that_takes_no_more_is_told_once_and_the_run_goes_on() -> None:
    notices: list[str] = []
    kept = Journal(Path("/dev/full"), now=Now(), notice=notices.append)

    kept.made("instance", "i-1")
    kept.made("instance", "i-2")

    assert notices == ["the journal /dev/full cannot be written (No space left on device); the run goes on"]


def test_story_tells_where_a_run_was_killed(tmp_path: Path) -> None:
    kept = journal_in(tmp_path)
    bake(kept)
    events = journal.read(tmp_path)[:-1]  # kill -9 writes no end
    reaped = Event(
        "2030-01-02T15:00:00.000+00:00", "reaped", {"by": "invoke reap", "kind": "key pair", "id": "gpunodes-1"}
    )

    assert journal.story([*events, reaped]) == [
        "14:03:11 build-ami on offline us-east-1 began (flavor debian-12)",
        "14:03:13 made the key pair gpunodes-1",
        "14:03:14 import an SSH key done after 0.2 s",
        "14:03:15 bake with Packer began ... killed there",
        "14:03:17 wait for SSH done after 6.0 s",
        "14:03:18 install on the instance began ... killed there",
        "2030-01-02 15:00:00 invoke reap removed the key pair gpunodes-1",
    ]
    assert "14:03:15 bake with Packer began ... still going on" in journal.story(events, is_going_on=True)


def test_story_of_a_run_that_was_killed_between_two_steps_says_so() -> None:
    events = [
        Event("2030-01-01T14:03:11", "run began", {"command": "build-ami", "target": "aws"}),
        Event("2030-01-01T14:03:12", "step ended", {"name": "a", "seconds": 1, "outcome": "done"}),
    ]

    assert journal.story(events)[-1] == "14:03:12 killed there"


def test_story_of_a_phase_that_its_step_cut_short_is_no_killing() -> None:
    events = [
        Event("2030-01-01T14:03:11", "phase began", {"name": "wait for SSH"}),
        Event("2030-01-01T14:03:12", "step ended", {"name": "bake", "seconds": 1, "outcome": "failed"}),
        Event("2030-01-01T14:03:12", "run ended", {"result": "failed"}),
    ]

    assert journal.story(events) == ["14:03:12 bake failed after 1.0 s", "14:03:12 the run ended: failed"]


def test_story_of_a_run_without_a_journal_of_its_own_tells_who_removed_what_it_left() -> None:
    events = [Event("2030-01-01T14:03:11", "reaped", {"by": "invoke reap", "kind": "instance", "id": "i-1"})]

    assert journal.story(events) == ["14:03:11 invoke reap removed the instance i-1"]


def test_story_tells_errors_clean_ups_and_lines_that_cannot_be_read() -> None:
    events = [
        Event("2030-01-01T14:03:11", "run began", {"command": "build-ami", "target": "aws"}),
        Event("2030-01-01T14:03:12", "step began", {"name": "bake"}),
        Event("2030-01-01T14:03:13", "step ended", {"name": "bake", "seconds": 1, "outcome": "failed", "error": "no"}),
        Event("2030-01-01T14:03:14", "clean-up began", {"name": "clean up: bake"}),
        Event("2030-01-01T14:03:15", "clean-up ended", {"name": "clean up: bake", "seconds": 2.5, "outcome": "done"}),
        Event("", "unreadable", {"line": "{"}),
        Event("2030-01-01T14:03:16", "run ended", {"result": "failed", "error": "no GPU"}),
    ]  # fmt: skip

    assert journal.story(events) == [
        "14:03:11 build-ami on aws began",
        "14:03:13 bake failed after 1.0 s: no",
        "14:03:15 clean up: bake done after 2.5 s",
        "a line of the journal cannot be read",
        "14:03:16 the run ended: failed (no GPU)",
    ]


def test_event_reaches_the_disk_in_a_few_milliseconds(tmp_path: Path) -> None:
    kept = journal_in(tmp_path)
    taken = []
    for number in range(50):
        begin = time.perf_counter()
        kept.made("instance", f"i-{number}")
        taken.append(time.perf_counter() - begin)

    assert sorted(taken)[25] < 0.02  # a busy disk is slower than the 1 ms that it takes alone
