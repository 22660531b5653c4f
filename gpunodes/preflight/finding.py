"""What one check of the preflight found, and the one place where an error becomes a finding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import botocore.exceptions
from botocore.parsers import ResponseParserError

from gpunodes.aws import is_missing_call
from gpunodes.errors import AwsError, GpunodesError, PreflightError

PASSED: Literal["passed"] = "passed"
FAILED: Literal["failed"] = "failed"
NOT_ANSWERED: Literal["not_answered"] = "not_answered"
Outcome = Literal["passed", "failed", "not_answered"]

_DENIED_CODES = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_STRANGER = "What answers at AWS's address does not speak AWS's language; look for a proxy in between and repeat."
_PREFIX_OF_OPERATION = {"GetServiceQuota": "servicequotas", "GetParameter": "ssm", "GetCallerIdentity": "sts"}

T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        name: of the check, for people.
        outcome: `passed`, `failed`, or `not_answered` where nobody could say.
        text: one sentence: what was found, or what to do.
        evidence: the values that it rests on.
        error: what `require` raises for it; None unless it failed.
    """

    name: str
    outcome: Outcome
    text: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    error: type[GpunodesError] | None = None

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "outcome": self.outcome, "text": self.text, "evidence": dict(self.evidence)}


@dataclass(frozen=True)
class Seen(Generic[T]):
    """What a check saw.

    Attributes:
        fact: for later checks.
        text: for people.
        evidence: the values behind it.
        error: what `require` raises; None where all is well.
    """

    fact: T
    text: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    error: type[GpunodesError] | None = None


class NotAnsweredError(GpunodesError):
    """A check can say neither yes nor no, and that keeps nobody from baking."""


@dataclass(frozen=True)
class Looked(Generic[T]):
    """A finding, and the fact behind it where the check passed."""

    finding: Finding
    fact: T | None = None


def look(name: str, check: Callable[[], Seen[T]], *, tolerates_missing_calls: bool) -> Looked[T]:
    """Run a check; what it raises on purpose is its finding.

    Args:
        name: of the check.
        check: raises UsageError or PreflightError for what a person must mend, AwsError for what the API did.
        tolerates_missing_calls: whether a call that the API does not have is no failure, as in an emulator.
    """
    try:
        seen = check()
    except NotAnsweredError as error:
        return Looked(Finding(name, NOT_ANSWERED, str(error)))
    except (AwsError, ResponseParserError) as error:
        if tolerates_missing_calls and (is_missing_call(error) or is_missing_call(error.__cause__)):
            return Looked(Finding(name, NOT_ANSWERED, "The API of this target cannot say it; on AWS it can."))
        told = denied(error) or (error if isinstance(error, AwsError) else AwsError(_STRANGER))
        return Looked(Finding(name, FAILED, str(told), error=type(told)))
    except GpunodesError as error:
        return Looked(Finding(name, FAILED, str(error), error=type(error)))
    outcome = PASSED if seen.error is None else FAILED
    return Looked(Finding(name, outcome, seen.text, seen.evidence, seen.error), seen.fact)


def not_asked(name: str, because: str) -> Finding:
    """A check that could not be made, since another one failed."""
    return Finding(name, NOT_ANSWERED, f"Not asked, since `{because}` failed.")


def denied(error: Exception) -> PreflightError | None:
    """The sentence for a missing permission; None where the error is another."""
    cause = error.__cause__
    if not isinstance(cause, botocore.exceptions.ClientError):
        return None
    if cause.response["Error"].get("Code") not in _DENIED_CODES:
        return None
    operation = cause.operation_name
    action = f"{_PREFIX_OF_OPERATION.get(operation, 'ec2')}:{operation}"
    told = PreflightError(f"Your AWS user may not call {action}; allow that action (docs/doctor.md lists them all).")
    told.__cause__ = error
    return told
