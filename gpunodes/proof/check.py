"""A check: what it says and why anyone should care is data (`checks.toml`), what was found is its outcome."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomllib

_TABLE = Path(__file__).with_name("checks.toml")


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        check_id: its table in `checks.toml`.
        group: image, boot, services, gpus, memory or datapoints.
        name: in a few words, as a statement that should hold.
        proves: why anyone should care.
        passed: whether it holds; None where this target cannot answer: the reason says why.
        reason: one sentence: what was seen, or what is missing.
        evidence: figures, for the record; JSON.
    """

    check_id: str
    group: str
    name: str
    proves: str
    passed: bool | None
    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)


@functools.cache
def table() -> Mapping[str, Mapping[str, Any]]:
    """Every check there is, in the order of a report: `group`, `name`, `proves` (and `may_be_unanswered`) by id."""
    return tomllib.loads(_TABLE.read_text(encoding="utf-8"))


def check(check_id: str, passed: bool | None, reason: str, evidence: Mapping[str, Any] | None = None) -> Check:
    """The outcome of a check.

    Args:
        check_id: its table in `checks.toml`.
        passed: whether it holds; None where this target cannot answer.
        reason: one sentence.
        evidence: figures, JSON.

    Raises:
        KeyError: there is no such check, which is a defect.
    """
    row = table()[check_id]
    return Check(check_id, row["group"], row["name"], row["proves"], passed, reason, dict(evidence or {}))


def in_order(checks: list[Check]) -> list[Check]:
    """As a report shows them; a check that was made twice stays twice."""
    places = list(table())
    return sorted(checks, key=lambda made: places.index(made.check_id))


def holds(made: Check, *, tolerates_unanswered: bool) -> bool:
    """Whether a check counts as good: what could not be answered does only where that is to be expected."""
    if made.passed is None:
        return tolerates_unanswered or bool(table()[made.check_id].get("may_be_unanswered"))
    return made.passed


def result(checks: list[Check], *, tolerates_unanswered: bool) -> str:
    """`passed` or `failed`.

    Args:
        checks: all that were made; none is no proof.
        tolerates_unanswered: whether this target may lack what a check asks for (the offline cloud).
    """
    good = bool(checks) and all(holds(made, tolerates_unanswered=tolerates_unanswered) for made in checks)
    return "passed" if good else "failed"


def reason(checks: list[Check], *, tolerates_unanswered: bool) -> str:
    """The verdict in a sentence: how many checks hold, or which does not and what was seen."""
    bad = [made for made in in_order(checks) if not holds(made, tolerates_unanswered=tolerates_unanswered)]
    if not bad:
        answered = sum(made.passed is not None for made in checks)
        unanswered = f", {len(checks) - answered} cannot be answered here" if answered < len(checks) else ""
        return f"{answered} of {len(checks)} checks passed{unanswered}"
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    return f"{bad[0].name}: {bad[0].reason}{more}"
