"""docs/schedules*.md: the files, units, variables, outputs and tasks that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tasks
from gpunodes.errors import PreflightError, ToolError, UsageError

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("schedules*.md"))
TEXT = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
ALL = "\n".join(TEXT.values())


def declared(folder: str, keyword: str) -> set[str]:
    files = (ROOT / "terraform" / folder).glob("*.tf")
    return {name for file in files for name in re.findall(rf'^{keyword} "(\w+)"', file.read_text(), re.MULTILINE)}


def test_there_is_a_page_for_each_schedule() -> None:
    assert list(TEXT) == ["schedules-codebuild.md", "schedules-github.md", "schedules-systemd.md", "schedules.md"]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:scripts|systemd|terraform|\.github)/[\w./-]*)", ALL))))
def test_file_exists(name: str) -> None:
    assert (ROOT / name).exists()


def test_files_that_the_commands_copy_exist() -> None:
    named = re.findall(r"/srv/gpunodes/((?:scripts|systemd)/[\w.*@-]+)", TEXT["schedules-systemd.md"])

    assert len(named) == 4
    assert [name for name in named if not list(ROOT.glob(name))] == []


def test_units_that_the_commands_name_exist() -> None:
    units = set(re.findall(r"(gpunodes-refresh[\w-]*@)\w+\.(service|timer)", ALL))

    assert units == {
        ("gpunodes-refresh@", "timer"),
        ("gpunodes-refresh@", "service"),
        ("gpunodes-refresh-notice@", "service"),
    }
    assert [unit for unit in units if not (ROOT / "systemd" / ".".join(unit)).exists()] == []


def test_tasks_exist() -> None:
    named = set(re.findall(r"`invoke ([\w-]+)", ALL))

    assert named
    assert named <= set(tasks.namespace.task_names)


def test_variables_of_the_stack_exist() -> None:
    named = set(re.findall(r"-var '?(\w+)=", TEXT["schedules-codebuild.md"]))
    named |= {"alarm_days", "announce", "connection_arn", "evidence_bucket", "schedule", "timeout_minutes", "revision"}
    named |= {"session_manager_plugin_version", "session_manager_plugin_sha256"}

    assert all(name in ALL for name in named)
    assert named <= declared("stacks/ami-refresh", "variable") == declared("modules/ami-refresh", "variable")
    assert declared("stacks/ami-refresh", "output") == declared("modules/ami-refresh", "output")


def test_variables_of_the_workflow_are_those_it_reads() -> None:
    workflow = (ROOT / ".github/workflows/refresh-ami.yml").read_text(encoding="utf-8")

    assert set(re.findall(r"^   \| `(\w+)` \|", TEXT["schedules-github.md"], re.MULTILINE)) == set(
        re.findall(r"vars\.(\w+)", workflow)
    )


def test_statements_that_cannot_be_narrowed_exist() -> None:
    policy = (ROOT / "terraform/modules/refresh-permissions/main.tf").read_text(encoding="utf-8")
    table = TEXT["schedules.md"].partition("| statement | why |")[2]
    named = {sid for line in table.splitlines() for sid in re.findall(r"`([A-Z][A-Za-z]+)`", line.split(" | ")[0])}

    assert len(named) == 6
    assert [sid for sid in named if not re.search(rf'Sid +?= "{sid}"', policy)] == []


def test_exit_codes_are_those_of_the_errors() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT["schedules.md"], re.MULTILINE)}

    assert codes == {0, 1, UsageError.exit_code, PreflightError.exit_code, ToolError.exit_code, 130}
