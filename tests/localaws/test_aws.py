from __future__ import annotations

import http.client
import json
import logging
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from localaws import metadata
from localaws.aws import Account

_TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})


@pytest.fixture(scope="module")
def endpoint_url() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def account(endpoint_url: str, monkeypatch: pytest.MonkeyPatch) -> Account:
    """A fresh account; the caller's proxy must not matter."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    # moto's state is the process's: other tests may have left it without the images that it comes with.
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "true")
    with closing(http.client.HTTPConnection(endpoint_url.removeprefix("http://"))) as connection:
        connection.request("POST", "/moto-api/reset")
        connection.getresponse().read()
    made = Account(endpoint_url)
    for instance in made.instances():
        made.ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    return made


def launch(account: Account, **options: Any) -> dict[str, Any]:
    ami = account.ec2.describe_images()["Images"][0]["ImageId"]
    subnet_id = account.create_network("198.51.100.0/24")
    made = account.ec2.run_instances(ImageId=ami, MinCount=1, MaxCount=1, SubnetId=subnet_id, **options)
    instance_id = made["Instances"][0]["InstanceId"]
    return next(instance for instance in account.instances() if instance["InstanceId"] == instance_id)


def with_profile(account: Account, name: str, *, role: bool = True) -> dict[str, Any]:
    """An instance whose profile has this name, and a role of the same name in it."""
    account._iam.create_instance_profile(InstanceProfileName=name)
    if role:
        account._iam.create_role(RoleName=name, AssumeRolePolicyDocument=_TRUST)
        account._iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return launch(account, IamInstanceProfile={"Name": name})


def credentials(account: Account, instance: dict[str, Any], name: str, now: datetime) -> dict[str, str]:
    tree = account.metadata_of(instance, lambda: now)
    text = metadata.find(tree, f"meta-data/iam/security-credentials/{name}")
    assert text is not None
    document: dict[str, str] = json.loads(text)
    return document


def test_instances_of_the_network_have_its_addresses_and_their_owner(account: Account) -> None:
    instance = launch(account)

    assert instance["PrivateIpAddress"].startswith("198.51.100.")
    assert instance["OwnerId"] == "123456789012"
    assert instance["State"]["Name"] == "running"


def test_images_are_those_that_were_made_here(account: Account) -> None:
    instance_id = launch(account)["InstanceId"]

    made = account.ec2.create_image(InstanceId=instance_id, Name="mine")["ImageId"]

    found = [image for image in account.images() if image["ImageId"] == made]
    assert [image["SourceInstanceId"] for image in found] == [instance_id]
    assert all(image["OwnerId"] == "123456789012" for image in account.images())


def test_halt_is_reported(account: Account) -> None:
    instance_id = launch(account)["InstanceId"]

    account.report_stopped(instance_id)

    states = {instance["InstanceId"]: instance["State"]["Name"] for instance in account.instances()}
    assert states[instance_id] == "stopped"


def test_the_state_of_an_instance_is_told_and_that_there_is_none(account: Account) -> None:
    instance_id = launch(account)["InstanceId"]

    assert account.state_of(instance_id) == "running"
    account.ec2.stop_instances(InstanceIds=[instance_id])
    assert account.state_of(instance_id) == "stopped"
    assert account.state_of("i-00000000000000000") is None


def test_bare_instance_has_an_identity_and_nothing_else(account: Account) -> None:
    instance = launch(account)

    tree = account.metadata_of(instance)

    assert metadata.find(tree, "meta-data/instance-id") == instance["InstanceId"]
    for path in ("user-data", "meta-data/public-keys", "meta-data/iam"):
        assert metadata.find(tree, path) is None


def test_user_data_is_told_decoded(account: Account) -> None:
    tree = account.metadata_of(launch(account, UserData="#!/bin/sh\necho ä\n"))

    assert metadata.find(tree, "user-data") == "#!/bin/sh\necho ä\n"


def test_key_is_told_until_its_pair_is_deleted(account: Account) -> None:
    account.ec2.create_key_pair(KeyName="pair")
    instance = launch(account, KeyName="pair")

    tree = account.metadata_of(instance)
    assert metadata.find(tree, "meta-data/public-keys/") == "0=pair"
    assert (metadata.find(tree, "meta-data/public-keys/0/openssh-key") or "").startswith("ssh-")

    account.ec2.delete_key_pair(KeyName="pair")
    assert metadata.find(account.metadata_of(instance), "meta-data/public-keys/") is None


def test_role_credentials_are_kept_and_renewed_before_they_expire(account: Account) -> None:
    instance = with_profile(account, "renewed")
    start = datetime.now(UTC)

    first = credentials(account, instance, "renewed", start)
    expires = datetime.strptime(first["Expiration"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert expires > start + timedelta(minutes=15)
    assert first["LastUpdated"] == start.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert {"Code", "AccessKeyId", "SecretAccessKey", "Token"} <= set(first)

    assert credentials(account, instance, "renewed", expires - timedelta(minutes=15, seconds=5)) == first
    renewed = credentials(account, instance, "renewed", expires - timedelta(minutes=14))
    assert renewed["AccessKeyId"] != first["AccessKeyId"]


def test_profile_is_named_with_its_role(account: Account) -> None:
    tree = account.metadata_of(with_profile(account, "named"))

    info = json.loads(metadata.find(tree, "meta-data/iam/info") or "")
    assert info["InstanceProfileArn"].endswith(":instance-profile/named")
    assert metadata.find(tree, "meta-data/iam/security-credentials/") == "named"


def test_profile_without_role_has_no_credentials(account: Account) -> None:
    tree = account.metadata_of(with_profile(account, "empty", role=False))

    assert metadata.find(tree, "meta-data/iam/") == "info"


def test_profile_that_was_deleted_takes_only_the_role_away(account: Account) -> None:
    instance = with_profile(account, "deleted", role=False)
    account._iam.delete_instance_profile(InstanceProfileName="deleted")

    tree = account.metadata_of(instance)

    assert metadata.find(tree, "meta-data/iam/") is None
    assert metadata.find(tree, "meta-data/instance-id") == instance["InstanceId"]
