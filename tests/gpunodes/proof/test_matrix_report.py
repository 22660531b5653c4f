from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from gpunodes import report
from gpunodes.proof import matrix_report, matrix_verdict
from gpunodes.proof.matrix_fallback import Place
from gpunodes.proof.matrix_verdict import EntryVerdict, Matrix

LONG = "20300101-000000-abcd"
PASSED = EntryVerdict(
    "g4dn.xlarge", "passed", "", "g4dn.xlarge", "us-east-1a", LONG, Path(f"/e/proof-{LONG}.json"), None, 61.25
)
FAILED = EntryVerdict(
    "g5.xlarge|g5.2xlarge", "failed", "3 of 4 [GPUs]", "g5.2xlarge", "us-east-1b", "r2", Path("/e/proof-r2.json"),
    None, 300.0, (Place("g5.xlarge"),),
)  # fmt: skip
LATE = EntryVerdict("g6.xlarge", "failed", "It did not finish within 5 s.", "g6.xlarge", "", "r3")
ERROR = EntryVerdict("p4d.24xlarge", "error", "AWS has no capacity anywhere.")


def matrix(*verdicts: EntryVerdict, state: str = "failed") -> Matrix:
    result = matrix_verdict.result_of(verdicts)
    return Matrix(result, "ami-1", "m1", verdicts, state, Path("/e/matrix-m1.json"), 301.0)


def shown(found: Matrix, width: int = 80) -> list[str]:
    out = io.StringIO()
    matrix_report.show(found, Console(file=out, width=width, highlight=False, soft_wrap=True))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("verdicts", "result", "exit_code"),
    [
        ([PASSED, PASSED], "passed", 0),
        ([PASSED, ERROR], "error", 3),
        ([ERROR, FAILED, PASSED], "failed", 1),
    ],
)
def test_the_worst_entry_is_the_verdict(verdicts: list[EntryVerdict], result: str, exit_code: int) -> None:
    found = matrix(*verdicts)

    assert (found.result, found.exit_code) == (result, exit_code)


def test_the_reason_is_that_of_the_worst_with_evidence() -> None:
    assert matrix(PASSED).reason == ""
    assert matrix(PASSED, ERROR).reason == "p4d.24xlarge: AWS has no capacity anywhere."
    assert matrix(ERROR, LATE, FAILED).reason == "g5.2xlarge: 3 of 4 [GPUs] (and 2 more did not pass)"
    assert matrix(LATE).reason == "g6.xlarge: It did not finish within 5 s."


def test_the_table_has_a_row_for_each_entry_and_cuts_nothing() -> None:
    lines = shown(matrix(PASSED, FAILED, ERROR), width=60)

    assert lines[1] == "failed  ami-1  on 1 of 3"
    assert lines[2].split() == ["entry", "type", "zone", "result", "seconds", "run"]
    assert lines[3].split() == [
        "✓", "g4dn.xlarge", "g4dn.xlarge", "us-east-1a", "passed", "61.2", LONG,
    ]  # fmt: skip
    assert lines[5].split() == ["?", "p4d.24xlarge", "-", "-", "error", "0.0", "-"]
    assert "  ✗ g5.xlarge|g5.2xlarge: 3 of 4 [GPUs]" in lines
    assert "  image is now      failed" in lines
    assert "  evidence          /e/matrix-m1.json" in lines


def test_an_image_that_was_left_alone_has_no_state_to_show() -> None:
    assert not any("image is now" in line for line in shown(matrix(ERROR, state="")))


def test_the_document_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    report.print_json(matrix(PASSED, FAILED).document())

    document = json.loads(capsys.readouterr().out)
    assert (document["result"], document["run_id"]) == ("failed", "m1")
    assert document["reason"] == "g5.2xlarge: 3 of 4 [GPUs]"
    assert document["verdicts"][1]["without_capacity"] == [{"instance_type": "g5.xlarge", "zone": ""}]
    assert document["verdicts"][0]["evidence"] == f"/e/proof-{LONG}.json"
