from __future__ import annotations

from collections.abc import Callable
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from rich.console import Console

from gpunodes.operation.progress import TerminalProgress
from tests.gpunodes.fakes import FakeClock

PHASE = "install on the instance"
USUAL = {"bake": 600.0, f"bake / {PHASE}": 252.0, "seal": 2.0}


class FakeTimer:
    """Timers that ring when the test says so."""

    def __init__(self) -> None:
        self.armed: list[Callable[[], None]] = []

    def __call__(self, _seconds: float, then: Callable[[], None]) -> FakeTimer:
        self.then = then
        return self

    def start(self) -> None:
        self.armed.append(self.then)

    def cancel(self) -> None:
        self.armed.clear()

    def ring(self) -> None:
        for then in list(self.armed):
            then()


def plain(timer: FakeTimer | None = None) -> tuple[TerminalProgress, StringIO]:
    out = StringIO()
    return TerminalProgress(Console(file=out, width=60), FakeClock(), timer or FakeTimer()), out


def terminal(width: int = 100) -> tuple[TerminalProgress, StringIO, FakeClock]:
    out, clock = StringIO(), FakeClock()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    return TerminalProgress(console, clock), out, clock


def kept_lines(out: StringIO) -> list[str]:
    """What stays on a terminal once the live part is gone."""
    return [line for line in out.getvalue().rpartition("\x1b[2K")[2].splitlines() if line.strip()]


def bake(progress: TerminalProgress, outcome: str = "done") -> None:
    progress.begin("bake")
    progress.phase("launch the instance")
    progress.phase_end("launch the instance", 1.5, "done")
    progress.phase(PHASE)
    progress.phase_end(PHASE, 200, outcome)
    progress.end("bake", 612, outcome)


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
        f"  ✓ {'bake [x]':<44}      12.3 s",
        f"  ✗ {'seal':<44}       0.5 s",
    ]


def test_log_gets_a_line_for_each_phase_below_the_step_that_has_it() -> None:
    progress, out = plain()
    progress.expect(USUAL)

    bake(progress, "failed")

    assert out.getvalue().splitlines() == [
        "  … bake (usually 10 min 00 s)",
        f"    ✓ {'launch the instance':<42}       1.5 s",
        f"    … {PHASE} (usually 4 min 12 s)",
        f"    ✗ {PHASE:<42}  3 min 20 s  usually 4 min 12 s",
        f"  ✗ {'bake':<44} 10 min 12 s  usually 10 min 00 s",
    ]


def test_log_does_not_stay_silent_in_a_step_that_takes_long_for_the_first_time() -> None:
    timer = FakeTimer()
    progress, out = plain(timer)

    progress.begin("build the wheelhouse")
    assert out.getvalue() == ""

    timer.ring()
    timer.ring()
    progress.end("build the wheelhouse", 45, "done")
    timer.ring()

    assert [line[:24] for line in out.getvalue().splitlines()] == [
        "  … build the wheelhouse",
        "  ✓ build the wheelhouse",
    ]


def test_timer_that_rings_too_late_says_nothing() -> None:
    timer = FakeTimer()
    progress, out = plain(timer)
    progress.begin("seal")
    ring = timer.armed[0]
    progress.end("seal", 29.99, "done")
    before = out.getvalue()

    ring()

    assert out.getvalue() == before


def test_step_of_a_moment_has_no_usual_time() -> None:
    progress, out = plain()
    progress.expect({"import a key": 0.2})

    progress.begin("import a key")
    progress.end("import a key", 0.1, "done")

    assert "usually" not in out.getvalue()


@pytest.mark.parametrize(("seconds", "usual"), [(1.24, "1.2 s"), (12.4, "12 s"), (59.6, "60 s"), (61, "1 min 01 s")])
def test_usual_time_is_as_exact_as_it_is_useful(seconds: float, usual: str) -> None:
    progress, out = plain()
    progress.expect({"seal": seconds})

    progress.begin("seal")
    progress.end("seal", 1, "done")

    assert f"usually {usual}" in out.getvalue()


def test_phase_outside_of_a_step_is_nothing_to_show() -> None:
    progress, out = plain()

    progress.phase("wait for SSH")
    progress.phase_end("wait for SSH", 1, "done")

    assert out.getvalue() == ""


def test_phase_that_its_step_cut_short_ends_with_it() -> None:
    progress, out = plain()

    progress.begin("bake")
    progress.phase("wait for SSH")
    progress.end("bake", 1, "failed")

    assert [line.split()[:2] for line in out.getvalue().splitlines()] == [["…", "bake"], ["✗", "wait"], ["✗", "bake"]]


