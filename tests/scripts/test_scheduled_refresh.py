"""scripts/scheduled-refresh and scripts/codebuild/: what they run and leave, and the exit code a scheduler sees."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = {"decision": "refreshed", "reason": "The base image changed", "ami_id": "ami-1", "channel": "c", "done": []}
LOCKED = "Channel `c` is being baked by run 20261122-101010-abcd (me@host) until 14:10 UTC at the latest; wait for it."


@dataclass(frozen=True)
class Checkout:
    """A copy of scripts/ with programs that only write down how they were called."""

    root: Path

    @property
    def calls(self) -> list[str]:
        log = self.root / "calls"
        return log.read_text().splitlines() if log.exists() else []

    def program(self, name: str, body: str = "") -> None:
        path = self.root / ".venv" / "bin" / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>"{self.root}/calls"\n{body}\n')
        path.chmod(0o755)

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.root / '.venv' / 'bin'}:{os.environ['PATH']}"
        command = [str(self.root / "scripts" / script), *arguments]
        variables = {"PATH": path, **environment}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=variables, timeout=60)

    def refresh(self, **environment: str) -> tuple[int, dict[str, Any]]:
        document = self.root / "refresh.json"
        done = self.run("scheduled-refresh", "--document", str(document), **environment)
        read: dict[str, Any] = json.loads(document.read_text())
        return done.returncode, read


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    return Checkout(tmp_path)


def invoke(checkout: Checkout, exit_codes: Mapping[str, int], document: object = None, sentence: str = "") -> None:
    cases = "".join(f"{task}) exit {code};;\n" for task, code in exit_codes.items())
    said = f"[[ $1 != refresh-ami ]] || echo 'error: {sentence}' >&2" if sentence else ""
    answer = f"[[ $1 != refresh-ami ]] || echo '{json.dumps(document)}'" if document else ""
    checkout.program("invoke", f"{said}\n{answer}\ncase $1 in\n{cases}esac")


def test_document_is_that_of_the_refresh_and_the_channel_is_handed_on(checkout: Checkout) -> None:
    invoke(checkout, {}, DOCUMENT)

    assert checkout.refresh(REFRESH_CHANNEL="canary") == (0, DOCUMENT)
    assert checkout.calls == ["invoke refresh-ami --json --channel canary"]


def test_reap_and_prune_follow_in_their_order(checkout: Checkout) -> None:
    invoke(checkout, {}, DOCUMENT)

    assert checkout.refresh(REFRESH_AFTERWARDS="reap prune")[0] == 0
    assert checkout.calls == [
        "invoke refresh-ami --json",
        "invoke reap --apply --json",
        "invoke prune --apply --json",
    ]


def test_lock_of_another_run_is_a_failure_that_says_so_and_reaps_all_the_same(checkout: Checkout) -> None:
    invoke(checkout, {"refresh-ami": 2}, sentence=LOCKED)

    exit_code, document = checkout.refresh(REFRESH_CHANNEL="c", REFRESH_AFTERWARDS="prune reap")

    assert exit_code == 2
    assert document == {
        "decision": "error",
        "reason": LOCKED,
        "ami_id": "",
        "channel": "c",
        "done": [],
        "exit_code": 2,
    }
    assert checkout.calls[1:] == ["invoke reap --apply --json"]


def test_proof_that_failed_keeps_its_document_and_its_exit_code(checkout: Checkout) -> None:
    failed = {**DOCUMENT, "decision": "failed"}
    invoke(checkout, {"refresh-ami": 1, "reap": 3}, failed)

    assert checkout.refresh(REFRESH_AFTERWARDS="reap") == (1, failed)


def test_reap_that_fails_after_a_refresh_is_a_failure(checkout: Checkout) -> None:
    invoke(checkout, {"reap": 3}, DOCUMENT)

    assert checkout.refresh(REFRESH_AFTERWARDS="reap")[0] == 3


def test_unknown_task_is_refused_before_anything_is_done(checkout: Checkout) -> None:
    invoke(checkout, {}, DOCUMENT)

    done = checkout.run("scheduled-refresh", "--document", "/dev/null", REFRESH_AFTERWARDS="reap destroy")

    assert (done.returncode, checkout.calls) == (2, [])
    assert "`destroy` is neither reap nor prune" in done.stderr


ANNOUNCING = {"REFRESH_TOPIC": "arn:topic", "REFRESH_CHANNEL": "stable", "REFRESH_ANNOUNCE": "changes"}


@pytest.mark.parametrize(
    ("decision", "announce", "is_told"),
    [
        ("refreshed", "changes", True),
        ("failed", "changes", True),
        ("error", "changes", True),
        ("nothing", "changes", False),
        ("wait", "changes", False),
        ("nothing", "every_run", True),
    ],
)
def test_topic_is_told_of_what_happened(checkout: Checkout, decision: str, announce: str, is_told: bool) -> None:
    checkout.program("aws")
    document = checkout.root / "refresh.json"
    document.write_text(json.dumps({**DOCUMENT, "decision": decision}))

    done = checkout.run("codebuild/announce", str(document), **{**ANNOUNCING, "REFRESH_ANNOUNCE": announce})

    told = f"aws sns publish --topic-arn arn:topic --message file://{document} --subject gpunodes: stable: {decision}"
    assert (done.returncode, checkout.calls) == (0, [told] if is_told else [])


def test_evidence_goes_to_the_bucket(checkout: Checkout) -> None:
    checkout.program("aws")
    evidence = checkout.root / ".gpunodes" / "evidence"
    evidence.mkdir(parents=True)
    document = checkout.root / "refresh.json"
    document.write_text(json.dumps({**DOCUMENT, "decision": "nothing"}))

    done = checkout.run("codebuild/announce", str(document), **ANNOUNCING, REFRESH_EVIDENCE_BUCKET="b")

    assert done.returncode == 0
    assert checkout.calls == [f"aws s3 cp --recursive --only-show-errors {evidence} s3://b/evidence/"]


def test_build_that_was_stopped_before_its_refresh_has_nothing_to_tell(checkout: Checkout) -> None:
    checkout.program("aws")

    assert checkout.run("codebuild/announce", str(checkout.root / "none"), **ANNOUNCING).returncode == 0
    assert checkout.calls == []


def test_topic_that_refuses_is_a_failure(checkout: Checkout) -> None:
    checkout.program("aws", "exit 254")
    document = checkout.root / "refresh.json"
    document.write_text(json.dumps(DOCUMENT))

    done = checkout.run("codebuild/announce", str(document), **ANNOUNCING)

    assert done.returncode == 3
    assert "Let the build's role publish to arn:topic" in done.stderr


@pytest.mark.parametrize(("digest", "exit_code"), [("", 0), (hashlib.sha256(b"deb").hexdigest(), 0), ("0" * 64, 3)])
def test_plugin_is_installed_if_its_digest_is_the_one_that_was_named(
    checkout: Checkout, digest: str, exit_code: int
) -> None:
    checkout.program("curl", 'while (($# > 1)); do [[ $1 != --output ]] || printf deb >"$2"; shift; done')
    checkout.program("dpkg")

    done = checkout.run(
        "codebuild/install-plugin", SESSION_MANAGER_PLUGIN="https://x/p.deb", SESSION_MANAGER_PLUGIN_SHA256=digest
    )

    assert done.returncode == exit_code
    assert any(call.startswith("dpkg --install") for call in checkout.calls) == (exit_code == 0)
