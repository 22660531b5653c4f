"""What a person sees while a run goes on: the running step and its time on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

_MARK = {"done": ("✓", "green"), "failed": ("✗", "red")}


class TerminalProgress:
    """Everything goes to standard error, so that standard output carries the result alone."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._clock = clock
        self._live: Live | None = None
        self._spinner = Spinner("dots", style="cyan")
        self._name = ""
        self._begin = 0.0
        self._detail = ""

    def begin(self, name: str) -> None:
        """Show the step as running."""
        self._name, self._begin, self._detail = name, self._clock(), ""
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._running, console=self._console, refresh_per_second=8, transient=True)
            self._live.start()

    def detail(self, text: str) -> None:
        """Show what the step is doing; on a terminal behind its name, else not at all: logs stay short."""
        self._detail = text

    def end(self, name: str, seconds: float, outcome: str) -> None:
        """Leave one line for the step."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        mark, colour = _MARK[outcome]
        line = Text.assemble((f"  {mark} ", colour), f"{name:<44}", (f"{seconds:7.1f} s", "dim"))
        self._console.print(line, soft_wrap=True)

    def say(self, text: str) -> None:
        """A line of its own, for what happens outside of steps."""
        self._console.print(f"  · {text}", markup=False, soft_wrap=True)

    def title(self, text: str) -> None:
        """The heading of a run."""
        self._console.print(Text(text, style="bold"), soft_wrap=True)

    def _running(self) -> Spinner:
        seconds = self._clock() - self._begin
        detail = f"  {self._detail}" if self._detail else ""
        width = max(20, self._console.width - 24)
        text = f"{self._name}{detail}"
        self._spinner.update(text=Text(f" {text[:width]:<{min(width, 44)}} {seconds:7.1f} s"))
        return self._spinner  # the same one each time, for a new one would stand still
