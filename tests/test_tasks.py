"""The commands as a shell sees them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HINT = "error: No AWS credentials were found; set AWS_PROFILE or log in, or run with --offline.\n"


def invoke(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Invoke as somebody who is not logged in anywhere."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "INVOKE_"))}
    environment |= {
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return subprocess.run(
        [sys.executable, "-B", "-m", "invoke", *arguments],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_every_command_is_listed_with_what_it_does() -> None:
    done = invoke("--list")

    assert done.returncode == 0
    listed = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert listed.keys() >= {
        "build-ami", "test-instance", "refresh-ami", "promote", "rollback", "roll", "prune", "status", "destroy",
        "offline.up", "offline.down", "offline.status", "offline.env", "offline.new-base",
    }  # fmt: skip
    assert all(listed.values())


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("build-ami", ["--offline", "--json", "--source-ami"]),
        ("plan", ["--offline", "--json", "--source-ami", "--flavor", "--channel", "--spot", "--refresh"]),
        ("promote", ["--offline", "--json", "--channel", "--ami", "--reason"]),
        ("refresh-ami", ["--offline", "--json", "--channel"]),
        ("status", ["--offline", "--json"]),
        ("prune", ["--offline", "--json", "--apply", "--most"]),
        (
            "roll",
            ["--offline", "--json", "--channel", "--group", "--alarm", "--min-healthy", "--max-healthy", "--warmup"],
        ),
        ("rollback", ["--offline", "--json", "--channel", "--ami", "--reason"]),
        ("doctor", ["--offline", "--json", "--source-ami", "--flavor", "--spot"]),
        ("test-instance", ["--offline", "--json", "--ami", "--type", "--keep"]),
        ("destroy", ["--offline", "--json", "--run", "--all"]),
    ],
)
def test_every_option_is_explained(task: str, options: list[str]) -> None:
    shown = invoke("--help", task).stdout

    for option in options:
        line = next(line for line in shown.splitlines() if option in line)
        assert line.rstrip().endswith(".") or len(line.split()) > 3, line


@pytest.mark.parametrize("more", [[], ["--json"]])
@pytest.mark.parametrize("task", ["build-ami", "test-instance", "destroy", "promote", "rollback"])
def test_missing_credentials_are_one_sentence_and_exit_code_2(task: str, more: list[str]) -> None:
    done = invoke(task, *more)

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"{task}\n{HINT}"


def test_unknown_option_is_named_and_nothing_runs() -> None:
    done = invoke("build-ami", "--offlien")

    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr == "No idea what '--offlien' is!\n"


def test_unknown_task_is_named() -> None:
    done = invoke("bild-ami")

    assert done.returncode != 0
    assert done.stderr == "No idea what 'bild-ami' is!\n"
