"""How long each step took before, so that a person knows how long it usually takes.

Kept for each target and command, of runs that succeeded. It is a convenience: whatever is wrong with the file, a run
goes on without it.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median

from gpunodes.operation.steps import Timing

FILE = "durations.json"
KEPT_RUNS = 20

_Runs = dict[str, list[dict[str, float]]]


def phase_key(step: str, phase: str) -> str:
    """Under which name a phase is kept: two steps may have phases of the same name."""
    return f"{step} / {phase}"


class Durations:
    """The durations of earlier runs, in one JSON file: for each "target command" a list of runs, oldest first."""

    def __init__(self, path: Path, notice: Callable[[str], None]) -> None:
        self._path = path
        self._notice = notice

    def typical(self, target: str, command: str) -> dict[str, float]:
        """Median seconds of each step, and of each phase under `phase_key`; empty before the first run."""
        seconds: dict[str, list[float]] = {}
        for run in self._read().get(f"{target} {command}", []):
            for name, value in run.items():
                seconds.setdefault(name, []).append(value)
        return {name: median(values) for name, values in seconds.items()}

    def remember(self, target: str, command: str, timings: Sequence[Timing]) -> None:
        """Keep the timings of a run that succeeded; the last 20 count."""
        run = {}
        for timing in timings:
            run[timing.name] = round(timing.seconds, 3)
            run |= {phase_key(timing.name, phase.name): round(phase.seconds, 3) for phase in timing.phases}
        runs = self._read()
        key = f"{target} {command}"
        runs[key] = [*runs.get(key, []), run][-KEPT_RUNS:]
        self._write(runs)

    def _read(self) -> _Runs:
        try:
            return _checked(json.loads(self._path.read_text()))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is damaged"
            self._notice(f"the durations of earlier runs in {self._path} cannot be read ({reason}); starting anew")
            return {}

    def _write(self, runs: _Runs) -> None:
        """Write beside the file and rename: another run sees the old one or the new one, never a half."""
        beside: Path | None = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, prefix=self._path.name, delete=False) as file:
                beside = Path(file.name)
                json.dump(runs, file)
            beside.replace(self._path)
        except OSError as error:
            self._notice(f"how long this run took cannot be kept in {self._path} ({error.strerror})")
            if beside is not None:
                with suppress(OSError):
                    beside.unlink()


def _checked(document: object) -> _Runs:
    """The document, when it has the shape that this module writes.

    Raises:
        ValueError: it has another.
    """
    if not isinstance(document, Mapping):
        raise ValueError("no object")  # noqa: TRY004 - any damage is one kind of error here
    runs: _Runs = {}
    for key, kept in document.items():
        if not isinstance(kept, list) or not all(isinstance(run, Mapping) for run in kept):
            raise ValueError(key)
        runs[str(key)] = [{str(name): _seconds(value) for name, value in run.items()} for run in kept]
    return runs


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(value)
    return float(value)
