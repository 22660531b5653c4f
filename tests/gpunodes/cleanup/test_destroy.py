from __future__ import annotations

import os
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from gpunodes.aws import Clients
from gpunodes.cleanup import destroy as destroy_module
from gpunodes.cleanup import leftovers, resource_kinds
from gpunodes.cleanup.destroy import destroy
from gpunodes.cleanup.resources import Kind, Resource
from gpunodes.connection.key_pair import KeyPair
from gpunodes.errors import AwsError, GpunodesError, UsageError
from gpunodes.operation import runs
from gpunodes.settings import Settings
from gpunodes.target import Target
from tests.gpunodes.fakes import RecordingProgress, executable


def offline(moto_url: str) -> Target:
    return Target(
        name="offline",
        region="us-east-1",
        flavor="debian-12",
        endpoint_url=moto_url,
        credentials={"aws_access_key_id": "a", "aws_secret_access_key": "b"},
    )


def run_with_role(settings: Settings, destination: str, clients: Clients) -> runs.Run:
    """A run of which something is left that only its name and IAM know of."""
    run = runs.start(settings, destination)
    clients.client("iam").create_role(RoleName=f"gpunodes-{run.run_id}-x", AssumeRolePolicyDocument="{}")
    return run


def roles(clients: Clients) -> list[str]:
    return [role["RoleName"] for role in clients.client("iam").list_roles()["Roles"]]


def test_a_run_on_aws_is_not_destroyed_offline(clients: Clients, moto_url: str, tmp_path: Path) -> None:
    settings = Settings(work_folder=tmp_path)
    run_with_role(settings, "aws us-east-1", clients)

    destroyed = destroy(offline(moto_url), settings, RecordingProgress(), everything=True)

    assert destroyed.run_ids == []
    assert len(roles(clients)) == 1


def test_a_run_on_aws_that_is_named_offline_is_refused(clients: Clients, moto_url: str, tmp_path: Path) -> None:
    settings = Settings(work_folder=tmp_path)
    run = run_with_role(settings, "aws eu-central-1", clients)

    with pytest.raises(UsageError, match="happened on aws eu-central-1, not on offline us-east-1"):
        destroy(offline(moto_url), settings, RecordingProgress(), run.run_id)


def test_a_run_that_is_going_on_is_left_alone(clients: Clients, moto_url: str, tmp_path: Path) -> None:
    settings = Settings(work_folder=tmp_path)
    run = run_with_role(settings, "offline us-east-1", clients)

    with runs.going_on(run):
        everything = destroy(offline(moto_url), settings, RecordingProgress(), everything=True)
        assert (everything.run_ids, everything.going_on) == ([], [run.run_id])
        with pytest.raises(UsageError, match="is going on"):
            destroy(offline(moto_url), settings, RecordingProgress(), run.run_id)


def test_without_a_word_on_whose_nothing_is_destroyed(clients: Clients, moto_url: str, tmp_path: Path) -> None:
    settings = Settings(work_folder=tmp_path)
    run = run_with_role(settings, "offline us-east-1", clients)

    with pytest.raises(UsageError, match=f"Something is left of {run.run_id}; name one with --run, or all with --all"):
        destroy(offline(moto_url), settings, RecordingProgress())
    assert len(roles(clients)) == 1

    assert destroy(offline(moto_url), settings, RecordingProgress(), everything=True).run_ids == [run.run_id]
    assert roles(clients) == []
    assert destroy(offline(moto_url), settings, RecordingProgress()).run_ids == []


def test_both_one_and_all_is_refused(moto_url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Both --run and --all were given"):
        destroy(offline(moto_url), Settings(work_folder=tmp_path), RecordingProgress(), "r1", everything=True)


@pytest.mark.parametrize("state", ["", '{"resources": [{'])
def test_what_a_torn_state_does_not_tell_is_found_by_the_run_id(
    clients: Clients, moto_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    settings, progress = Settings(work_folder=tmp_path), RecordingProgress()
    run = run_with_role(settings, "offline us-east-1", clients)
    (run.folder / "terraform").mkdir()
    (run.folder / "terraform" / "terraform.tfstate").write_text(state)
    key = run.folder / "ssh_key"
    key.touch()
    executable(tmp_path / "bin", "terraform", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    assert destroy(offline(moto_url), settings, progress, everything=True).run_ids == [run.run_id]

    assert any("removing what carries the run's id through the API instead" in event for event in progress.events)
    assert roles(clients) == []
    assert not key.exists()
    assert destroy(offline(moto_url), settings, progress, everything=True).run_ids == []


def test_a_run_of_another_checkout_can_be_named(clients: Clients, moto_url: str, tmp_path: Path) -> None:
    elsewhere, here = Settings(work_folder=tmp_path / "elsewhere"), Settings(work_folder=tmp_path / "here")
    (tmp_path / "elsewhere").mkdir()
    run = run_with_role(elsewhere, "offline us-east-1", clients)

    assert destroy(offline(moto_url), here, RecordingProgress(), everything=True).run_ids == []
    assert destroy(offline(moto_url), here, RecordingProgress(), run.run_id).run_ids == [run.run_id]

    assert roles(clients) == []


def only(monkeypatch: pytest.MonkeyPatch, *kinds: Kind) -> None:
    """Let AWS have no other kinds of things."""
    for module in (leftovers, destroy_module):
        monkeypatch.setattr(module, "KINDS", kinds)


def failing(error: Exception) -> Kind:
    def fail(_clients: Clients, _run_id: str | None) -> list[Resource]:
        raise error

    return Kind("lock", fail, lambda _clients, _resource: None)


def test_a_kind_that_cannot_be_looked_for_keeps_nothing_else_and_is_said(
    clients: Clients, moto_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(work_folder=tmp_path)
    run_with_role(settings, "offline us-east-1", clients)
    only(monkeypatch, failing(ClientError({"Error": {"Code": "AccessDenied"}}, "X")), resource_kinds.ROLE)

    with pytest.raises(GpunodesError, match="AWS refused while looking for locks"):
        destroy(offline(moto_url), settings, RecordingProgress(), everything=True)

    assert roles(clients) == []


def test_where_nobody_answers_nothing_else_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, failing(EndpointConnectionError(endpoint_url="https://ec2")), failing(AssertionError("asked")))

    with pytest.raises(AwsError, match="The API did not answer while looking for locks"):
        destroy(offline("http://127.0.0.1:9"), Settings(work_folder=tmp_path), RecordingProgress())


@pytest.mark.usefixtures("clients")
def test_a_run_of_which_only_the_private_key_is_left_loses_it(moto_url: str, tmp_path: Path) -> None:
    settings = Settings(work_folder=tmp_path)
    killed, over = (runs.start(settings, "offline us-east-1") for _ in range(2))
    KeyPair.of(killed).make()

    assert destroy(offline(moto_url), settings, RecordingProgress(), everything=True).run_ids == [killed.run_id]
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
