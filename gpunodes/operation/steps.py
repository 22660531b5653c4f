"""A long operation is a list of named steps, each with a clean-up: whatever happens, all that was begun is undone.

The shape is that of Packer's own builders: run in order, clean up in reverse.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from gpunodes.errors import GpunodesError, InterruptedRunError
from gpunodes.operation.journal import Journal

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CLEANING_UP = "cleaning up, a moment please"


class Progress(Protocol):
    """Told what is going on; see `progress.py` for the one that a person sees."""

    def begin(self, name: str) -> None:
        """A step starts."""

    def detail(self, text: str) -> None:
        """What the running step is doing."""

    def end(self, name: str, seconds: float, outcome: str) -> None:
        """A step ended: `done` or `failed`."""

    def phase(self, name: str) -> None:
        """A phase of the running step begins."""

    def phase_end(self, name: str, seconds: float, outcome: str) -> None:
        """It ended: `done` or `failed`."""

    def expect(self, usual_seconds: Mapping[str, float]) -> None:
        """How long steps and phases usually take: seconds by the names that `durations.Durations` gives them."""

    def say(self, text: str) -> None:
        """What a person must know, whatever else is shown."""


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: what a person reads, e.g. "bake with Packer".
        do: the work.
        clean_up: run at the end, last step first, for every step that was begun, even one that failed half way.
        phases: asked once the step was done, for how long its parts took.
    """

    name: str
    do: Callable[[], object]
    clean_up: Callable[[], None] | None = None
    phases: Callable[[], Sequence[Timing]] | None = None


@dataclass(frozen=True)
class Timing:
    """How long a step took, and its phases within it.

    Attributes:
        name: of the step or phase.
        seconds: its own; those of its phases are part of them.
        phases: in their order; empty for a step without.
    """

    name: str
    seconds: float
    phases: tuple[Timing, ...] = ()


def run_steps(
    steps: list[Step],
    progress: Progress,
    *,
    keep: bool = False,
    clock: Callable[[], float] = time.monotonic,
    journal: Journal | None = None,
    timings: list[Timing] | None = None,
    remedy: str = "run `invoke destroy`",
) -> list[Timing]:
    """Run the steps in order and clean up.

    Args:
        steps: in the order in which they depend on each other.
        progress: told about each.
        keep: leave out the clean-up when every step was done.
        clock: seconds, monotonic.
        journal: gets a line for each step and clean-up that begins, and one when it ends.
        timings: filled as steps end, so that a later step can read what those before it took; also returned.
        remedy: what a person does about a clean-up that failed.

    Raises:
        InterruptedRunError: on Ctrl-C, SIGTERM or a closed terminal, after the clean-up.
        GpunodesError: the first error of a step, after the clean-up; or that of the clean-up where the steps were done.
            Where a clean-up failed it is of that very class, for something was changed, and names the remedy.
    """
    timings = [] if timings is None else timings
    begun: list[Step] = []
    failures: list[Exception] = []
    watch = _Watch(progress, clock, journal)
    with _stop_signals_interrupt(progress):
        try:
            for step in steps:
                begun.append(step)
                timings.append(watch.time("step", step.name, step.do, step.phases))
        except KeyboardInterrupt as error:
            failures = _clean_up(begun, watch, timings)
            left = f"{remedy} for what could not be" if failures else "what this run made is"
            raise InterruptedRunError(f"Stopped as asked; {left} removed.") from error
        except BaseException as error:
            failures = _clean_up(begun, watch, timings)
            if failures and isinstance(error, GpunodesError):
                raise _not_all_removed(error, remedy) from error
            raise
        if not keep:
            failures = _clean_up(begun, watch, timings)
    if failures:
        raise _not_all_removed(failures[0], remedy) from failures[0]
    return timings


def _not_all_removed(error: Exception, remedy: str) -> GpunodesError:
    return GpunodesError(f"{str(error).rstrip('.')}; {remedy} for what could not be removed.")


def _clean_up(begun: list[Step], watch: _Watch, timings: list[Timing]) -> list[Exception]:
    """Clean up every step; a clean-up that fails does not keep the others from theirs. Returns what failed."""
    failures: list[Exception] = []
    with _stop_signals_ignored(watch.progress):
        for step in reversed(begun):
            if step.clean_up is None:
                continue
            name = f"clean up: {step.name}"
            try:
                timings.append(watch.time("clean-up", name, step.clean_up))
            except Exception as error:  # noqa: BLE001 - whatever it is, the other clean-ups come first
                watch.progress.say(f"{name}: {error}")
                failures.append(error)
    return failures


@dataclass(frozen=True)
class _Watch:
    """Times steps and clean-ups, and tells of them."""

    progress: Progress
    clock: Callable[[], float]
    journal: Journal | None

    def time(
        self,
        kind: str,
        name: str,
        work: Callable[[], object],
        phases: Callable[[], Sequence[Timing]] | None = None,
    ) -> Timing:
        if self.journal is not None:
            self.journal.began(kind, name)
        self.progress.begin(name)
        begin = self.clock()
        try:
            work()
        except BaseException as error:
            seconds = self.clock() - begin
            self.progress.end(name, seconds, "failed")
            if self.journal is not None:
                self.journal.ended(kind, name, seconds, error)
            raise
        seconds = self.clock() - begin
        self.progress.end(name, seconds, "done")
        if self.journal is not None:
            self.journal.ended(kind, name, seconds)
        return Timing(name, seconds, tuple(phases()) if phases else ())


@contextmanager
def _stop_signals_interrupt(progress: Progress) -> Iterator[None]:
    """SIGTERM and a closed terminal end a run like Ctrl-C, once: a second one would tear Terraform from its state."""
    heard: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        heard.append(number)
        progress.detail(_CLEANING_UP)
        if len(heard) == 1:
            progress.say(_CLEANING_UP)
            raise KeyboardInterrupt

    with _handling(interrupt):
        yield


@contextmanager
def _stop_signals_ignored(progress: Progress) -> Iterator[None]:
    def answer(_number: int, _frame: FrameType | None) -> None:
        progress.detail(_CLEANING_UP)

    with _handling(answer):
        yield


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    # A signal that is ignored stays so: under `nohup` a closed terminal must not end a run.
    heard = [number for number in _STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
