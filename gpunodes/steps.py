"""A long operation is a list of named steps, each with a clean-up: whatever happens, all that was begun is undone.

The shape is that of Packer's own builders: run in order, clean up in reverse.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from gpunodes.errors import GpunodesError, InterruptedRunError


class Progress(Protocol):
    """Told what is going on; see `progress.py` for the one that a person sees."""

    def begin(self, name: str) -> None:
        """A step starts."""

    def detail(self, text: str) -> None:
        """What the running step is doing."""

    def end(self, name: str, seconds: float, outcome: str) -> None:
        """A step ended: `done`, `failed` or `cleaned up`."""


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: what a person reads, e.g. "bake with Packer".
        do: the work.
        clean_up: run at the end, last step first, for every step that was begun, even one that failed half way.
    """

    name: str
    do: Callable[[], None]
    clean_up: Callable[[], None] | None = None


@dataclass(frozen=True)
class Timing:
    """How long a step took."""

    name: str
    seconds: float


def run_steps(
    steps: list[Step], progress: Progress, *, keep: bool = False, clock: Callable[[], float] = time.monotonic
) -> list[Timing]:
    """Run the steps in order and clean up.

    Args:
        steps: in the order in which they depend on each other.
        progress: told about each.
        keep: leave out the clean-up when every step was done.
        clock: seconds, monotonic.

    Raises:
        InterruptedRunError: on Ctrl-C, SIGTERM or a closed terminal, after the clean-up.
        GpunodesError: the first error of a step, after the clean-up; or that of the clean-up where the steps were done.
    """
    timings: list[Timing] = []
    begun: list[Step] = []
    finished = False
    with _stop_signals_interrupt():
        try:
            for step in steps:
                begun.append(step)
                timings.append(_timed(step.name, step.do, progress, "done", clock))
            finished = True
        except KeyboardInterrupt as error:
            raise InterruptedRunError("Stopped as asked; what this run made is removed.") from error
        finally:
            if not (keep and finished):
                timings += _clean_up(begun, progress, clock, quiet=not finished)
    return timings


def _clean_up(begun: list[Step], progress: Progress, clock: Callable[[], float], *, quiet: bool) -> list[Timing]:
    """Clean up every step; a clean-up that fails does not keep the others from theirs."""
    timings, failures = [], []
    with _stop_signals_ignored(progress):
        for step in reversed(begun):
            if step.clean_up is None:
                continue
            name = f"clean up: {step.name}"
            try:
                timings.append(_timed(name, step.clean_up, progress, "done", clock))
            except GpunodesError as error:
                progress.detail(str(error))
                failures.append(error)
    if failures and not quiet:
        raise failures[0]
    return timings


def _timed(name: str, work: Callable[[], None], progress: Progress, outcome: str, clock: Callable[[], float]) -> Timing:
    progress.begin(name)
    begin = clock()
    try:
        work()
    except BaseException:
        progress.end(name, clock() - begin, "failed")
        raise
    seconds = clock() - begin
    progress.end(name, seconds, outcome)
    return Timing(name, seconds)


@contextmanager
def _stop_signals_interrupt() -> Iterator[None]:
    """SIGTERM and a closed terminal end a run as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling((signal.SIGTERM, signal.SIGHUP), interrupt):
        yield


@contextmanager
def _stop_signals_ignored(progress: Progress) -> Iterator[None]:
    def answer(_number: int, _frame: FrameType | None) -> None:
        progress.detail("cleaning up, a moment please")

    with _handling((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), answer):
        yield


@contextmanager
def _handling(numbers: tuple[signal.Signals, ...], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
