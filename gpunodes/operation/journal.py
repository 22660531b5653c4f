"""The journal of a run: one JSON line per event, on disk before the run goes on, so that kill -9 loses none.

Whoever finds the folder later reads there how far the run came and what it made: `invoke reap`, a person, a scheduler.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpunodes.errors import GpunodesError, InterruptedRunError

FILE = "journal.jsonl"

RUN_BEGAN = "run began"
RUN_ENDED = "run ended"
MADE = "made"
REAPED = "reaped"
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Event:
    """One line of a journal.

    Attributes:
        at: UTC, ISO 8601 with milliseconds; empty for a line that cannot be read.
        event: `run began`, `step began`, `step ended`, `phase began`, `phase ended`, `made`, `clean-up began`,
            `clean-up ended`, `run ended`, `reaped`; or `unreadable`.
        facts: what belongs to it, by name.
    """

    at: str
    event: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Journal:
    """Appends events to a file. A disk that takes no more is told once, and the run goes on: clean-ups matter more."""

    def __init__(
        self,
        path: Path,
        now: Callable[[], datetime] = _utc_now,
        notice: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._path = path
        self._now = now
        self._notice = notice
        self._file: int | None = None
        self._is_lost = False

    @contextmanager
    def run(self, command: str, target: str, options: Mapping[str, Any], versions: Mapping[str, str]) -> Iterator[None]:
        """A whole run: writes its begin, and how it ended, whatever the reason."""
        self.append(RUN_BEGAN, command=command, target=target, options=dict(options), versions=dict(versions))
        try:
            yield
        except BaseException as error:
            self.append(RUN_ENDED, result=_outcome(error), error=_text(error))
            raise
        else:
            self.append(RUN_ENDED, result="done")
        finally:
            self.close()

    def began(self, kind: str, name: str) -> None:
        """A `step` or `clean-up` begins."""
        self.append(f"{kind} began", name=name)

    def ended(self, kind: str, name: str, seconds: float, error: BaseException | None = None) -> None:
        """It ended, well or with an error."""
        facts: dict[str, Any] = {"name": name, "seconds": round(seconds, 3), "outcome": _outcome(error)}
        self.append(f"{kind} ended", **facts, **({"error": _text(error)} if error else {}))

    def phase(self, name: str) -> None:
        """A phase of the running step begins."""
        self.append("phase began", name=name)

    def phase_end(self, name: str, seconds: float, outcome: str) -> None:
        """It ended: `done` or `failed`."""
        self.append("phase ended", name=name, seconds=round(seconds, 3), outcome=outcome)

    def made(self, kind: str, resource_id: str) -> None:
        """Something exists now that a clean-up has to remove, or that is the result."""
        self.append(MADE, kind=kind, id=resource_id)

    def reaped(self, by: str, kind: str, resource_id: str) -> None:
        """Somebody else removed what this run left."""
        self.append(REAPED, by=by, kind=kind, id=resource_id)

    def append(self, event: str, **facts: Any) -> None:
        """Write one event to the disk."""
        at = self._now().isoformat(timespec="milliseconds")
        line = json.dumps({"at": at, "event": event, **facts}, default=str, ensure_ascii=False)
        try:
            if self._file is None:
                self._file = _open(self._path)
            written = os.write(self._file, f"{line}\n".encode(errors="replace"))
            os.fsync(self._file)
            if written <= len(line):
                self.close()  # a disk that is nearly full: what comes next begins on a line of its own
        except OSError as error:
            if not self._is_lost:
                self._is_lost = True
                self._notice(f"the journal {self._path} cannot be written ({error.strerror}); the run goes on")

    def close(self) -> None:
        """Close the file; a later event opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read(folder: Path) -> list[Event]:
    """The events of the run in a folder, in their order.

    A last line that was torn by a crash is left out; any other that cannot be read becomes an `unreadable` event. A
    folder without a journal has no events.

    Raises:
        GpunodesError: the file is there and may not be read.
    """
    path = folder / FILE
    try:
        lines = path.read_text(errors="replace").split("\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise GpunodesError(f"{path} cannot be read ({error.strerror}); see to that file.") from error
    return [_event(line) for line in lines[:-1] if line.strip()]


def story(events: Sequence[Event], *, is_going_on: bool = False) -> list[str]:
    """What happened, a line for each thing, for people.

    Args:
        events: of one run.
        is_going_on: its process lives; else what has no end in the journal was killed.
    """
    last_words = "still going on" if is_going_on else "killed there"
    own = [event for event in events if event.event != REAPED]
    lines: list[str] = []
    for number, event in enumerate(own):
        what = _told(event, own[number + 1 :], last_words)
        if what:
            lines.append(f"{_clock_time(event, events)} {what}".strip())
    if own and own[-1].event != RUN_ENDED and not any(line.endswith(last_words) for line in lines):
        lines.append(f"{_clock_time(own[-1], events)} {last_words}".strip())
    reaped = (event for event in events if event.event == REAPED)
    return lines + [f"{_clock_time(event, events)} {_TELLERS[REAPED](event.facts)}" for event in reaped]


def _told(event: Event, later: Sequence[Event], last_words: str) -> str:
    teller = _TELLERS.get(event.event)
    if teller is not None:
        return teller(event.facts)
    if event.event.endswith(" ended"):
        return _ended(event.facts)
    if event.event.endswith(" began") and not _is_ended(event, later):
        return f"{event.facts.get('name', '')} began ... {last_words}"
    return ""


def _began(facts: Mapping[str, Any]) -> str:
    options = ", ".join(
        f"{name} {value}" for name, value in facts.get("options", {}).items() if value not in ("", None)
    )
    return f"{facts.get('command', 'a run')} on {facts.get('target', '?')} began{f' ({options})' if options else ''}"


def _run_ended(facts: Mapping[str, Any]) -> str:
    error = facts.get("error", "")
    return f"the run ended: {facts.get('result', '?')}{f' ({error})' if error else ''}"


def _ended(facts: Mapping[str, Any]) -> str:
    outcome, error = facts.get("outcome", "?"), facts.get("error", "")
    text = f"{facts.get('name', '')} {outcome} after {facts.get('seconds', 0):.1f} s"
    return f"{text}: {error}" if error else text


_TELLERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    RUN_BEGAN: _began,
    RUN_ENDED: _run_ended,
    MADE: lambda facts: f"made the {facts.get('kind', 'resource')} {facts.get('id', '')}",
    REAPED: lambda facts: f"{facts.get('by', 'somebody')} removed the {facts.get('kind', '')} {facts.get('id', '')}",
    UNREADABLE: lambda _facts: "a line of the journal cannot be read",
}


def _is_ended(began: Event, later: Sequence[Event]) -> bool:
    """Whether what began has an end; a phase ends with its step at the latest."""
    ended = began.event.replace(" began", " ended")
    return any(
        (event.event == ended and event.facts.get("name") == began.facts.get("name"))
        or (began.event == "phase began" and event.event == "step ended")
        for event in later
    )


def _clock_time(event: Event, events: Sequence[Event]) -> str:
    """The time of day; with its date where that is another than the run's."""
    is_same_day = event.at[:10] == events[0].at[:10]
    return event.at[11:19] if is_same_day else event.at[:19].replace("T", " ")


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "done"
    return "interrupted" if isinstance(error, KeyboardInterrupt | InterruptedRunError) else "failed"


def _text(error: BaseException | None) -> str:
    return str(error) or type(error).__name__


def _event(line: str) -> Event:
    try:
        facts = dict(json.loads(line))
        return Event(str(facts.pop("at")), str(facts.pop("event")), facts)
    except (ValueError, TypeError, KeyError):
        return Event("", UNREADABLE, {"line": line})


def _open(path: Path) -> int:
    """Open to append; after a torn line the next one begins on its own."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.write(file, b"\n")
    return file
