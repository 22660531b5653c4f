"""Runs Terraform for the tests of this folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ONE_INIT = threading.Lock()  # where there is no mirror they share a cache that cannot bear two at once


def copy_of(source: Path, folder: Path) -> Path:
    """A copy of terraform/ in a folder, because init writes beside the files it reads."""
    ignored = shutil.ignore_patterns(".terraform", "*.tfstate*")
    return Path(shutil.copytree(source, folder / "terraform", ignore=ignored))


def run(environment: Mapping[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Terraform in a folder; whether it succeeded is for the caller to see."""
    command = ["terraform", f"-chdir={folder}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)


def succeed(environment: Mapping[str, str], folder: Path, *arguments: str) -> str:
    """Run Terraform in a folder; returns what it printed.

    Raises:
        AssertionError: it failed.
    """
    result = run(environment, folder, *arguments)
    assert result.returncode == 0, f"terraform {' '.join(arguments)}\n{result.stdout}{result.stderr}"
    return result.stdout


def init(environment: Mapping[str, str], folder: Path, *arguments: str) -> str:
    """Install the provider; returns what was printed.

    Raises:
        AssertionError: it failed.
    """
    with _ONE_INIT:
        return succeed(environment, folder, "init", "-no-color", *arguments)


@dataclass(frozen=True)
class Findings:
    """What Terraform says about one folder: of `validate -json` and of `test`."""

    diagnostics: list[dict[str, Any]]
    tests: str
    exit_code: int


def look(environment: Mapping[str, str], folder: Path) -> Findings:
    """Validate and test a folder."""
    init(environment, folder, "-backend=false")
    validated = json.loads(run(environment, folder, "validate", "-json").stdout)
    tested = run(environment, folder, "test", "-no-color")
    return Findings(validated["diagnostics"], tested.stdout + tested.stderr, tested.returncode)
