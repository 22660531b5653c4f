from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gpunodes.errors import AwsError, GpunodesError, InterruptedRunError, PreflightError, ToolError
from gpunodes.operation import journal as journals
from gpunodes.operation.journal import Event
from gpunodes.operation.steps import Step, Timing, run_steps
from tests.gpunodes.fakes import FakeClock, RecordingProgress, raising

STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class Journal:
    """Steps that write down what they do."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, name: str, do: Callable[[], None] | None = None, clean_up: Callable[[], None] | None = None) -> Step:
        return Step(name, self._note(f"do {name}", do), self._note(f"undo {name}", clean_up))

    def _note(self, line: str, then: Callable[[], None] | None) -> Callable[[], None]:
        def work() -> None:
            self.lines.append(line)
            if then is not None:
                then()

        return work


@pytest.fixture
def journal() -> Journal:
    return Journal()


@contextmanager
def handler(number: signal.Signals, action: signal.Handlers) -> Iterator[None]:
    before = signal.signal(number, action)
    try:
        yield
    finally:
        signal.signal(number, before)


def send(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def test_steps_run_in_order_and_clean_up_in_reverse(journal: Journal) -> None:
    run_steps([journal.step("a"), journal.step("b"), Step("c", lambda: None)], RecordingProgress())

    assert journal.lines == ["do a", "do b", "undo b", "undo a"]


def test_every_step_and_clean_up_is_timed_and_told() -> None:
    clock, progress = FakeClock(), RecordingProgress()

    timings = run_steps([Step("a", lambda: clock.wait(2), lambda: clock.wait(3))], progress, clock=clock)

    assert timings == [Timing("a", 2), Timing("clean up: a", 3)]
    assert progress.events == ["begin a", "end a 2 done", "begin clean up: a", "end clean up: a 3 done"]


def test_step_that_failed_is_cleaned_up_and_later_ones_are_not_begun(journal: Journal) -> None:
    steps = [journal.step("a"), journal.step("b", raising(ToolError("b broke"))), journal.step("c")]

    with pytest.raises(ToolError, match="b broke"):
        run_steps(steps, RecordingProgress())

    assert journal.lines == ["do a", "do b", "undo b", "undo a"]


@pytest.mark.parametrize("error", [AwsError("refused"), OSError("disk full")])
def test_clean_up_that_fails_does_not_keep_the_others_from_theirs(journal: Journal, error: Exception) -> None:
    progress = RecordingProgress()

    with pytest.raises(GpunodesError, match=f"{error}; run `invoke destroy` for what could not be removed"):
        run_steps([journal.step("a"), journal.step("b", clean_up=raising(error))], progress)

    assert journal.lines == ["do a", "do b", "undo b", "undo a"]
    assert f"say clean up: b: {error}" in progress.events


def test_first_clean_up_error_is_the_one_that_is_raised(journal: Journal) -> None:
    steps = [
        journal.step("a", clean_up=raising(ToolError("second"))),
        journal.step("b", clean_up=raising(ToolError("first"))),
    ]

    with pytest.raises(GpunodesError, match="first"):
        run_steps(steps, RecordingProgress())


def test_error_of_a_step_wins_over_that_of_a_clean_up_and_both_are_told(journal: Journal) -> None:
    progress = RecordingProgress()
    step = journal.step("a", raising(ToolError("a broke")), raising(AwsError("a stays")))

    with pytest.raises(GpunodesError, match="a broke; run `invoke reap` for what could not be removed"):
        run_steps([step], progress, remedy="run `invoke reap`")

    assert "say clean up: a: a stays" in progress.events


def test_login_that_ends_before_the_clean_up_is_no_failed_preflight(journal: Journal) -> None:
    ended = raising(PreflightError("AWS does not accept the credentials; log in again and repeat."))

    with pytest.raises(GpunodesError, match=r"log in again and repeat; run `invoke destroy` for what") as caught:
        run_steps([journal.step("a", ended, ended)], RecordingProgress())

    assert caught.value.exit_code == 3
    assert not isinstance(caught.value, PreflightError), "its run's folder would be forgotten"


def test_kept_run_is_not_cleaned_up(journal: Journal) -> None:
    run_steps([journal.step("a")], RecordingProgress(), keep=True)

    assert journal.lines == ["do a"]


def test_failed_run_is_cleaned_up_even_if_it_was_to_be_kept(journal: Journal) -> None:
    with pytest.raises(ToolError):
        run_steps([journal.step("a", raising(ToolError("broke")))], RecordingProgress(), keep=True)

    assert journal.lines == ["do a", "undo a"]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_stop_signal_ends_the_run_after_its_clean_up(journal: Journal, number: signal.Signals) -> None:
    steps = [journal.step("a"), journal.step("b", send(number)), journal.step("c")]

    with pytest.raises(InterruptedRunError, match="what this run made is removed") as caught:
        run_steps(steps, RecordingProgress(), keep=True)

    assert caught.value.exit_code == 130
    assert journal.lines == ["do a", "do b", "undo b", "undo a"]


def test_interrupted_run_says_when_something_is_left(journal: Journal) -> None:
    step = journal.step("a", send(signal.SIGTERM), raising(AwsError("refused")))

    with pytest.raises(InterruptedRunError, match="run `invoke destroy` for what could not be removed"):
        run_steps([step], RecordingProgress())
    with pytest.raises(InterruptedRunError, match="run `invoke reap` for what could not be removed"):
        run_steps([step], RecordingProgress(), remedy="run `invoke reap`")


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_stop_signal_does_not_cut_a_clean_up_short(journal: Journal, number: signal.Signals) -> None:
    progress = RecordingProgress()

    run_steps([journal.step("a"), journal.step("b", clean_up=send(number))], progress)

    assert journal.lines[-2:] == ["undo b", "undo a"]
    assert "detail cleaning up, a moment please" in progress.events


def test_second_stop_signal_does_not_cut_a_step_short_that_winds_up(journal: Journal) -> None:
    def wind_up() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGINT)
            journal.lines.append("wound up")
            raise

    with pytest.raises(InterruptedRunError):
        run_steps([journal.step("a", wind_up)], RecordingProgress())

    assert journal.lines == ["do a", "wound up", "undo a"]


@pytest.mark.parametrize("fails", [False, True])
def test_signal_handlers_are_restored(journal: Journal, fails: bool) -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]

    if fails:
        with pytest.raises(InterruptedRunError):
            run_steps([journal.step("a", send(signal.SIGTERM))], RecordingProgress())
    else:
        run_steps([journal.step("a")], RecordingProgress())

    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_signal_that_is_ignored_stays_ignored_as_under_nohup(journal: Journal) -> None:
    with handler(signal.SIGHUP, signal.SIG_IGN):
        run_steps([journal.step("a", send(signal.SIGHUP)), journal.step("b")], RecordingProgress())

    assert journal.lines == ["do a", "do b", "undo b", "undo a"]


def kept(folder: Path, steps: list[Step]) -> list[Event]:
    """What the journal of a run has, whatever becomes of the run."""
    with suppress(GpunodesError):
        run_steps(steps, RecordingProgress(), clock=FakeClock(), journal=journals.Journal(folder / journals.FILE))
    return journals.read(folder)


def test_journal_gets_a_line_before_and_after_each_step_and_clean_up(tmp_path: Path) -> None:
    events = kept(tmp_path, [Step("a", lambda: None, lambda: None), Step("b", lambda: None)])

    assert [(event.event, event.facts["name"]) for event in events] == [
        ("step began", "a"),
        ("step ended", "a"),
        ("step began", "b"),
        ("step ended", "b"),
        ("clean-up began", "clean up: a"),
        ("clean-up ended", "clean up: a"),
    ]
    assert events[1].facts == {"name": "a", "seconds": 0, "outcome": "done"}


def test_journal_says_what_went_wrong_in_a_step_and_in_a_clean_up(tmp_path: Path) -> None:
    events = kept(tmp_path, [Step("a", raising(ToolError("no GPU")), raising(AwsError("refused")))])

    ended = [event.facts for event in events if event.event.endswith("ended")]
    assert ended == [
        {"name": "a", "seconds": 0, "outcome": "failed", "error": "no GPU"},
        {"name": "clean up: a", "seconds": 0, "outcome": "failed", "error": "refused"},
    ]


def test_journal_says_that_a_step_was_interrupted(tmp_path: Path) -> None:
    events = kept(tmp_path, [Step("a", send(signal.SIGTERM))])

    assert events[1].facts["outcome"] == "interrupted"


def test_step_begins_in_the_journal_before_it_does_anything(tmp_path: Path) -> None:
    seen: list[str] = []

    kept(tmp_path, [Step("a", lambda: seen.extend(event.event for event in journals.read(tmp_path)))])

    assert seen == ["step began"]


def test_phases_of_a_step_are_part_of_its_timing() -> None:
    phases = [Timing("wait for SSH", 6), Timing("make the image", 1)]

    timings = run_steps([Step("bake", lambda: None, phases=lambda: phases)], RecordingProgress(), clock=FakeClock())

    assert timings == [Timing("bake", 0, tuple(phases))]


def test_step_can_read_what_those_before_it_took() -> None:
    clock, timings, seen = FakeClock(), list[Timing](), list[Timing]()
    steps = [Step("a", lambda: clock.wait(2)), Step("b", lambda: seen.extend(timings))]

    assert run_steps(steps, RecordingProgress(), clock=clock, timings=timings) is timings
    assert seen == [Timing("a", 2)]
