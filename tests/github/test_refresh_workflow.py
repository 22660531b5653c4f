""".github/workflows/refresh-ami.yml: a linter finds nothing, and what the linter does not know holds, too."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "refresh-ami.yml"
TEXT = WORKFLOW.read_text(encoding="utf-8")


def findings(workflow: Path) -> list[str]:
    """What zizmor has to say about a workflow; it asks nobody."""
    command = ["zizmor", "--offline", "--no-config", "--quiet", "--persona=pedantic", "--format=json", str(workflow)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout, done.stderr
    return [finding["ident"] for finding in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(TEXT)["jobs"]["refresh"]
    return read


def test_linter_finds_nothing() -> None:
    assert findings(WORKFLOW) == []


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        (r"actions/checkout@\w+ # v5.0.0", "actions/checkout@v5", "unpinned-uses"),
        (r"\n +with:\n +persist-credentials: false", "", "artipacked"),
        (r"permissions: \{\}", "permissions: write-all", "excessive-permissions"),
        ("run: scripts/bootstrap", "run: echo ${{ inputs.channel }}", "template-injection"),
    ],
)
def test_linter_finds_what_must_not_be_there(tmp_path: Path, old: str, new: str, finding: str) -> None:
    changed, count = re.subn(old, new, TEXT, count=1)
    assert count == 1
    workflow = tmp_path / ".github" / "workflows" / "refresh-ami.yml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text(changed)

    assert finding in findings(workflow)


def test_every_action_is_a_commit_with_its_version() -> None:
    uses = re.findall(r"uses: (.*)", TEXT)

    assert len(uses) == 3
    assert [each for each in uses if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)] == []


def test_nothing_runs_before_the_repository_has_a_role(job: dict[str, Any]) -> None:
    assert job["if"] == "vars.GPUNODES_REFRESH_ROLE != ''"


def test_permissions_are_the_least(job: dict[str, Any]) -> None:
    assert job["permissions"] == {"contents": "read", "id-token": "write"}
    assert "secrets." not in TEXT


def test_run_ends_before_role_and_lock_and_never_overlaps(job: dict[str, Any]) -> None:
    document = yaml.safe_load(TEXT)
    [login] = [step for step in job["steps"] if "configure-aws-credentials" in step.get("uses", "")]
    [module] = re.findall(
        r"max_session_duration\s*= (\d+) \* 60 \* 60",
        (ROOT / "terraform/modules/github-role/main.tf").read_text(encoding="utf-8"),
    )

    assert job["timeout-minutes"] * 60 < login["with"]["role-duration-seconds"] == int(module) * 3600
    assert document["concurrency"] == {"group": "refresh-ami", "cancel-in-progress": False}


@pytest.mark.parametrize(
    ("document", "summary"),
    [
        (
            {
                "decision": "refreshed",
                "reason": "It is due",
                "ami_id": "ami-1",
                "channel": "c",
                "done": ["baked", "proved"],
            },
            "**refreshed**: It is due\n\nThe channel c names ami-1.\n\n- baked\n- proved\n",
        ),
        (None, "**The refresh was not reached.** The log says why.\n"),
    ],
)
def test_summary_is_made_of_the_document(job: dict[str, Any], tmp_path: Path, document: object, summary: str) -> None:
    [step] = [step for step in job["steps"] if step.get("name") == "Summarize"]
    if document:
        (tmp_path / "refresh.json").write_text(json.dumps(document))
    written = tmp_path / "summary"
    environment = {"PATH": "/usr/bin:/bin", "RUNNER_TEMP": str(tmp_path), "GITHUB_STEP_SUMMARY": str(written)}

    subprocess.run(["bash", "-e", "-c", step["run"]], env=environment, check=True, timeout=30)

    assert written.read_text() == summary
