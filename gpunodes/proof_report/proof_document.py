"""The document of a proof, `proof.json`, as its readers see it: what an older one lacks is empty."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from gpunodes.errors import UsageError

# What neither XML 1.0 nor HTML can write, not even as a reference, and lone surrogates, which UTF-8 cannot.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
LARGEST = 2.0**360  # of a datapoint in CloudWatch
_YEARS = range(1970, 9999)  # beyond them, times cannot be added to without care

Points = list[tuple[str, float | None]]


@dataclass(frozen=True)
class CheckEntry:
    """A check and its outcome, as in `check.Check`.

    Attributes:
        seconds: how long it took; None where that is not known.
    """

    check_id: str = ""
    group: str = ""
    name: str = ""
    proves: str = ""
    passed: bool | None = None
    reason: str = ""
    evidence: Any = field(default_factory=dict)
    seconds: float | None = None

    @property
    def outcome(self) -> str:
        """`passed`, `failed` or `unanswered`."""
        return {True: "passed", False: "failed", None: "unanswered"}[self.passed]


@dataclass(frozen=True)
class SeriesEntry:
    """What CloudWatch gave of one series, and what NVML said on the instance.

    Attributes:
        points: start of a minute (ISO 8601) and the statistic of it, in `unit`.
        local: NVML's own reading for the minute.
    """

    namespace: str = ""
    metric: str = ""
    unit: str = "None"
    dimensions: dict[str, str] = field(default_factory=dict)
    statistic: str = ""
    points: Points = field(default_factory=list)
    local: Points = field(default_factory=list)


@dataclass(frozen=True)
class LoadStep:
    """So much memory of a GPU was allocated in all from this moment on; `share` of what was free."""

    at: str = ""
    bytes: float = 0.0
    share: float | None = None


@dataclass(frozen=True)
class LoadEntry:
    """The load that was put on one GPU; nothing of it is held after `freed_at`."""

    gpu_index: int = 0
    gpu_uuid: str = ""
    steps: list[LoadStep] = field(default_factory=list)
    freed_at: str | None = None


@dataclass(frozen=True)
class TimingEntry:
    """Seconds of a step and of its phases."""

    name: str = ""
    seconds: float = 0.0
    phases: list[TimingEntry] = field(default_factory=list)


@dataclass(frozen=True)
class CostEntry:
    """Cost of the proof; None where it is unknown, and the note says why."""

    usd: float | None = None
    hourly_usd: float | None = None
    note: str = ""


@dataclass(frozen=True)
class DestroyedEntry:
    """What was looked for after the run, and what was still there; None verified: nothing was destroyed or asked."""

    verified: bool | None = None
    asked: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ProofDocument:
    """A proof of an image on one instance."""

    schema: str = ""
    result: str = ""
    reason: str = ""
    ami_id: str = ""
    ami_name: str = ""
    run_id: str = ""
    target: str = ""
    region: str = ""
    availability_zone: str = ""
    instance_id: str = ""
    instance_type: str = ""
    began_at: str = ""
    proved_at: str = ""
    checks: list[CheckEntry] = field(default_factory=list)
    series: list[SeriesEntry] = field(default_factory=list)
    load: list[LoadEntry] = field(default_factory=list)
    timings: list[TimingEntry] = field(default_factory=list)
    cost: CostEntry = field(default_factory=CostEntry)
    destroyed: DestroyedEntry = field(default_factory=DestroyedEntry)
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the image is proven; anything but `passed` is not."""
        return self.result == "passed"

    @property
    def seconds(self) -> float | None:
        """From the proof's begin to its end; the steps' sum where these are not known."""
        began, ended = moment(self.began_at), moment(self.proved_at)
        if began and ended and ended >= began:
            return (ended - began).total_seconds()
        return sum(timing.seconds for timing in self.timings) if self.timings else None

    def with_outcome(self, outcome: str) -> list[CheckEntry]:
        """The checks that `passed`, `failed` or are `unanswered`."""
        return [check for check in self.checks if check.outcome == outcome]


def read(document: Mapping[str, Any]) -> ProofDocument:
    """A document, parsed from JSON or as it will be written; null is as good as absent.

    Raises:
        UsageError: a field is of another type than the schema says.
    """
    try:
        return msgspec.convert(_known(document), ProofDocument, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"This is no document of a proof ({error}); give proof.json as gpunodes wrote it.") from error


def moment(iso: str | None) -> datetime | None:
    """A time, UTC; None for what is none. Without a zone it is taken as UTC."""
    try:
        parsed = datetime.fromisoformat(iso or "")
        parsed = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return parsed if parsed.year in _YEARS else None


def writable(text: str) -> str:
    """The text, with the sign for an unreadable character in place of each that no document can hold."""
    return _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _known(value: Any) -> Any:
    """A value without what says nothing: nulls, and numbers that CloudWatch would not have taken."""
    if isinstance(value, Mapping):
        # Evidence stays as it is: there a null says that something could not be read.
        known = {key: entry if key == "evidence" else _known(entry) for key, entry in value.items()}
        return {key: entry for key, entry in known.items() if entry is not None}
    if isinstance(value, float) and not abs(value) <= LARGEST:
        return None
    return [_known(entry) for entry in value] if isinstance(value, list) else value
