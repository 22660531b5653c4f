from __future__ import annotations

import pytest

from gpunodes.settings import Settings
from gpunodes.target import aws_target

SETTINGS = Settings(region="eu-central-1", subnet_id="subnet-1", ssh_source_cidr="203.0.113.7/32")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")


def test_target_follows_the_settings() -> None:
    target = aws_target(SETTINGS)

    assert (target.name, target.region) == ("aws", "eu-central-1")
    assert (target.subnet_id, target.ssh_source_cidr) == ("subnet-1", "203.0.113.7/32")
    assert (target.flavor, target.tolerates_missing_calls) == ("ubuntu-22.04", False)
    assert target.environment == {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1"}


def test_secrets_stay_with_the_tools_own_chain() -> None:
    target = aws_target(SETTINGS)

    assert target.credentials == {}
    assert target.endpoint_url is None
    assert "very-secret" not in repr(target)


def test_instances_without_ingress_are_reached_through_session_manager() -> None:
    command = aws_target(SETTINGS).ssh_proxy_command.format(region="us-east-1", instance_id="i-1")

    assert command.startswith("aws ssm start-session --region us-east-1 --target i-1 ")
