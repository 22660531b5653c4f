from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from gpunodes.proof.terraform import cli_environment
from tests.terraform import terraform_cli
from tests.terraform.terraform_cli import Findings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def terraform_environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """An environment in which Terraform can reach no account and, where there is a mirror, no registry."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))}
    return environment | cli_environment(tmp_path_factory.mktemp("terraform"), environment)


@pytest.fixture(scope="session")
def terraform_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of terraform/ for tests that run one after another."""
    return terraform_cli.copy_of(ROOT / "terraform", tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="session")
def findings(
    terraform_environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Future[Findings]]]:
    """What Terraform says about every folder; it begins at once, two folders at a time, while other tests go on."""
    tree = terraform_cli.copy_of(ROOT / "terraform", tmp_path_factory.mktemp("findings"))
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield {
            path.parent.relative_to(tree).as_posix(): pool.submit(
                terraform_cli.look, terraform_environment, path.parent
            )
            for path in sorted(tree.glob("*/*/main.tf"))
        }
        pool.shutdown(cancel_futures=True)
