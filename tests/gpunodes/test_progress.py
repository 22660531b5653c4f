from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from gpunodes.progress import TerminalProgress
from tests.gpunodes.fakes import FakeClock


def plain() -> tuple[TerminalProgress, StringIO]:
    out = StringIO()
    return TerminalProgress(Console(file=out, width=60), FakeClock()), out


def terminal() -> tuple[TerminalProgress, StringIO, FakeClock]:
    out, clock = StringIO(), FakeClock()
    return TerminalProgress(Console(file=out, width=100, force_terminal=True), clock), out, clock


def test_log_gets_one_plain_line_for_each_step() -> None:
    progress, out = plain()

    progress.title("build-ami")
    progress.begin("bake [x]")
    progress.detail("launching")
    progress.end("bake [x]", 12.34, "done")
    progress.begin("seal")
    progress.end("seal", 0.5, "failed")

    assert out.getvalue().splitlines() == [
        "build-ami",
        f"  ✓ {'bake [x]':<44}   12.3 s",
        f"  ✗ {'seal':<44}    0.5 s",
    ]


def test_long_line_is_not_broken_in_a_log() -> None:
    progress, out = plain()

    progress.say(f"[kept] {'long ' * 40}end")

    assert out.getvalue() == f"  · [kept] {'long ' * 40}end\n"


def test_terminal_shows_the_running_step_its_detail_and_its_time() -> None:
    progress, out, clock = terminal()

    progress.begin("bake")
    progress.detail("launching an instance")
    clock.wait(7)
    progress._live.refresh()  # type: ignore[union-attr]
    shown = out.getvalue()
    progress.end("bake", 7, "done")

    assert "bake  launching an instance" in shown
    assert "7.0 s" in shown


def test_terminal_keeps_one_line_for_a_step_that_ended() -> None:
    progress, out, _ = terminal()

    progress.begin("bake")
    progress.end("bake", 7, "done")
    last = out.getvalue().rstrip("\n").rpartition("\n")[2]

    assert "✓" in last
    assert progress._live is None


def test_detail_of_a_step_is_not_shown_with_the_next() -> None:
    progress, out, _ = terminal()
    progress.begin("one")
    progress.detail("first things")
    progress.end("one", 1, "done")
    before = len(out.getvalue())

    progress.begin("two")
    progress.end("two", 1, "done")

    assert "two" in out.getvalue()[before:]
    assert "first things" not in out.getvalue()[before:]


def test_standard_output_stays_free_for_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    progress = TerminalProgress()

    progress.title("build-ami")
    progress.begin("bake")
    progress.end("bake", 1, "done")
    progress.say("a word")

    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 3
