from __future__ import annotations

import stat
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from gpunodes.aws import Clients
from gpunodes.connection.key_pair import KeyPair
from gpunodes.proof import second_clone
from gpunodes.proof.launch import TestInstance
from gpunodes.proof.remote import Remote
from gpunodes.settings import Settings
from tests.gpunodes import fakes
from tests.gpunodes.fakes import RecordingProgress


def instance(clients: Clients, folder: Path, ssh_key: str = "instance_connect") -> TestInstance:
    settings = Settings(work_folder=folder, ssh_key=ssh_key)
    return TestInstance(clients.target, settings, fakes.run(folder), clients, RecordingProgress())


def pairs(clients: Clients) -> list[str]:
    return [pair["KeyName"] for pair in clients.ec2.describe_key_pairs()["KeyPairs"]]


def test_the_key_of_a_proof_stays_in_the_runs_folder(clients: Clients, tmp_path: Path) -> None:
    proof = instance(clients, tmp_path)
    private = KeyPair.of(proof.run).private_key

    proof.make_key()
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert pairs(clients) == []

    proof.delete_key()
    assert not private.exists()


def test_a_pair_that_this_run_did_not_import_is_not_deleted(clients: Clients, tmp_path: Path) -> None:
    proof = instance(clients, tmp_path)
    proof.make_key()
    clients.ec2.create_key_pair(KeyName=KeyPair.of(proof.run).name)

    proof.delete_key()

    # DeleteKeyPair of what is not there is a right that the operator need not have.
    assert pairs(clients) == [KeyPair.of(proof.run).name]


def test_where_a_key_pair_is_wanted_it_is_imported_and_deleted(clients: Clients, tmp_path: Path) -> None:
    proof = instance(clients, tmp_path, "key_pair")

    proof.make_key()
    assert pairs(clients) == [KeyPair.of(proof.run).name]

    proof.delete_key()
    assert pairs(clients) == []
    assert not KeyPair.of(proof.run).private_key.exists()


class HomeShell:
    """A connection to a user whose home is a folder here."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, command: str) -> str:
        environment = {"HOME": str(self.home), "PATH": "/usr/bin:/bin"}
        return subprocess.run(["sh", "-c", command], env=environment, check=True, capture_output=True, text=True).stdout


def test_an_instance_that_is_kept_knows_the_key_for_good(clients: Clients, tmp_path: Path) -> None:
    proof = instance(clients, tmp_path / "run")
    proof._remote = cast("Remote", HomeShell(tmp_path))
    proof.make_key()
    authorized = tmp_path / ".ssh" / "authorized_keys"

    proof.leave_key()
    proof.leave_key()

    assert authorized.read_text() == f"{proof._public_key}\n"
    assert stat.S_IMODE(authorized.stat().st_mode) == 0o600
    assert stat.S_IMODE(authorized.parent.stat().st_mode) == 0o700


def test_other_keys_of_a_kept_instance_stay(clients: Clients, tmp_path: Path) -> None:
    proof = instance(clients, tmp_path / "run")
    proof._remote = cast("Remote", HomeShell(tmp_path))
    proof.make_key()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "authorized_keys").write_text("ssh-ed25519 AAAA theirs\n")

    proof.leave_key()

    assert (tmp_path / ".ssh" / "authorized_keys").read_text() == f"ssh-ed25519 AAAA theirs\n{proof._public_key}\n"


@pytest.mark.parametrize("more", [{}, {"KeyName": "theirs"}])
def test_a_second_clone_has_a_key_pair_where_the_first_has_one(
    clients: Clients, tmp_path: Path, more: dict[str, Any]
) -> None:
    clients.client("iam").create_instance_profile(InstanceProfileName="p")
    clients.ec2.create_key_pair(KeyName="theirs")
    first = clients.ec2.run_instances(
        ImageId=fakes.base_image(clients), MinCount=1, MaxCount=1, IamInstanceProfile={"Name": "p"}, **more
    )["Instances"][0]
    proof = instance(clients, tmp_path)
    proof.make_key()
    proof.outputs = {"instance_id": first["InstanceId"]}

    second = second_clone.launch(proof, {"ImageId": fakes.base_image(clients), "Architecture": "x86_64"})

    found = clients.ec2.describe_instances(InstanceIds=[second.instance_id])["Reservations"][0]["Instances"][0]
    assert found.get("KeyName") == more.get("KeyName")
    assert second._public_key == proof._public_key
