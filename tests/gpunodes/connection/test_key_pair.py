from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gpunodes.aws import Clients
from gpunodes.connection.key_pair import KeyPair
from gpunodes.errors import AwsError
from tests.gpunodes import fakes


def imported(clients: Clients, folder: Path) -> KeyPair:
    run = fakes.run(folder)
    pair = KeyPair.of(run)
    pair.import_into(clients, run)
    return pair


def test_private_half_is_an_ed25519_key_that_its_owner_alone_may_read(clients: Clients, tmp_path: Path) -> None:
    pair = imported(clients, tmp_path)

    assert stat.S_IMODE(pair.private_key.stat().st_mode) == 0o600
    key = serialization.load_ssh_private_key(pair.private_key.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)


def test_public_half_is_known_to_ec2_with_the_runs_tags(clients: Clients, tmp_path: Path) -> None:
    pair = imported(clients, tmp_path)

    answer = clients.ec2.describe_key_pairs(KeyNames=[pair.name], IncludePublicKey=True)["KeyPairs"][0]

    key = serialization.load_ssh_private_key(pair.private_key.read_bytes(), password=None)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert answer["PublicKey"].split()[:2] == public.decode().split()
    assert {tag["Key"]: tag["Value"] for tag in answer["Tags"]} == {
        "gpunodes": "true",
        "gpunodes:run-id": "20300101-000000-abcd",
        "gpunodes:expires-at": "2030-01-01T04:00:00Z",
    }


def test_a_key_that_is_made_only_is_unknown_to_ec2_and_can_be_forgotten(clients: Clients, tmp_path: Path) -> None:
    pair = KeyPair.of(fakes.run(tmp_path))

    public = pair.make()

    key = serialization.load_ssh_private_key(pair.private_key.read_bytes(), password=None)
    assert public.encode() == key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    assert stat.S_IMODE(pair.private_key.stat().st_mode) == 0o600
    assert clients.ec2.describe_key_pairs()["KeyPairs"] == []
    pair.forget()
    pair.forget()
    assert not pair.private_key.exists()


def test_importing_a_second_time_is_refused_in_one_sentence(clients: Clients, tmp_path: Path) -> None:
    imported(clients, tmp_path)

    with pytest.raises(AwsError, match=r"AWS refused while importing the SSH key \(InvalidKeyPair\.Duplicate"):
        imported(clients, tmp_path)


def test_both_halves_can_be_deleted_twice(clients: Clients, tmp_path: Path) -> None:
    pair = imported(clients, tmp_path)

    pair.delete_from(clients)
    pair.delete_from(clients)

    assert not pair.private_key.exists()
    assert clients.ec2.describe_key_pairs()["KeyPairs"] == []
