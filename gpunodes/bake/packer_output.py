"""What `packer -machine-readable build` prints, understood: phases of a bake, what was made, the image, why it failed.

A line is `seconds since 1970,target,type,data...`; commas, carriage returns and line ends within data are escaped.
Packer writes what a script prints to standard error as `ui,error`: most of those lines are no errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple, Protocol

from gpunodes.operation.steps import Timing

_RECORD = re.compile(r"(\d+),([^,]*),([a-z][a-z-]*)(?:,(.*))?$")
_ESCAPES = {"%!(PACKER_COMMA)": ",", "\\r": "\r", "\\n": "\n"}
_PREFIX = re.compile(r"(?:==>|-->| {3}) (?:[^\s:]+: ?)?")
_COMPLAINT = re.compile(r"(?<![\w-])[Ee]rror(?:ed)?(?![\w-])|failed|missing|refus|mismatch|ssm error")
_LISTING = re.compile(r"(?:Error: )?\d+ errors?(?:\(s\))? occurred:?$")  # what is wrong follows, each after a `* `
_OWN_SENTENCE = re.compile(r"\.sh: error: ")  # how a script of ours says why it fails, whatever its tools said before
_CRASH = re.compile(r"^panic: |^fatal error: |^SIG[A-Z]+: |PACKER CRASH|Packer crashed")
_PLUGIN_GONE = re.compile(r"unexpected EOF|EOF|connection is shut down|.*plugin (?:process )?exited.*", re.IGNORECASE)
_REPEATED = {"artifact", "artifact-count", "error", "error-count"}  # Packer says these for people too


@dataclass(frozen=True)
class Phase:
    """A part of a bake as a person thinks of it.

    Attributes:
        name: what a person reads.
        begins: pattern of what Packer says when it begins.
    """

    name: str
    begins: str


# In the order of a bake, as amazon-ebs of Packer 1.6.6 and the amazon plugin up to 1.8 say it. A phase is never gone
# back to, so that a script which prints such words does no harm. Spot instances are not stopped.
PHASES = (
    Phase("check the inputs", r"Prevalidating|Force Deregister flag found"),
    Phase("launch the instance", r"Launching a (?:source|spot) AWS instance"),
    Phase("wait for SSH", r"Waiting \S+ before establishing the SSM|Using \w+ communicator|Waiting for SSH to become"),
    Phase("install on the instance", r"Connected to SSH|Provisioning with|Uploading .* => "),
    Phase("stop the instance", r"Stopping the source instance|Automatic instance stop disabled|Waiting for the instance to stop"),  # noqa: E501
    Phase("make the image", r"Creating (?:unencrypted )?AMI |Skipping AMI creation"),
    Phase("copy the image", r"Copying/Encrypting AMI|Copying AMI "),
    Phase("remove the instance", r"Terminating the source AWS instance|Cleaning up any extra volumes"),
)  # fmt: skip
_BEGINS = re.compile("|".join(f"(?P<p{number}>{phase.begins})" for number, phase in enumerate(PHASES)))
_INSTALL = 3
_IMAGE = 5
_REMOVE = len(PHASES) - 1

# What Packer makes, by the line that names it.
MADE = (
    ("instance", re.compile(r"Instance ID: (i-\w+)")),
    ("image", re.compile(r"AMI: (ami-\w+)")),
    ("launch template", re.compile(r"Created Spot Fleet launch template: (lt-\w+)")),
    ("key pair", re.compile(r"Creating temporary (?:\w+ )?keypair: (\S+)")),
    ("security group", re.compile(r"Found Security Group\(s\): (sg-\w+)")),
)
_NAMES_WHAT_WAS_MADE = re.compile(r"Instance ID|AMI: |Created Spot|Creating temporary|Found Security")
_SCRIPT = re.compile(r"Provisioning with shell script: (?:\S*/)?(\S+)")
_UPLOADED_AS = re.compile(r"^script_\d+\.sh(?=: )")
_PROVISIONER = re.compile(r"Provisioning with|Uploading .* => ")


class Phases(Protocol):
    """Told of the phases within a step."""

    def phase(self, name: str) -> None:
        """A phase begins."""

    def phase_end(self, name: str, seconds: float, outcome: str) -> None:
        """It ended: `done` or `failed`."""


class Record(NamedTuple):
    """One machine-readable line; a tuple, since there may be a hundred thousand of them.

    Attributes:
        at: seconds since 1970.
        target: the build, such as `amazon-ebs.gpu`; empty for Packer itself and for everything of the type `ui`.
        kind: `ui`, `artifact`, `error`, or one that nobody here knows.
        data: unescaped.
    """

    at: int
    target: str
    kind: str
    data: tuple[str, ...]


def parse(line: str) -> Record | None:
    """A machine-readable line; None for any other, such as a crash's or what `packer init` prints."""
    found = _RECORD.match(line)
    if found is None:
        return None
    at, target, kind, rest = found.groups()
    data = [] if rest is None else rest.split(",")
    if "\\" in line or "%!" in line:
        data = [_unescaped(text) for text in data]
    return Record(int(at), target, kind, tuple(data))


def readable(record: Record) -> list[str]:
    """The lines of a record for people, each with its time in UTC."""
    if record.kind in _REPEATED:
        return []
    text = record.data[-1] if record.kind == "ui" and record.data else f"{record.kind}: {', '.join(record.data)}"
    at = _iso(record.at)
    return [f"{at} {line}" for line in text.splitlines() if line and not line.isspace()]


