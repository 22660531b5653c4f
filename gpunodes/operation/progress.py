"""What a person sees while a run goes on: steps with their phases, times and usual times on a terminal, else lines.

On a terminal the running step and its phases are drawn anew as time passes, and stay as lines once the step is done. In
a log each step and phase leaves one line when it ends, and one when it begins if it takes longer than 30 s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from gpunodes.operation.durations import phase_key

QUIET_SECONDS = 30.0  # longer than this a log does not stay silent
_WORTH_SAYING_SECONDS = 1.0
_EXACT_SECONDS = 10.0  # tenths of a second say something up to here
_NAME_WIDTH = 44
_TIME_WIDTH = 12
_BAR_WIDTH = 10
_COLOURS = {"done": "green", "failed": "red"}


@dataclass(frozen=True)
class _Signs:
    """Characters to draw with."""

    done: str
    failed: str
    running: str
    note: str
    bar: str
    spinner: str
    cut: str


@dataclass(frozen=True)
class _Layout:
    """What fits on a line of a terminal.

    Attributes:
        from_width: columns of the terminal.
        usual: how the usual time is put.
        usual_width: columns that it takes.
        bar_width: columns of the bar.
    """

    from_width: int
    usual: str = ""
    usual_width: int = 0
    bar_width: int = 0

    def name_width(self, width: int) -> int:
        """Columns that are left for the name, its indent and its sign."""
        return min(_NAME_WIDTH + 4, max(14, width - 1 - _TIME_WIDTH - self.usual_width - self.bar_width))


_LOG = _Layout(0, "  usually {}")
_LAYOUTS = (
    _Layout(86, "  usually {}", usual_width=21, bar_width=_BAR_WIDTH + 2),
    _Layout(74, "  usually {}", usual_width=21),
    _Layout(52, "  ~{}", usual_width=13),
    _Layout(0),
)
_UNICODE = _Signs("✓", "✗", "…", "·", "━─", "dots", "…")
_ASCII = _Signs("+", "x", ">", "-", "=-", "line", "...")


class Timer(Protocol):
    """What `threading.Timer` has."""

    def start(self) -> None:
        """Begin to count."""

    def cancel(self) -> None:
        """Do nothing after all."""


def _thread_timer(seconds: float, then: Callable[[], None]) -> Timer:
    timer = threading.Timer(seconds, then)
    timer.daemon = True
    return timer


@dataclass
class _Part:
    """A step or a phase as it is shown."""

    name: str
    begin: float
    usual_seconds: float | None
    depth: int
    seconds: float | None = None
    outcome: str = "done"
    is_announced: bool = False
    phases: list[_Part] = field(default_factory=list)
    timer: Timer | None = None

    @property
    def is_running(self) -> bool:
        return self.seconds is None

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


class TerminalProgress:
    """Everything goes to standard error, so that standard output carries the result alone."""

    def __init__(
        self,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        timer: Callable[[float, Callable[[], None]], Timer] = _thread_timer,
    ) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._clock = clock
        self._timer = timer
        self._signs = _UNICODE if self._console.encoding.lower().startswith("utf") else _ASCII
        self._spinner = Spinner(self._signs.spinner, style="cyan")
        self._usual: Mapping[str, float] = {}
        self._live: Live | None = None
        self._step: _Part | None = None
        self._detail = ""

    def expect(self, usual_seconds: Mapping[str, float]) -> None:
        """Show how long steps and phases usually take: seconds by name of the step or `durations.phase_key`."""
        self._usual = usual_seconds

    def begin(self, name: str) -> None:
        """Show the step as running."""
        self._detail = ""
        self._step = _Part(name, self._clock(), self._usual.get(name), depth=0)
        if self._console.is_interactive:
            self._live = Live(get_renderable=self._running, console=self._console, refresh_per_second=8, transient=True)
            self._live.start()
        else:
            self._break_silence_later(self._step)

    def detail(self, text: str) -> None:
        """Show what the step is doing; on a terminal behind its name, else not at all: logs stay short."""
        self._detail = text

    def phase(self, name: str) -> None:
        """Show a phase of the running step, indented below it."""
        if self._step is None:
            return
        self._detail = ""
        usual_seconds = self._usual.get(phase_key(self._step.name, name))
        phase = _Part(name, self._clock(), usual_seconds, depth=1)
        self._step.phases.append(phase)
        if self._live is None:
            self._announce(self._step)
            self._break_silence_later(phase)

    def phase_end(self, name: str, seconds: float, outcome: str) -> None:
        """Leave one line for the phase."""
        phases = self._step.phases if self._step else []
        for phase in phases:
            if phase.name == name and phase.is_running:
                self._end(phase, seconds, outcome)

    def end(self, name: str, seconds: float, outcome: str) -> None:
        """Leave one line for the step."""
        step, self._step = self._step or _Part(name, 0, None, depth=0), None
        for phase in step.phases:
            if phase.is_running:
                self._end(phase, self._clock() - phase.begin, outcome)
        live, self._live = self._live, None
        self._end(step, seconds, outcome)
        if live is not None:
            live.stop()
            for part in (step, *step.phases):
                self._print(self._line(part))

    def say(self, text: str) -> None:
        """A line of its own, for what happens outside of steps."""
        self._console.print(f"  {self._signs.note} {text}", markup=False, soft_wrap=True)

    def title(self, text: str) -> None:
        """The heading of a run."""
        self._console.print(Text(text, style="bold"), soft_wrap=True)

    def _end(self, part: _Part, seconds: float, outcome: str) -> None:
        part.stop_timer()
        part.seconds, part.outcome = seconds, outcome
        if not self._console.is_interactive:
            self._print(self._line(part))

    def _break_silence_later(self, part: _Part) -> None:
        if (part.usual_seconds or 0) > QUIET_SECONDS:
            self._announce(part)
        else:
            part.timer = self._timer(QUIET_SECONDS, lambda: self._announce(part))
            part.timer.start()

    def _announce(self, part: _Part) -> None:
        """Say in a log that something long goes on; once."""
        part.stop_timer()
        if part.is_announced or not part.is_running:
            return
        part.is_announced = True
        usual = f" (usually {_rounded(part.usual_seconds)})" if part.usual_seconds else ""
        self._print(Text(f"{_indent(part)}{self._signs.running} {part.name}{usual}"))

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)

    def _running(self) -> RenderableType:
        step = self._step
        if step is None:
            return Text("")
        lines = [self._line(part) for part in (step, *step.phases)]
        if self._detail:
            indent = _indent(step) + "    " * (2 if step.phases else 1)
            lines.append(Text(self._cut(f"{indent}{self._detail}", self._console.width - 1), style="dim"))
        return Group(*lines)

    def _line(self, part: _Part) -> Text:
        """One line for a step or a phase: sign, name, time and usual time, as far as there is room."""
        width, layout = self._console.width, _LOG
        if self._console.is_interactive:
            layout = next(layout for layout in _LAYOUTS if width >= layout.from_width)
        name_width = (_NAME_WIDTH + 4 if layout is _LOG else layout.name_width(width)) - len(_indent(part)) - 2
        name = part.name if layout is _LOG else self._cut(part.name, name_width)
        seconds = self._clock() - part.begin if part.seconds is None else part.seconds
        line = Text.assemble(_indent(part), self._sign(part), f" {name:<{name_width}}")
        line.append(f"{_duration(seconds, '.1f'):>{_TIME_WIDTH}}", "dim")
        usual_seconds = part.usual_seconds
        if layout.usual and usual_seconds is not None and max(usual_seconds, seconds) >= _WORTH_SAYING_SECONDS:
            usual = layout.usual.format(_rounded(usual_seconds))
            line.append(usual, "dim")
            if part.is_running and layout.bar_width:
                filled = round(_BAR_WIDTH * min(1.0, seconds / max(usual_seconds, 0.1)))
                line.append(" " * (layout.usual_width - len(usual) + 2))
                line.append(self._signs.bar[0] * filled, "cyan")
                line.append(self._signs.bar[1] * (_BAR_WIDTH - filled), "dim")
        return line

    def _sign(self, part: _Part) -> Text:
        if not part.is_running:
            return Text(getattr(self._signs, part.outcome), _COLOURS[part.outcome])
        if part.depth:
            return Text(self._signs.running, "cyan")
        sign = self._spinner.render(self._console.get_time())  # the same spinner each time, for a new one stands still
        return sign if isinstance(sign, Text) else Text(self._signs.running)

    def _cut(self, text: str, width: int) -> str:
        return text if len(text) <= width else text[: width - len(self._signs.cut)] + self._signs.cut


def _indent(part: _Part) -> str:
    return "    " if part.depth else "  "


def _duration(seconds: float, form: str) -> str:
    if seconds < 60:
        return f"{seconds:{form}} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def _rounded(seconds: float) -> str:
    return _duration(seconds, ".1f" if seconds < _EXACT_SECONDS else ".0f")
