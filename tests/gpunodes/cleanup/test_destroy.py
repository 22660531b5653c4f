from __future__ import annotations

from pathlib import Path

import pytest

from gpunodes.aws import Clients
from gpunodes.cleanup import leftovers
from gpunodes.cleanup.destroy import destroy
from gpunodes.connection.key_pair import KeyPair
from gpunodes.errors import UsageError
from gpunodes.operation import runs
from gpunodes.settings import Settings
from gpunodes.target import Target
from tests.gpunodes.fakes import RecordingProgress


def offline(moto_url: str) -> Target:
    return Target(
        name="offline",
        region="us-east-1",
        flavor="debian-12",
        endpoint_url=moto_url,
        credentials={"aws_access_key_id": "a", "aws_secret_access_key": "b"},
    )


def run_with_state(settings: Settings, destination: str) -> runs.Run:
    """A run whose Terraform state says that something exists."""
    run = runs.start(settings, destination)
    (run.folder / "terraform").mkdir()
    (run.folder / "terraform" / "terraform.tfstate").write_text('{"resources": [{"type": "aws_instance"}]}')
    return run


def test_a_run_on_aws_is_not_destroyed_offline(clients: Clients, moto_url: str, tmp_path: Path) -> None:
    settings = Settings(work_folder=tmp_path)
    run = run_with_state(settings, "aws us-east-1")

    destroyed = destroy(offline(moto_url), settings, RecordingProgress())

    assert destroyed.run_ids == []
    assert (run.folder / "terraform" / "terraform.tfstate").exists()
    assert clients.ec2.describe_instances()["Reservations"] == []


@pytest.mark.usefixtures("clients")
def test_a_run_on_aws_that_is_named_offline_is_refused(moto_url: str, tmp_path: Path) -> None:
    settings = Settings(work_folder=tmp_path)
    run = run_with_state(settings, "aws eu-central-1")

    with pytest.raises(UsageError, match="happened on aws eu-central-1, not on offline us-east-1"):
        destroy(offline(moto_url), settings, RecordingProgress(), run.run_id)


@pytest.mark.usefixtures("clients")
def test_a_run_that_is_going_on_is_left_alone(moto_url: str, tmp_path: Path) -> None:
    settings = Settings(work_folder=tmp_path)
    run = run_with_state(settings, "offline us-east-1")

    with runs.going_on(run):
        assert destroy(offline(moto_url), settings, RecordingProgress()).run_ids == []
        with pytest.raises(UsageError, match="is going on"):
            destroy(offline(moto_url), settings, RecordingProgress(), run.run_id)


@pytest.mark.usefixtures("clients")
def test_a_run_of_which_only_the_private_key_is_left_loses_it(moto_url: str, tmp_path: Path) -> None:
    settings = Settings(work_folder=tmp_path)
    killed, over = (runs.start(settings, "offline us-east-1") for _ in range(2))
    KeyPair.of(killed).make()

    assert destroy(offline(moto_url), settings, RecordingProgress()).run_ids == [killed.run_id]
    assert not KeyPair.of(killed).private_key.exists()
    assert over.run_id != killed.run_id


@pytest.mark.usefixtures("clients")
def test_an_unknown_run_is_said(moto_url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no run r1"):
        destroy(offline(moto_url), Settings(work_folder=tmp_path), RecordingProgress(), "r1")


def test_roles_and_profiles_of_one_run_are_removed(clients: Clients) -> None:
    iam = clients.client("iam")
    for run_id in ("r1", "r10"):
        iam.create_role(RoleName=f"gpunodes-{run_id}-x", AssumeRolePolicyDocument="{}")
        iam.create_instance_profile(InstanceProfileName=f"gpunodes-{run_id}-x")
        iam.add_role_to_instance_profile(InstanceProfileName=f"gpunodes-{run_id}-x", RoleName=f"gpunodes-{run_id}-x")

    assert leftovers.remove_roles(clients, "r1") == ["gpunodes-r1-x", "gpunodes-r1-x"]

    assert [role["RoleName"] for role in iam.list_roles()["Roles"]] == ["gpunodes-r10-x"]
    assert len(iam.list_instance_profiles()["InstanceProfiles"]) == 1
