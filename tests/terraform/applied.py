"""A configuration that is applied for a test, and the way to ask moto what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from tests.terraform import terraform_cli
from tests.terraform.moto_process import REGION


def clients(url: str, service: str) -> Any:
    session: Any = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    return session.client(service, endpoint_url=url)


@dataclass(frozen=True)
class Applied:
    """One configuration with a state of its own."""

    folder: Path
    environment: Mapping[str, str]

    @property
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.folder / "terraform.tfstate").read_text())
        return state

    @property
    def outputs(self) -> dict[str, Any]:
        return {name: output["value"] for name, output in self.state["outputs"].items()}

    def apply(self, variables: Mapping[str, Any]) -> None:
        (self.folder / "terraform.tfvars.json").write_text(json.dumps(dict(variables)))
        terraform_cli.init(self.environment, self.folder)
        terraform_cli.succeed(self.environment, self.folder, "apply", "-auto-approve", "-no-color")

    def planned_changes(self) -> set[tuple[str, str]]:
        """What the next plan would do: addresses with their actions."""
        lines = terraform_cli.succeed(self.environment, self.folder, "plan", "-json").splitlines()
        messages = [json.loads(line) for line in lines]
        return {
            (message["change"]["resource"]["addr"], message["change"]["action"])
            for message in messages
            if message["type"] == "planned_change"
        }

    def destroy(self) -> None:
        terraform_cli.succeed(self.environment, self.folder, "destroy", "-auto-approve", "-no-color")
