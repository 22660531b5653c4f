from __future__ import annotations

import json
import math
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunodes.errors import UsageError
from gpunodes.proof_report import junit
from tests.gpunodes.proof_report import proof_documents

COUNTS = {"failures": "failure", "errors": "error", "skipped": "skipped"}
# What readers of JUnit XML know (Jenkins' schema, GitLab, GitHub's reporters): elements, their parents and attributes.
ALLOWED = {
    "testsuites": (None, {"name", "tests", "failures", "errors", "skipped", "time"}),
    "testsuite": ("testsuites", {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"}),
    "properties": ("testsuite", set()),
    "property": ("properties", {"name", "value"}),
    "testcase": ("testsuite", {"name", "classname", "time"}),
    "failure": ("testcase", {"message", "type"}),
    "skipped": ("testcase", {"message", "type"}),
    "system-out": ("testcase", set()),
}


def parsed(document: dict[str, Any]) -> Element:
    root = ElementTree.fromstring(junit.document(document).encode())
    assert_follows_the_rules(root)
    return root


def assert_follows_the_rules(root: Element) -> None:
    assert root.tag == "testsuites"
    for parent in root.iter():
        for child in parent:
            where, attributes = ALLOWED[child.tag]
            assert where == parent.tag
            assert set(child.attrib) <= attributes
    for suite in [root, *root.iter("testsuite")]:
        cases = list(suite.iter("testcase"))
        assert int(suite.attrib["tests"]) == len(cases)
        for count, tag in COUNTS.items():
            assert int(suite.attrib[count]) == sum(case.find(tag) is not None for case in cases)
        seconds = sum(float(case.get("time", 0)) for case in cases)
        assert math.isclose(float(suite.attrib["time"]), seconds, abs_tol=0.002)
    for case in root.iter("testcase"):
        assert case.attrib["name"]
        assert case.attrib["classname"]
        # The schema's order: first the result, then the output.
        assert [child.tag for child in case] in (["system-out"], ["failure", "system-out"], ["skipped", "system-out"])


@pytest.mark.parametrize("name", proof_documents.everything())
def test_every_document_follows_the_rules(name: str) -> None:
    document = proof_documents.everything()[name]

    cases = list(parsed(document).iter("testcase"))

    assert len(cases) == max(len(document.get("checks", [])), 1)


def test_groups_are_suites_in_the_order_of_the_checks() -> None:
    root = parsed(proof_documents.passed())

    assert [suite.get("name") for suite in root] == ["image", "boot", "services", "gpus", "memory", "datapoints"]
    assert root.attrib | {"time": ""} == {
        "name": "proof of ami-0123456789abcdef0",
        "tests": str(len(proof_documents.checks())),
        "failures": "0",
        "errors": "0",
        "skipped": "0",
        "time": "",
    }


def test_check_that_failed_is_a_failure_with_its_reason() -> None:
    root = parsed(proof_documents.failed())

    case = next(case for case in root.iter("testcase") if case.get("classname") == "gpunodes.memory.memory_rises")

    failure = case.find("failure")
    assert failure is not None
    assert failure.get("message") == "GPU 1 rose by 0.02 GiB instead of 4.00 GiB at 25 %"
    assert "It proves: the published memory is memory" in (failure.text or "")
    assert json.loads(case.findtext("system-out") or "")["tolerance"] == 0.01


def test_check_without_an_answer_is_skipped() -> None:
    root = parsed(proof_documents.failed())

    skipped = root.findall(".//testcase/skipped")

    assert [entry.get("message") for entry in skipped] == [
        "the offline cloud has no role policies, so nothing can be denied"
    ]


def test_suites_say_what_was_proven_where_and_when() -> None:
    suite = parsed(proof_documents.passed())[0]

    assert {entry.get("name"): entry.get("value") for entry in suite.iter("property")} == {
        "ami": "ami-0123456789abcdef0",
        "run": "proof-20261122-100012-4f2a",
        "target": "aws",
        "region": "eu-central-1",
        "instance": "i-0123456789abcdef0",
        "type": "g4dn.xlarge",
        "proved_at": "2026-11-22T10:17:09+00:00",
        "result": "passed",
    }
    assert suite.get("timestamp") == "2026-11-22T10:00:12"


def test_seconds_are_summed_where_they_are_known() -> None:
    document = proof_documents.bare()
    document["checks"][0]["seconds"] = 1.25
    document["checks"][1]["seconds"] = 2

    root = parsed(document)

    assert root.get("time") == "3.25"
    assert [case.get("time") for case in root.iter("testcase")] == ["1.25", "2.0", None]


@pytest.mark.parametrize("checks", [[], [{"check_id": "x", "name": "x", "passed": None, "reason": "no answer"}]])
def test_proof_that_failed_without_a_failed_check_is_not_green(checks: list[dict[str, Any]]) -> None:
    root = parsed({"result": "failed", "reason": "one check has no answer", "checks": checks})

    failures = root.findall(".//failure")
    assert [failure.get("message") for failure in failures] == ["one check has no answer"]


def test_evidence_that_json_has_no_word_for_is_still_shown() -> None:
    document = proof_documents.bare()
    document["checks"][0]["evidence"] = {"nan": math.nan, "set": {1}}

    out = next(parsed(document).iter("system-out"))

    assert out.text == '{\n  "nan": NaN,\n  "set": "{1}"\n}'


@given(text=st.text(alphabet=st.characters(exclude_categories=[]), min_size=1))
def test_no_character_breaks_it(text: str) -> None:
    check = {"check_id": text, "group": text, "name": text, "proves": text, "reason": text, "evidence": {text: [text]}}
    checks = [check | {"passed": passed} for passed in (True, False, None)]

    root = parsed({"result": "failed", "ami_id": text, "run_id": text, "checks": checks})

    assert root.get("failures") == root.get("skipped") == "1"


def test_text_that_xml_knows_arrives_unchanged() -> None:
    document = proof_documents.bare()
    document["checks"][1]["reason"] = '<b> & "quotes" ]]> °C €\tand 🙂'

    failure = parsed(document).find(".//failure")

    assert failure is not None
    assert failure.get("message") == '<b> & "quotes" ]]> °C €\tand 🙂'


def test_another_document_is_refused() -> None:
    with pytest.raises(UsageError, match="This is no document of a proof"):
        junit.document({"checks": "none"})
