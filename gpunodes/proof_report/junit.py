"""A proof as JUnit XML, which CI systems read: one suite per group of checks, one case per check."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from gpunodes.proof_report.proof_document import CheckEntry, ProofDocument, moment, read, writable

_PACKAGE = "gpunodes"
_OTHER_GROUP = "checks"
# A proof may fail though no check did: where one has no answer, or none was made. CI must not take that as green.
_VERDICT = functools.partial(
    CheckEntry, check_id="image_is_proven", name="the image is proven", proves="it may be promoted", passed=False
)


def document(document: Mapping[str, Any]) -> str:
    """The XML.

    Args:
        document: of a proof, as `proof.json` has it; only `checks` with id, name, outcome and reason need be there.

    Raises:
        UsageError: a field is of another type than the schema says.
    """
    proof = read(document)
    groups: dict[str, list[CheckEntry]] = {}
    for check in proof.checks:
        groups.setdefault(check.group or _OTHER_GROUP, []).append(check)
    root = JUnitXml(writable(f"proof of {proof.ami_id}" if proof.ami_id else "proof"))
    for group, checks in groups.items():
        root.add_testsuite(_suite(group, checks, proof))
    if not proof.passed and not proof.with_outcome("failed"):
        root.add_testsuite(_suite("verdict", [_VERDICT(reason=proof.reason or "no verdict was recorded")], proof))
    root.update_statistics()  # type: ignore[no-untyped-call]  # the library has types for some functions only
    text: bytes = root.tostring()  # type: ignore[no-untyped-call]
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text.decode()}\n'


def _suite(group: str, checks: Sequence[CheckEntry], proof: ProofDocument) -> TestSuite:
    suite = TestSuite(writable(group))
    began = moment(proof.began_at)
    if began:
        suite.timestamp = f"{began:%Y-%m-%dT%H:%M:%S}"  # the schema allows no zone; it is UTC
    for name, value in _properties(proof):
        suite.add_property(name, writable(value))
    suite.add_testcases([_case(group, check) for check in checks])
    return suite


def _properties(proof: ProofDocument) -> list[tuple[str, str]]:
    rows = [
        ("ami", proof.ami_id),
        ("run", proof.run_id),
        ("target", proof.target),
        ("region", proof.region),
        ("instance", proof.instance_id),
        ("type", proof.instance_type),
        ("proved_at", proof.proved_at),
        ("result", proof.result),
    ]
    return [(name, value) for name, value in rows if value]


def _case(group: str, check: CheckEntry) -> TestCase:
    case = TestCase(
        writable(check.name or check.check_id), writable(f"{_PACKAGE}.{group}.{check.check_id}"), check.seconds
    )
    if check.passed is False:
        case.result = Failure(writable(check.reason), "failed")
        case.result[0].text = writable(f"{check.reason}\nIt proves: {check.proves}" if check.proves else check.reason)
    elif check.passed is None:
        case.result = Skipped(writable(check.reason), "not answered")
    # `default`: evidence that was not yet JSON is better as text than a report that fails.
    case.system_out = writable(json.dumps(check.evidence, indent=2, ensure_ascii=False, default=str))
    return case
