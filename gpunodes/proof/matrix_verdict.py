"""The verdict of a matrix: each entry's, the worst of them as the whole, and the document that keeps them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gpunodes.proof.matrix_fallback import Place

PASSED = "passed"
FAILED = "failed"
ERROR = "error"
_EXIT_CODES = {PASSED: 0, FAILED: 1, ERROR: 3}


@dataclass(frozen=True)
class EntryVerdict:
    """What became of one entry.

    Attributes:
        entry: as a person wrote it.
        result: `passed`, `failed`, or `error` where no proof could be made.
        reason: one sentence; empty where it passed.
        instance_type: that was used last.
        zone: availability zone that was asked for, or else that the proof was made in; empty where none is known.
        run_id: of the proof.
        evidence: its file; None where there is none.
        log: what the proof said.
        seconds: from the entry's begin to its end.
        without_capacity: where it was tried before, in vain.
    """

    entry: str
    result: str
    reason: str = ""
    instance_type: str = ""
    zone: str = ""
    run_id: str = ""
    evidence: Path | None = None
    log: Path | None = None
    seconds: float = 0.0
    without_capacity: Sequence[Place] = field(default_factory=tuple)


@dataclass(frozen=True)
class Matrix:
    """What `test-instance --types` found.

    Attributes:
        result: `passed` only where every entry passed; `failed` where one failed; else `error`.
        ami_id: the image.
        run_id: of the matrix.
        verdicts: one for each entry, in their order.
        state: of the image now, as its tag says; empty where the image was left alone.
        evidence: file with all of it.
        seconds: that it took.
    """

    result: str
    ami_id: str
    run_id: str
    verdicts: Sequence[EntryVerdict]
    state: str
    evidence: Path
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 passed, 1 a check failed, 3 a proof could not be made."""
        return _EXIT_CODES[self.result]

    @property
    def reason(self) -> str:
        """Why it did not pass, one sentence; else empty."""
        return reason_of(self.verdicts)

    def document(self) -> dict[str, Any]:
        """`test-instance --types --json`; times in seconds."""
        return {**asdict(self), "reason": self.reason}


def result_of(verdicts: Sequence[EntryVerdict]) -> str:
    """The worst result: a check that failed says something of the image, so it counts more than a proof not made."""
    results = {verdict.result for verdict in verdicts}
    return next((result for result in (FAILED, ERROR) if result in results), PASSED)


def worst_of(verdicts: Sequence[EntryVerdict]) -> EntryVerdict | None:
    """The first entry that made the result what it is, one with evidence if possible; None where all passed."""
    result = result_of(verdicts)
    worst = [verdict for verdict in verdicts if verdict.result == result != PASSED]
    return next((verdict for verdict in worst if verdict.evidence), worst[0] if worst else None)


def reason_of(verdicts: Sequence[EntryVerdict]) -> str:
    """Of the worst entry, with its name; and how many others did not pass."""
    worst = worst_of(verdicts)
    if worst is None:
        return ""
    others = sum(verdict.result != PASSED for verdict in verdicts) - 1
    more = f" (and {others} more did not pass)" if others else ""
    return f"{worst.instance_type or worst.entry}: {worst.reason}{more}"


def proof_entry(verdict: EntryVerdict) -> dict[str, Any]:
    """An entry as the matrix's document has it: its proof by name and digest, for they lie side by side."""
    document = asdict(verdict)
    del document["log"]
    document["evidence"] = verdict.evidence.name if verdict.evidence else None
    digest = hashlib.sha256(verdict.evidence.read_bytes()).hexdigest() if verdict.evidence else None
    return {**document, "evidence_sha256": digest}


def zone_in(evidence: Path | None) -> str:
    """The availability zone that a proof's file names; empty where it does not."""
    if evidence is None:
        return ""
    document = json.loads(evidence.read_text())
    return str(document.get("availability_zone", ""))
