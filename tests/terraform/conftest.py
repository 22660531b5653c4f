from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from gpunodes.terraform import cli_environment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def terraform_environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """An environment in which Terraform can reach no account and, where there is a mirror, no registry."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))}
    return environment | cli_environment(tmp_path_factory.mktemp("terraform"), environment)


@pytest.fixture
def terraform_tree(tmp_path: Path) -> Path:
    """A copy of terraform/, because init writes beside the files it reads."""
    return Path(shutil.copytree(ROOT / "terraform", tmp_path / "terraform"))
