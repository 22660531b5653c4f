"""One proof of a matrix: `invoke test-instance` as a process of its own, what it says and how it ended."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gpunodes import commands
from gpunodes.proof.matrix_fallback import Place
from gpunodes.settings import REPOSITORY

_EXIT_PASSED = 0
_EXIT_FAILED = 1
# Its log is read by us: no drawing, and the same signs whatever the locale.
_ENVIRONMENT = {"PYTHONIOENCODING": "utf-8", "FORCE_COLOR": "", "NO_COLOR": "1"}
_WORTH_SAYING = re.compile(r"  [✓✗…] |  · clean up")  # steps, and clean-ups that failed; neither phases nor notes
_TITLE = "test-instance"
_ERROR = "error: "
_FAILING = (_ERROR, "Traceback ")  # from there on every line belongs to it
_RUN = re.compile(r"\b\d{8}-\d{6}-[0-9a-f]{4}\b")


class Process(Protocol):
    """A program that was started; `commands.Background` is one."""

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it goes on."""

    def new_lines(self) -> list[str]:
        """What it wrote to standard error since the last call."""

    def output(self) -> str:
        """Its standard output."""

    def terminate(self) -> None:
        """Send it SIGTERM."""

    def kill(self) -> None:
        """End it at once."""


class Start(Protocol):
    """Starts a program; `commands.start` does."""

    def __call__(self, argv: Sequence[str], *, output: Path, log: Path, env: Mapping[str, str], cwd: Path) -> Process:
        """As `commands.start`."""


@dataclass(frozen=True)
class Outcome:
    """How a proof ended.

    Attributes:
        result: `passed`, `failed`, or `error` where it could not be made.
        reason: one sentence; empty where it passed.
        exit_code: of the process, negative for a signal.
        evidence: the file of the proof; None where it wrote none.
    """

    result: str
    reason: str
    exit_code: int
    evidence: Path | None = None


@dataclass
class Child:
    """A proof while it runs.

    Attributes:
        place: what it runs on.
        process: of it.
        log: what it says, whole.
        say: told the begin and end of its steps and every line of an error, with the place in front.
        run_id: of the proof; empty until it said so.
    """

    place: Place
    process: Process
    log: Path
    say: Callable[[str], None]
    run_id: str = ""
    _error: str = ""
    _last_line: str = ""
    _is_failing: bool = False

    def poll(self) -> Outcome | None:
        """Pass on what it said, and tell how it ended; None while it goes on."""
        status = self.process.poll()
        for line in self.process.new_lines():
            self._hear(line)
        return None if status is None else self._outcome(status)

    def _hear(self, line: str) -> None:
        found = _RUN.search(line)
        if found and not self.run_id:
            self.run_id = found.group()
        is_step = _WORTH_SAYING.match(line)
        is_sentence = not line.startswith("  ") and line not in {"", _TITLE}
        self._is_failing |= line.startswith(_FAILING)
        if self._is_failing or is_sentence or is_step:
            self.say(f"{self.place}: {line.strip() if is_step else line}")
        if is_sentence:
            self._last_line = line
        if line.startswith(_ERROR):
            self._error = line.removeprefix(_ERROR)

    def _outcome(self, status: int) -> Outcome:
        document = _document(self.process.output())
        results = {_EXIT_PASSED: "passed", _EXIT_FAILED: "failed"}
        # An interpreter that crashes exits with 1, too, but has no verdict to print.
        if status in results and document.get("result") == results[status]:
            self.run_id = str(document.get("run_id", self.run_id))
            reason = str(document.get("reason", "")) if status else ""
            return Outcome(results[status], reason, status, Path(document["evidence"]))
        return Outcome("error", self._why(status), status)

    def _why(self, status: int) -> str:
        if self._error:
            return self._error
        if status < 0:
            return f"Signal {-status} ended it."
        said = self._last_line or "it said nothing"
        return f"It ended with status {status} and no verdict ({said.rstrip('.')}); read {self.log}."


def _document(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) and "evidence" in document else {}


@dataclass(frozen=True)
class Children:
    """Starts proofs of one image.

    Attributes:
        ami_id: the image.
        folder: gets what each says.
        say: as in `Child`.
        is_offline: in the offline cloud.
        is_spot: on spot instances.
        start_process: starts a program.
    """

    ami_id: str
    folder: Path
    say: Callable[[str], None]
    is_offline: bool = False
    is_spot: bool = False
    start_process: Start = commands.start

    def start(self, place: Place) -> Child:
        """Begin a proof.

        Raises:
            ToolError: the process cannot be started.
        """
        name = "-".join(filter(None, [place.instance_type, place.zone]))
        log = self.folder / f"{name}.log"
        process = self.start_process(
            self.arguments(place), output=self.folder / f"{name}.json", log=log, env=_ENVIRONMENT, cwd=REPOSITORY
        )
        return Child(place, process, log, self.say)

    def arguments(self, place: Place) -> list[str]:
        """What is run: a proof that prints its verdict and leaves the image's tags to us."""
        return [
            *(sys.executable, "-m", "invoke", "test-instance", "--json", "--no-tag"),
            *(["--offline"] if self.is_offline else []),
            *("--type", place.instance_type, "--ami", self.ami_id),
            *(["--spot"] if self.is_spot else []),
            *(["--zone", place.zone] if place.zone else []),
        ]

    def destroy_command(self, run_id: str) -> str:
        """What a person types to remove what a proof left; without its id, what all runs left."""
        option = " --offline" if self.is_offline else ""
        return f"invoke destroy{option}{f' --run {run_id}' if run_id else ' --all'}"
