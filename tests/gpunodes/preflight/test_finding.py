from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from gpunodes.aws import aws_errors
from gpunodes.errors import AwsError, GpunodesError, PreflightError
from gpunodes.preflight.finding import Finding, NotAnsweredError, Seen, look


def refusing(code: str, operation: str, status: int = 400) -> Seen[None]:
    response = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with aws_errors("looking"):
        raise ClientError(response, operation)  # type: ignore[arg-type]


def looked(error: Exception, *, tolerates: bool = True) -> Finding:
    def check() -> Seen[None]:
        raise error

    return look("it", check, tolerates_missing_calls=tolerates).finding


@pytest.mark.parametrize(
    ("code", "status"),
    [("InternalFailure", 400), ("NoSuchResourceException", 400), ("NotImplemented", 501), ("500", 500), ("404", 404)],
)
def test_call_that_an_emulator_lacks_is_not_answered_and_fails_on_aws(code: str, status: int) -> None:
    outcomes = [
        look("it", lambda: refusing(code, "GetServiceQuota", status), tolerates_missing_calls=tolerates).finding.outcome
        for tolerates in (True, False)
    ]

    assert outcomes == ["not_answered", "failed"]


def test_refusal_fails_even_where_missing_calls_are_tolerated() -> None:
    finding = look("it", lambda: refusing("Throttling", "DescribeRegions"), tolerates_missing_calls=True).finding

    assert finding.outcome == "failed"
    assert finding.error is AwsError


@pytest.mark.parametrize(
    ("operation", "action"),
    [("DescribeRegions", "ec2:DescribeRegions"), ("GetServiceQuota", "servicequotas:GetServiceQuota")],
)
def test_missing_permission_is_named(operation: str, action: str) -> None:
    finding = look("it", lambda: refusing("UnauthorizedOperation", operation), tolerates_missing_calls=False).finding

    assert finding.error is PreflightError
    assert finding.text == f"Your AWS user may not call {action}; allow that action (docs/doctor.md lists them all)."


def test_answer_that_is_none_of_aws_hints_at_a_proxy() -> None:
    finding = looked(ResponseParserError("<html>"), tolerates=False)

    assert finding.outcome == "failed"
    assert "look for a proxy in between" in finding.text
    assert looked(ResponseParserError("<html>")).outcome == "not_answered"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(PreflightError("No."), "failed"), (GpunodesError("No."), "failed"), (NotAnsweredError("No."), "not_answered")],
)
def test_what_a_check_raises_is_its_finding(error: GpunodesError, outcome: str) -> None:
    finding = looked(error)

    assert (finding.outcome, finding.text) == (outcome, "No.")


def test_mistake_in_the_code_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        looked(ZeroDivisionError())


def test_failure_keeps_its_evidence() -> None:
    found = look("it", lambda: Seen(1, "Bad.", {"a": 1}, PreflightError), tolerates_missing_calls=False)

    assert found.finding.document() == {"name": "it", "outcome": "failed", "text": "Bad.", "evidence": {"a": 1}}
