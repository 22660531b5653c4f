from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from gpunodes.errors import AwsError, PreflightError, UsageError
from gpunodes.preflight.diagnosis import Diagnosis, require
from gpunodes.preflight.doctor_report import print_diagnosis
from gpunodes.preflight.finding import FAILED, NOT_ANSWERED, PASSED, Finding

GOOD = Finding("Packer", PASSED, "Packer 1.6.6 is new enough.", {"version": "1.6.6"})
UNKNOWN = Finding("vCPU quota", NOT_ANSWERED, "Nobody can say.")
BAD = Finding("region", FAILED, "There is no region `x`; did you mean `y`?", error=UsageError)
WORSE = Finding("disk", FAILED, "Disk [red] is full; make room.", error=PreflightError)


def diagnosis(*findings: Finding) -> Diagnosis:
    return Diagnosis("aws", "us-east-1", "g4dn.xlarge", list(findings), 0.42)


def printed(diagnosis: Diagnosis, width: int = 120, *, terminal: bool = False) -> str:
    out = io.StringIO()
    print_diagnosis(
        Console(file=out, width=width, soft_wrap=not terminal, force_terminal=terminal, color_system=None), diagnosis
    )
    return out.getvalue()


def test_what_nobody_could_say_keeps_nobody_from_baking() -> None:
    require([GOOD, UNKNOWN])

    assert diagnosis(GOOD, UNKNOWN).passed
    assert diagnosis(GOOD, UNKNOWN).exit_code == 0


@pytest.mark.parametrize(
    ("findings", "kind", "sentence"),
    [
        ([GOOD, WORSE], PreflightError, "Disk [red] is full; make room."),
        ([WORSE, BAD], PreflightError, "Disk [red] is full; make room (1 more: see `invoke doctor`)."),
        ([BAD, WORSE, WORSE], UsageError, "There is no region `x`; did you mean `y`? (2 more: see `invoke doctor`)."),
        ([Finding("x", FAILED, "AWS was away.", error=AwsError)], AwsError, "AWS was away."),
    ],
)
def test_first_failure_is_raised_with_how_many_more(
    findings: list[Finding], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind) as caught:
        require(findings)

    assert str(caught.value) == sentence
    assert type(caught.value) is kind


def test_document_is_json() -> None:
    document = json.loads(json.dumps(diagnosis(GOOD, BAD).document()))

    assert document == {
        "result": "failed",
        "target": "aws",
        "region": "us-east-1",
        "instance_type": "g4dn.xlarge",
        "findings": [
            {"name": "Packer", "outcome": "passed", "text": GOOD.text, "evidence": {"version": "1.6.6"}},
            {"name": "region", "outcome": "failed", "text": BAD.text, "evidence": {}},
        ],
        "seconds": 0.42,
    }
    assert diagnosis(BAD).exit_code == 1


def test_report_has_a_line_for_each_check() -> None:
    assert printed(diagnosis(GOOD, UNKNOWN, WORSE)).splitlines() == [
        "",
        "not ready  aws us-east-1, g4dn.xlarge",
        "  ✓ Packer      Packer 1.6.6 is new enough.",
        "  ? vCPU quota  Nobody can say.",
        "  ✗ disk        Disk [red] is full; make room.",
        "  1 of 3 checks failed, 0.4 s",
    ]


def test_report_of_a_ready_place_says_so() -> None:
    assert printed(diagnosis(GOOD)).splitlines()[1] == "ready  aws us-east-1, g4dn.xlarge"


def test_report_fits_a_narrow_terminal() -> None:
    lines = printed(diagnosis(GOOD), 40, terminal=True).splitlines()

    assert lines[2:4] == ["  ✓ Packer", "      Packer 1.6.6 is new enough.       "]
