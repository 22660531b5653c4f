from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hcl2
import pytest

TERRAFORM = Path(__file__).parents[2] / "terraform"
FOLDERS = sorted(path.parent.relative_to(TERRAFORM).as_posix() for path in TERRAFORM.glob("*/*/main.tf"))
STACKS = [folder for folder in FOLDERS if folder.startswith("stacks/")]
FILES = sorted(path.relative_to(TERRAFORM).as_posix() for path in TERRAFORM.glob("**/*.tf"))


def parse(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8") as file:
        parsed: dict[str, Any] = hcl2.load(file)
    return parsed


def block_types(folder: Path) -> set[str]:
    return {name for path in folder.glob("*.tf") for name in parse(path) if not name.startswith("__")}


def run(environment: Mapping[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)


def test_all_folders_are_found() -> None:
    assert {"modules/monitored-gpu", "stacks/test-instance"} <= set(FOLDERS)


@pytest.mark.parametrize("file", FILES)
def test_file_is_read_by_the_parser_of_the_recipe(file: str) -> None:
    assert parse(TERRAFORM / file)


@pytest.mark.parametrize("stack", STACKS)
def test_stack_is_a_provider_and_module_calls(stack: str) -> None:
    assert block_types(TERRAFORM / stack) == {"terraform", "provider", "module", "variable", "output"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_variables_and_outputs_are_described(folder: str) -> None:
    for file, keyword, wanted in [
        ("variables.tf", "variable", {"description", "type"}),
        ("outputs.tf", "output", {"description", "value"}),
    ]:
        for block in parse(TERRAFORM / folder / file)[keyword]:
            for name, body in block.items():
                assert wanted <= set(body), f"{keyword} {name}"


def test_stack_installs_the_locked_provider(terraform_tree: Path, terraform_environment: Mapping[str, str]) -> None:
    stack = f"-chdir={terraform_tree / 'stacks/test-instance'}"

    result = run(terraform_environment, "terraform", stack, "init", "-backend=false", "-lockfile=readonly", "-no-color")

    assert result.returncode == 0, result.stderr
    assert "Installed hashicorp/aws v5.100.0" in result.stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_terraform_test_passes(folder: str, terraform_tree: Path, terraform_environment: Mapping[str, str]) -> None:
    chdir = f"-chdir={terraform_tree / folder}"
    initialised = run(terraform_environment, "terraform", chdir, "init", "-backend=false", "-no-color")
    assert initialised.returncode == 0, initialised.stderr

    result = run(terraform_environment, "terraform", chdir, "test", "-no-color")

    assert result.returncode == 0, result.stdout + result.stderr
    assert "Success!" in result.stdout
    assert "\nSuccess! 0 passed" not in result.stdout