class BuildOutput:
    """Folds the lines of a build into its facts.

    Attributes:
        phases: those that ended, with their seconds.
        artifacts: the image in each region.
        reason: why the build failed, as far as the lines say; empty when they do not.
        crashed: Packer itself or a plugin of it fell over.
        ended: Packer said that it is done, well or not.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        on_detail: Callable[[str], None],
        on_made: Callable[[str, str], None],
        listeners: Sequence[Phases] = (),
    ) -> None:
        self.phases: list[Timing] = []
        self.artifacts: dict[str, str] = {}
        self.crashed = False
        self.ended = False
        self._clock = clock
        self._on_detail = on_detail
        self._on_made = on_made
        self._listeners = listeners
        self._number = -1
        self._begin = 0.0
        self._script = ""
        self._complaints: list[str] = []
        self._last_words = ""

    def read(self, line: str) -> list[str]:
        """Take in a line; returns it as people read it, more than one line where Packer said several at once."""
        record = parse(line)
        if record is None:
            self._take_other(line)
            return [line]
        if record.kind == "ui" and len(record.data) > 1:
            self._take_said(record.data[0], record.data[1])
        elif record.kind == "artifact" and len(record.data) > 2 and record.data[1] == "id":
            pairs = (image.split(":", 1) for image in record.data[2].split(",") if ":ami-" in image)
            self.artifacts.update(dict(pairs))
        elif record.kind == "error" and record.data:
            self._last_words = record.data[0]
            if _PLUGIN_GONE.fullmatch(self._last_words):
                self.crashed = True
                self._complaints = [f"its plugin is gone ({self._last_words})"]
        return readable(record)

    def begin(self) -> None:
        """Packer is started: the first phase begins."""
        self._advance(0)

    def close(self, is_well: bool) -> None:
        """Packer is gone: end the phase that still went on."""
        if self._number >= 0:
            was_reached = self.ended and self._number == _REMOVE
            self._end("done" if is_well or was_reached else "failed")

    @property
    def reason(self) -> str:
        """The sentence of the script that failed, else the first complaint since it began, else Packer's last word."""
        own = [complaint for complaint in self._complaints if _OWN_SENTENCE.search(complaint)]
        return [*own, *self._complaints, self._last_words][0].strip()

    def _take_other(self, line: str) -> None:
        self.crashed = self.crashed or _CRASH.search(line) is not None
        if _COMPLAINT.search(line) or _CRASH.search(line):
            self._complaints.append(line.strip())

    def _take_said(self, level: str, text: str) -> None:
        for line in text.splitlines():
            prefix = _PREFIX.match(line)
            said = line[prefix.end() :] if prefix else line
            if not said or said.isspace():
                continue
            if level == "error":
                self._take_error(said)
            else:
                self._take_news(level, said)

    def _take_error(self, said: str) -> None:
        said = _UPLOADED_AS.sub(self._script, said) if self._script else said
        if said.startswith("Build '"):  # "... errored after 9 seconds: Script exited with non-zero exit status: 1."
            self._last_words = self._last_words or said
        elif said.lstrip().startswith("* "):
            self._complaints.append(said.lstrip()[2:])
        elif _COMPLAINT.search(said) and not said.startswith("Some builds didn't") and not _LISTING.match(said):
            self._complaints.append(said)
        if self._number <= _INSTALL:
            self._on_detail(said)

    def _take_news(self, level: str, said: str) -> None:
        if said[0] in "IACF" and _NAMES_WHAT_WAS_MADE.match(said):
            for kind, pattern in MADE:
                if found := pattern.match(said):
                    self._on_made(kind, found[1])
        if level == "message":
            return
        if found := _BEGINS.match(said):
            self._advance(int(str(found.lastgroup)[1:]))
        if _PROVISIONER.match(said):
            self._complaints.clear()  # the script or upload before this one went well, whatever it printed
            script = _SCRIPT.match(said)
            self._script = script[1] if script and not script[1].startswith("packer-shell") else ""
            said = self._script or ("inline script" if script else said)
        elif said.startswith("Cleanly cancelled builds"):
            self._last_words = "it was interrupted"
        self.ended = self.ended or said.startswith(("Wait completed", "Builds finished"))
        self._on_detail(said)

    def _advance(self, number: int) -> None:
        if number <= self._number:
            return
        if self._number >= 0:
            # Packer removes the instance whatever happened; only after the image is there, all before it went well.
            failed = number == _REMOVE and (self._number < _IMAGE or bool(self._complaints))
            self._end("failed" if failed else "done")
        if number != _REMOVE:
            self._complaints.clear()
        self._number, self._begin = number, self._clock()
        for listener in self._listeners:
            listener.phase(PHASES[number].name)

    def _end(self, outcome: str) -> None:
        name, seconds = PHASES[self._number].name, self._clock() - self._begin
        self.phases.append(Timing(name, seconds))
        for listener in self._listeners:
            listener.phase_end(name, seconds, outcome)


def _unescaped(text: str) -> str:
    for escape, meaning in _ESCAPES.items():
        if escape in text:
            text = text.replace(escape, meaning)
    return text


@lru_cache(maxsize=8)
def _iso(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
