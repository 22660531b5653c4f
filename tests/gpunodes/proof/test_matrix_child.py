from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gpunodes.proof.matrix_child import Child, Children
from gpunodes.proof.matrix_fallback import Place

RUN_ID = "20300101-000000-abcd"


class Ended:
    """A process that has ended."""

    def __init__(self, status: int | None, lines: list[str], output: str = "") -> None:
        self._status, self._lines, self._output = status, lines, output

    def poll(self) -> int | None:
        return self._status

    def new_lines(self) -> list[str]:
        return self._lines

    def output(self) -> str:
        return self._output

    def terminate(self) -> None:
        raise AssertionError

    def kill(self) -> None:
        raise AssertionError


def child(status: int | None, lines: list[str], output: str = "") -> tuple[Child, list[str]]:
    said: list[str] = []
    return Child(Place("g5.xlarge"), Ended(status, lines, output), Path("/logs/g5.xlarge.log"), said.append), said


def verdict(result: str) -> str:
    return json.dumps({"result": result, "reason": "why", "run_id": RUN_ID, "evidence": "/evidence/proof.json"})


def test_steps_are_passed_on_and_phases_notes_and_titles_are_not() -> None:
    running, said = child(
        None,
        [
            "test-instance", f"  · run {RUN_ID}", "    ✓ a phase  1.0 s", "  … wait for first datapoints",
            "  ✗ reboot and look again   3.0 s", "  · clean up: launch with Terraform: AWS is away.", "",
        ],
    )  # fmt: skip

    assert running.poll() is None
    assert said == [
        "g5.xlarge: … wait for first datapoints",
        "g5.xlarge: ✗ reboot and look again   3.0 s",
        "g5.xlarge: · clean up: launch with Terraform: AWS is away.",
    ]
    assert running.run_id == RUN_ID


def test_an_error_is_passed_on_whole() -> None:
    lines = ["Traceback (most recent call last):", '  File "x.py"', "    raise it", "ValueError: x", "error: A defect."]
    failed, said = child(3, lines)

    outcome = failed.poll()

    assert said == [f"g5.xlarge: {line}" for line in lines]
    assert outcome is not None
    assert (outcome.result, outcome.reason, outcome.exit_code) == ("error", "A defect.", 3)


@pytest.mark.parametrize(("status", "result", "reason"), [(0, "passed", ""), (1, "failed", "why")])
def test_a_verdict_is_read_from_standard_output(status: int, result: str, reason: str) -> None:
    ended, _ = child(status, [], verdict(result))

    outcome = ended.poll()

    assert outcome is not None
    assert (outcome.result, outcome.reason, outcome.evidence) == (result, reason, Path("/evidence/proof.json"))
    assert ended.run_id == RUN_ID


@pytest.mark.parametrize(
    ("status", "output"), [(1, ""), (1, "[]"), (1, '{"result": "failed"}'), (0, verdict("failed")), (1, '{"resu')]
)
def test_an_exit_status_without_its_verdict_is_an_error(status: int, output: str) -> None:
    ended, _ = child(status, ["No idea what '--no-tag' is!"], output)

    outcome = ended.poll()

    assert outcome is not None
    assert outcome.result == "error"
    assert outcome.reason == (
        f"It ended with status {status} and no verdict (No idea what '--no-tag' is!); read /logs/g5.xlarge.log."
    )


def test_a_process_that_was_killed_says_by_what() -> None:
    outcome = child(-9, [])[0].poll()

    assert outcome is not None
    assert (outcome.result, outcome.reason) == ("error", "Signal 9 ended it.")


def test_arguments_are_those_of_one_proof_that_does_not_tag() -> None:
    plain = Children("ami-1", Path(), print)
    other = Children("ami-1", Path(), print, is_offline=True, is_spot=True)
    begin = [sys.executable, "-m", "invoke", "test-instance", "--json", "--no-tag"]

    assert plain.arguments(Place("g5.xlarge")) == [*begin, "--type", "g5.xlarge", "--ami", "ami-1"]
    assert other.arguments(Place("g5.xlarge", "us-east-1a")) == [
        *begin, "--offline", "--type", "g5.xlarge", "--ami", "ami-1", "--spot", "--zone", "us-east-1a",
    ]  # fmt: skip


def test_the_way_to_destroy_names_run_and_target() -> None:
    assert Children("ami-1", Path(), print).destroy_command("r1") == "invoke destroy --run r1"
    assert Children("ami-1", Path(), print, is_offline=True).destroy_command("") == "invoke destroy --offline --all"