def test_long_line_is_not_broken_in_a_log() -> None:
    progress, out = plain()

    progress.say(f"[kept] {'long ' * 40}end")

    assert out.getvalue() == f"  · [kept] {'long ' * 40}end\n"


def test_terminal_shows_the_running_step_its_detail_its_time_and_the_usual_one() -> None:
    progress, out, clock = terminal()
    progress.expect(USUAL)

    progress.begin("bake")
    progress.phase(PHASE)
    progress.detail("install-gpumon.sh")
    clock.wait(63)
    progress._live.refresh()  # type: ignore[union-attr]
    shown = [line.rstrip() for line in out.getvalue().splitlines()[-4:]]
    progress.end("bake", 7, "done")

    assert shown[0].endswith(f"{'bake':<44}  1 min 03 s  usually 10 min 00 s  ━─────────")
    assert shown[1] == f"    … {PHASE:<42}  1 min 03 s  usually 4 min 12 s   ━━────────"
    assert shown[2] == "          install-gpumon.sh"


def test_bar_is_full_when_a_step_takes_longer_than_usual() -> None:
    progress, out, clock = terminal()
    progress.expect(USUAL)

    progress.begin("seal")
    clock.wait(9)
    progress._live.refresh()  # type: ignore[union-attr]
    progress.end("seal", 9, "done")

    assert "━" * 10 in out.getvalue()
    assert "━" * 11 not in out.getvalue()


def test_terminal_keeps_a_line_for_the_step_and_for_each_of_its_phases() -> None:
    progress, out, _ = terminal()
    progress.expect(USUAL)

    bake(progress)

    assert kept_lines(out) == [
        f"  ✓ {'bake':<44} 10 min 12 s  usually 10 min 00 s",
        f"    ✓ {'launch the instance':<42}       1.5 s",
        f"    ✓ {PHASE:<42}  3 min 20 s  usually 4 min 12 s",
    ]
    assert progress._live is None


@pytest.mark.parametrize("width", [20, 40, 52, 60, 74, 80, 86, 100, 200])
def test_line_fits_the_terminal(width: int) -> None:
    progress, out, clock = terminal(width)
    progress.expect(USUAL)

    progress.begin("bake")
    progress.phase(PHASE)
    progress.detail("a detail " * 40)
    clock.wait(601)
    progress._live.refresh()  # type: ignore[union-attr]
    progress.end("bake", 601, "done")

    text = out.getvalue().replace("\x1b[2K", "\n").replace("\x1b[1A", "").replace("\r", "")
    lines = [line for line in text.replace("\x1b[?25l", "").replace("\x1b[?25h", "").splitlines() if line.strip()]
    assert max(len(line.rstrip()) for line in lines) <= max(width, 32)
    assert all("10 min 01 s" in line for line in lines[-2:])


@pytest.mark.parametrize(("width", "usual"), [(40, ""), (60, "~10 min 00 s"), (80, "usually 10 min 00 s")])
def test_narrow_terminal_leaves_out_what_matters_least(width: int, usual: str) -> None:
    progress, out, _ = terminal(width)
    progress.expect(USUAL)

    bake(progress)

    first = kept_lines(out)[0]
    assert first.startswith("  ✓ bake")
    assert first.endswith(f"10 min 12 s  {usual}" if usual else "10 min 12 s")


def test_name_that_does_not_fit_is_cut_with_a_sign() -> None:
    progress, out, _ = terminal(40)

    progress.begin("check tools, account and base image")
    progress.end("check tools, account and base image", 1, "done")

    assert kept_lines(out) == ["  ✓ check tools, account a…       1.0 s"]


def test_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = StringIO()
    progress = TerminalProgress(Console(file=out, force_terminal=True), FakeClock(), FakeTimer())

    bake(progress)

    assert "\x1b" not in out.getvalue()
    assert len(out.getvalue().splitlines()) == 4


def test_no_color_has_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = StringIO()
    progress = TerminalProgress(Console(file=out, force_terminal=True, width=80), FakeClock())

    bake(progress)

    assert "\x1b[3" not in out.getvalue()


def test_terminal_that_knows_ascii_only_gets_no_other_signs() -> None:
    raw = BytesIO()
    out = TextIOWrapper(raw, encoding="ascii", errors="strict", write_through=True)
    progress = TerminalProgress(Console(file=out, width=80), FakeClock(), FakeTimer())

    bake(progress)
    progress.say("kept")

    assert [line[:10] for line in raw.getvalue().decode("ascii").splitlines()] == [
        "  > bake", "    + laun", "    + inst", "  + bake  ", "  - kept",
    ]  # fmt: skip


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
