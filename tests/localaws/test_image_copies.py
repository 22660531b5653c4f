"""Copies of images through boto3, against moto with the layers before it, as in the offline cloud."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import DomainDispatcherApplication, create_backend_app

from localaws.api import ObservedApi
from localaws.image_copies import ImageCopies
from localaws.image_shares import UNKNOWN_ACCOUNT
from tests.localaws.conftest import served

HOME, WEST, OFF = "us-east-1", "us-west-2", "ap-east-1"
Client = Callable[[str, str], Any]


class Clock:
    """UTC, moved by hand."""

    now = datetime(2026, 11, 22, 10, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def endpoint_url(clock: Clock) -> Iterator[str]:
    moto = DomainDispatcherApplication(create_backend_app)
    observed = ObservedApi(moto)
    observed._image_copies = ImageCopies(moto, observed._images.answer, clock)
    with served(observed) as url:
        yield url


@pytest.fixture(scope="module")
def client(endpoint_url: str) -> Iterator[Client]:
    session: Any = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test")
    made: dict[tuple[str, str], Any] = {}

    def get(service: str, region: str) -> Any:
        if (service, region) not in made:
            made[service, region] = session.client(service, region_name=region, endpoint_url=endpoint_url)
        return made[service, region]

    yield get
    for each in made.values():
        each.close()


@pytest.fixture
def source(client: Client) -> str:
    ec2 = client("ec2", HOME)
    made = str(ec2.register_image(Name="source", RootDeviceName="/dev/xvda")["ImageId"])
    ec2.create_tags(Resources=[made], Tags=[{"Key": "team", "Value": "ml"}])
    return made


def copied(client: Client, source: str, **more: Any) -> str:
    arguments = {"Name": "copy", "SourceImageId": source, "SourceRegion": HOME, **more}
    return str(client("ec2", WEST).copy_image(**arguments)["ImageId"])


def seen(client: Client, image_id: str, region: str = WEST) -> dict[str, Any]:
    [image] = client("ec2", region).describe_images(ImageIds=[image_id])["Images"]
    return dict(image)


def snapshot_of(client: Client, image_id: str) -> dict[str, Any]:
    snapshot_id = seen(client, image_id)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    [snapshot] = client("ec2", WEST).describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"]
    return dict(snapshot)


def refused(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


def test_copy_is_pending_at_first_and_cannot_be_launched_until_it_is_there(
    client: Client, source: str, clock: Clock
) -> None:
    ec2 = client("ec2", WEST)
    copy = copied(client, source)
    launch = {"ImageId": copy, "MinCount": 1, "MaxCount": 1}
    available = [{"Name": "state", "Values": ["available"]}, {"Name": "image-id", "Values": [copy]}]

    pending = seen(client, copy)
    assert refused(ec2.run_instances, **launch) == "InvalidAMIID.Unavailable"
    assert ec2.describe_images(Filters=available)["Images"] == []
    clock.now += timedelta(seconds=1)

    assert pending["State"] == "pending"
    assert (pending["SourceImageId"], pending["SourceImageRegion"]) == (source, HOME)
    assert seen(client, copy)["State"] == "available"
    assert ec2.run_instances(**launch)["Instances"]


def test_token_makes_one_copy_and_is_of_one_region_and_one_request(client: Client, source: str) -> None:
    first = copied(client, source, ClientToken="one")

    assert copied(client, source, ClientToken="one") == first
    assert copied(client, source, ClientToken="two") != first
    elsewhere = {"Name": "copy", "SourceImageId": source, "SourceRegion": HOME, "ClientToken": "one"}
    assert client("ec2", "eu-west-1").copy_image(**elsewhere)["ImageId"] != first
    assert refused(client("ec2", WEST).copy_image, **{**elsewhere, "Name": "other"}) == "IdempotentParameterMismatch"


def test_tags_are_there_from_the_start_on_image_and_snapshot(client: Client, source: str) -> None:
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
    kinds = [{"ResourceType": "image", "Tags": tags[:1]}, {"ResourceType": "snapshot", "Tags": tags}]

    plain, tagged = copied(client, source), copied(client, source, TagSpecifications=kinds, CopyImageTags=True)

    assert seen(client, plain)["Tags"] == []
    assert {tag["Key"]: tag["Value"] for tag in seen(client, tagged)["Tags"]} == {"team": "ml", "a": "1"}
    assert snapshot_of(client, tagged)["Tags"] == tags
    wrong = [{"ResourceType": "instance", "Tags": tags}]
    arguments = {"Name": "copy", "SourceImageId": source, "SourceRegion": HOME, "TagSpecifications": wrong}
    assert refused(client("ec2", WEST).copy_image, **arguments) == "InvalidParameterValue"


def test_copy_is_encrypted_with_the_key_of_its_region(client: Client, source: str) -> None:
    ec2, kms = client("ec2", WEST), client("kms", WEST)
    assert ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == "alias/aws/ebs"
    key = kms.create_key()["KeyMetadata"]["Arn"]
    by_default = copied(client, source, Encrypted=True)
    ec2.modify_ebs_default_kms_key_id(KmsKeyId=key)

    assert ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == key
    assert snapshot_of(client, copied(client, source))["Encrypted"] is False
    of_aws = kms.describe_key(KeyId="alias/aws/ebs")["KeyMetadata"]["Arn"]
    assert snapshot_of(client, by_default)["KmsKeyId"] == of_aws
    chosen = snapshot_of(client, copied(client, source, Encrypted=True))
    assert (chosen["Encrypted"], chosen["KmsKeyId"]) == (True, key)


def test_copy_with_a_key_that_cannot_be_used_fails_later_and_says_why(
    client: Client, source: str, clock: Clock
) -> None:
    copy = copied(client, source, Encrypted=True, KmsKeyId="alias/none")
    pending = seen(client, copy)["State"]
    clock.now += timedelta(seconds=1)

    failed = seen(client, copy)
    assert (pending, failed["State"]) == ("pending", "failed")
    assert failed["StateReason"] == {
        "Code": "Client.InvalidKMSKey", "Message": "The key alias/none is not accessible.",
    }  # fmt: skip


def test_image_that_does_not_exist_is_not_copied(client: Client) -> None:
    arguments = {"Name": "copy", "SourceImageId": "ami-0123456789abcdef0", "SourceRegion": HOME}
    assert refused(client("ec2", WEST).copy_image, **arguments) == "InvalidAMIID.NotFound"


@pytest.mark.parametrize(
    "who",
    [
        {"UserId": UNKNOWN_ACCOUNT},
        {"OrganizationArn": "arn:aws:organizations::123456789012:organization/none"},
        {"OrganizationalUnitArn": "arn:aws:organizations::123456789012:ou/o-abcdefghij/none"},
    ],
    ids=["account", "organisation", "unit"],
)
def test_share_with_nobody_is_refused_and_takes_all_of_its_call_along(
    client: Client, source: str, who: dict[str, str]
) -> None:
    ec2 = client("ec2", HOME)
    added = {"Add": [{"UserId": "111122223333"}, who]}

    assert refused(ec2.modify_image_attribute, ImageId=source, LaunchPermission=added) == (
        "InvalidAMIAttributeItemValue"
    )
    assert ec2.describe_image_attribute(ImageId=source, Attribute="launchPermission")["LaunchPermissions"] == []


def test_organisations_and_units_are_shared_with_and_read_back(client: Client, source: str) -> None:
    ec2 = client("ec2", HOME)
    added = [
        {"OrganizationArn": "arn:aws:organizations::123456789012:organization/o-abcdefghij"},
        {"OrganizationalUnitArn": "arn:aws:organizations::123456789012:ou/o-abcdefghij/ou-abcd-12345678"},
    ]
    ec2.modify_image_attribute(ImageId=source, LaunchPermission={"Add": added})

    assert ec2.describe_image_attribute(ImageId=source, Attribute="launchPermission")["LaunchPermissions"] == added


def test_region_that_is_switched_off_knows_nobody(client: Client) -> None:
    assert refused(client("ec2", OFF).describe_images, Owners=["self"]) == "AuthFailure"
    assert refused(client("ssm", OFF).describe_parameters) == "UnrecognizedClientException"
    assert client("ssm", WEST).describe_parameters()["Parameters"] == []
