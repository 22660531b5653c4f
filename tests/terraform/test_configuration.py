from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import hcl2
import pytest

from tests.terraform import terraform_cli
from tests.terraform.terraform_cli import Findings

TERRAFORM = Path(__file__).parents[2] / "terraform"
FOLDERS = sorted(path.parent.relative_to(TERRAFORM).as_posix() for path in TERRAFORM.glob("*/*/main.tf"))
STACKS = [folder for folder in FOLDERS if folder.startswith("stacks/")]
EXAMPLES = [folder for folder in FOLDERS if folder.startswith("examples/")]
FILES = sorted(path.relative_to(TERRAFORM).as_posix() for path in TERRAFORM.glob("*/*/*.tf"))


def parse(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8") as file:
        parsed: dict[str, Any] = hcl2.load(file)
    return parsed


def block_types(folder: Path) -> set[str]:
    return {name for path in folder.glob("*.tf") for name in parse(path) if not name.startswith("__")}


def test_all_folders_are_found() -> None:
    assert {
        "modules/ami-refresh",
        "modules/github-role",
        "modules/monitored-gpu",
        "modules/refresh-permissions",
        "stacks/ami-refresh",
        "stacks/test-instance",
        "examples/instance-with-alarms",
        "examples/two-instances",
    } <= set(FOLDERS)


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


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_validation_has_a_case_that_fails(folder: str) -> None:
    validated = {
        f"var.{name.strip(chr(34))}"
        for block in parse(TERRAFORM / folder / "variables.tf")["variable"]
        for name, body in block.items()
        if "validation" in body
    }
    expected = {
        failure.removeprefix("${").removesuffix("}")
        for path in (TERRAFORM / folder / "tests").glob("*.tftest.hcl")
        for block in parse(path)["run"]
        for body in block.values()
        for failure in body.get("expect_failures", [])
    }

    assert validated <= expected


def test_stack_asks_for_nothing_that_a_test_instance_would_wait_for() -> None:
    [module] = parse(TERRAFORM / "stacks/test-instance/main.tf")["module"]
    [arguments] = module.values()

    assert [arguments[name] for name in ("alarms", "dashboard", "log_group")] == [False, False, False]


def test_stack_installs_the_locked_provider(terraform_tree: Path, terraform_environment: Mapping[str, str]) -> None:
    stack = terraform_tree / "stacks/test-instance"

    printed = terraform_cli.init(terraform_environment, stack, "-backend=false", "-lockfile=readonly")

    assert "hashicorp/aws v5.100.0" in printed


@pytest.mark.parametrize("folder", FOLDERS)
def test_configuration_is_valid_without_a_warning(folder: str, findings: Mapping[str, Future[Findings]]) -> None:
    assert findings[folder].result().diagnostics == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_terraform_test_passes(folder: str, findings: Mapping[str, Future[Findings]]) -> None:
    found = findings[folder].result()

    assert found.exit_code == 0, found.tests
    assert "Success!" in found.tests
    assert "\nSuccess! 0 passed" not in found.tests
