from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from gpunodes import report
from gpunodes.bake.bake import Baked
from gpunodes.cleanup.destroy import Destroyed
from gpunodes.operation.steps import Timing
from gpunodes.proof.check import Check
from gpunodes.proof.proof import Verdict

TIMINGS = [Timing("a", 1.25), Timing("b", 2.5)]
BAKED = Baked(
    run_id="run-1", ami_id="ami-1", name="gpunodes-run-1", channel="stable", flavor="al2023", source_ami="ami-0",
    fingerprint="f" * 64, gpumon_version="1.2.3", packages=321, evidence=Path("/evidence/ami-1"),
    notes=["this API ignores something"], packer_seconds=15.0, own_seconds=2.5, timings=TIMINGS,
)  # fmt: skip
ROSE = Check("a", "memory", "memory rises", "it is memory", True, "GPU 0 +4.00 GiB")
ARRIVED = Check("b", "memory", "datapoints arrive", "it publishes", False, "1 of 1 series have no datapoint [x]")
SEALED = Check("c", "image", "the image is sealed", "nobody reads it", None, "this API does not keep it")


def verdict(*checks: Check, kept: dict[str, str] | None = None) -> Verdict:
    return Verdict(
        run_id="run-2", ami_id="ami-1", instance_id="i-1", instance_type="g4dn.xlarge",
        result="passed" if all(check.passed for check in checks) else "failed", reason="", checks=list(checks),
        state="proven",
        evidence=Path("/evidence/ami-1/proof.json"), kept=kept or {}, timings=TIMINGS,
    )  # fmt: skip


def printed_json(document: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    report.print_json(document)
    printed = capsys.readouterr()
    assert printed.err == ""
    read: dict[str, Any] = json.loads(printed.out)
    return read


def test_document_of_a_bake_has_what_was_promised(capsys: pytest.CaptureFixture[str]) -> None:
    document = printed_json(report.baked_document(BAKED), capsys)

    assert (document["result"], document["ami_id"], document["run_id"]) == ("baked", "ami-1", "run-1")
    assert document["evidence"] == "/evidence/ami-1"
    assert document["timings"][0] == {"name": "a", "seconds": 1.25, "phases": []}


def test_document_of_a_proof_has_what_was_promised(capsys: pytest.CaptureFixture[str]) -> None:
    document = printed_json(report.verdict_document(verdict(ROSE, ARRIVED)), capsys)

    assert (document["ami_id"], document["run_id"], document["instance_id"]) == ("ami-1", "run-2", "i-1")
    assert document["result"] == "failed"
    assert [check["passed"] for check in document["checks"]] == [True, False]
    assert document["checks"][1]["reason"] == "1 of 1 series have no datapoint [x]"


def test_document_of_a_destroy_names_the_runs(capsys: pytest.CaptureFixture[str]) -> None:
    document = printed_json(report.destroyed_document(Destroyed(["run-1"], [], TIMINGS)), capsys)

    assert document["result"] == "destroyed"
    assert document["run_ids"] == ["run-1"]


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What people read; standard output stays empty."""
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()


def test_people_read_which_image_where_the_evidence_is_and_what_the_api_could_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report.print_baked(BAKED)

    text = "\n".join(lines(capsys))
    assert all(words in text for words in ("ami-1", "ami-0", "1.2.3", "/evidence/ami-1", "3.8 s", "note: this API"))


def test_people_read_the_result_first_and_then_each_check(capsys: pytest.CaptureFixture[str]) -> None:
    report.print_verdict(verdict(ROSE, ARRIVED))

    shown = [line for line in lines(capsys) if line]
    assert shown[0] == "failed  ami-1  on g4dn.xlarge"
    assert shown[1].split() == ["✓", "memory", "rises", "GPU", "0", "+4.00", "GiB"]
    assert shown[2].endswith("1 of 1 series have no datapoint [x]")
    assert any("i-1, destroyed" in line for line in shown)
    assert any(line.split() == ["image", "is", "now", "proven"] for line in shown)


def test_a_check_that_could_not_be_answered_looks_like_neither(capsys: pytest.CaptureFixture[str]) -> None:
    report.print_verdict(verdict(SEALED))

    assert any(line.split()[:2] == ["?", "the"] for line in lines(capsys) if line)


def test_instance_that_was_kept_is_told_with_the_way_to_remove_it(capsys: pytest.CaptureFixture[str]) -> None:
    report.print_verdict(
        verdict(ROSE, kept={"ssh": "ssh debian@198.51.100.4", "destroy": "invoke destroy --offline --run r1"})
    )

    text = "\n".join(lines(capsys))
    assert "passed  ami-1" in text
    assert "i-1, still running" in text
    assert "ssh debian@198.51.100.4" in text
    assert "invoke destroy --offline --run r1" in text


@pytest.mark.parametrize(("run_ids", "words"), [(["a", "b"], "a, b"), ([], "nothing was left")])
def test_people_read_what_was_destroyed(run_ids: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    report.print_destroyed(Destroyed(run_ids, [], []))

    assert lines(capsys) == [f"destroyed  {words}"]


def test_people_read_the_parts_and_the_machines(capsys: pytest.CaptureFixture[str]) -> None:
    report.print_parts([("API (moto)", "http://127.0.0.1:1 [x]")], [{"id": "i-1", "state": "running [y]"}])

    assert [line.split() for line in lines(capsys)] == [
        ["API", "(moto)", "http://127.0.0.1:1", "[x]"],
        ["i-1", "running", "[y]"],
    ]


def test_runs_that_go_on_are_said_to_be_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    report.print_destroyed(Destroyed([], ["r2"], []))

    assert "nothing was left; going on and left alone: r2" in "\n".join(lines(capsys))


def test_a_reason_gets_a_line_of_its_own_on_a_narrow_terminal() -> None:
    out = Console(file=io.StringIO(), width=60, force_terminal=True, no_color=True)

    report.print_checks(out, [ROSE])

    written = cast("io.StringIO", out.file).getvalue().splitlines()
    assert len(written) == 2
    assert "memory rises" in written[0]
    assert written[1].startswith("      ")
    assert "GPU 0 +4.00 GiB" in written[1]
