"""The life of images through boto3, against moto with the layer before it, as in the offline cloud."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import DomainDispatcherApplication, create_backend_app

from localaws.api import ObservedApi
from localaws.image_copies import ImageCopies
from localaws.image_lifecycle import ImageLifecycle
from tests.localaws.conftest import served

NOW = datetime(2026, 11, 22, 10, 0, 20, tzinfo=UTC)


class Clock:
    """UTC, moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="module")
def module_clock() -> Clock:
    return Clock()


@pytest.fixture
def clock(module_clock: Clock) -> Clock:
    module_clock.now = NOW
    return module_clock


@pytest.fixture(scope="module")
def endpoint_url(module_clock: Clock) -> Iterator[str]:
    moto = DomainDispatcherApplication(create_backend_app)
    observed = ObservedApi(moto)
    observed._images = ImageLifecycle(moto, module_clock)
    observed._image_copies = ImageCopies(moto, observed._images.answer, module_clock)
    with served(observed) as url:
        yield url


@pytest.fixture
def ec2(endpoint_url: str, clock: Clock) -> Iterator[Any]:
    client = boto3.client(
        "ec2",
        region_name="us-east-1",
        endpoint_url=endpoint_url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    clock.now = NOW
    yield client
    clock.now += timedelta(days=2)  # no cool-down is left
    for image in client.describe_images(Owners=["self"], IncludeDisabled=True)["Images"]:
        client.disable_image_deregistration_protection(ImageId=image["ImageId"])
        client.deregister_image(ImageId=image["ImageId"])
    client.close()


@pytest.fixture
def image_id(ec2: Any) -> str:
    return make_image(ec2, "one")


def make_image(ec2: Any, name: str) -> str:
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=8)["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    mapping = {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}
    made = ec2.register_image(Name=name, RootDeviceName="/dev/xvda", BlockDeviceMappings=[mapping])
    return str(made["ImageId"])


def seen(ec2: Any, image_id: str, **more: Any) -> dict[str, Any]:
    [image] = ec2.describe_images(ImageIds=[image_id], IncludeDisabled=True, **more)["Images"]
    return dict(image)


def own(ec2: Any, **more: Any) -> list[str]:
    return [image["ImageId"] for image in ec2.describe_images(Owners=["self"], **more)["Images"]]


def refused(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


def test_deprecation_is_told_to_the_minute_and_taken_back(ec2: Any, image_id: str) -> None:
    ec2.enable_image_deprecation(ImageId=image_id, DeprecateAt=NOW + timedelta(days=30))
    deprecated = seen(ec2, image_id)
    ec2.disable_image_deprecation(ImageId=image_id)

    assert deprecated["DeprecationTime"] == "2026-12-22T10:00:00.000Z"
    assert "DeprecationTime" not in seen(ec2, image_id)


@pytest.mark.parametrize("ahead", [timedelta(days=-1), timedelta(days=3660)])
def test_deprecation_of_the_past_or_far_ahead_is_refused(ec2: Any, image_id: str, ahead: timedelta) -> None:
    arguments = {"ImageId": image_id, "DeprecateAt": NOW + ahead}
    assert refused(ec2.enable_image_deprecation, **arguments) == "InvalidParameterValue"


def test_disabled_image_is_shown_only_to_whoever_asks_for_such(ec2: Any, image_id: str) -> None:
    other = make_image(ec2, "other")
    ec2.disable_image(ImageId=image_id)

    assert own(ec2) == [other]
    assert set(own(ec2, IncludeDisabled=True)) == {image_id, other}
    assert seen(ec2, image_id)["State"] == "disabled"


def test_filter_on_the_state_knows_disabled_ones(ec2: Any, image_id: str) -> None:
    other = make_image(ec2, "other")
    ec2.disable_image(ImageId=image_id)

    def found(*states: str) -> set[str]:
        return set(own(ec2, IncludeDisabled=True, Filters=[{"Name": "state", "Values": list(states)}]))

    assert found("disabled") == {image_id}
    assert found("available") == {other}
    assert found("available", "disabled") == {image_id, other}
    assert found("pending") == set()


def test_disabled_image_cannot_be_launched_until_it_is_enabled(ec2: Any, image_id: str) -> None:
    launch = {"ImageId": image_id, "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.small"}
    ec2.disable_image(ImageId=image_id)
    assert refused(ec2.run_instances, **launch) == "InvalidAMIID.Unavailable"

    ec2.enable_image(ImageId=image_id)

    launched = ec2.run_instances(**launch)["Instances"][0]
    ec2.terminate_instances(InstanceIds=[launched["InstanceId"]])
    assert launched["ImageId"] == image_id


def test_disabling_takes_the_shares_and_enabling_does_not_give_them_back(ec2: Any, image_id: str) -> None:
    share = [{"UserId": "111122223333"}]
    ec2.modify_image_attribute(ImageId=image_id, LaunchPermission={"Add": share})

    def shares() -> Any:
        return ec2.describe_image_attribute(ImageId=image_id, Attribute="launchPermission")["LaunchPermissions"]

    before = shares()
    ec2.disable_image(ImageId=image_id)
    ec2.enable_image(ImageId=image_id)

    assert (before, shares()) == (share, [])


def test_protected_image_stays(ec2: Any, image_id: str) -> None:
    said = ec2.enable_image_deregistration_protection(ImageId=image_id)["Return"]
    assert refused(ec2.deregister_image, ImageId=image_id) == "OperationNotPermitted"
    shown = seen(ec2, image_id)["DeregistrationProtection"]
    ec2.disable_image_deregistration_protection(ImageId=image_id)
    ec2.deregister_image(ImageId=image_id)

    assert said == shown == "enabled-without-cooldown"
    assert own(ec2) == []


def test_cooldown_lasts_a_day(ec2: Any, image_id: str, clock: Clock) -> None:
    ec2.enable_image_deregistration_protection(ImageId=image_id, WithCooldown=True)
    ec2.disable_image_deregistration_protection(ImageId=image_id)
    clock.now += timedelta(hours=23, minutes=59)
    assert refused(ec2.deregister_image, ImageId=image_id) == "OperationNotPermitted"
    assert seen(ec2, image_id)["DeregistrationProtection"].startswith("disabled-and-in-cooldown")

    clock.now += timedelta(minutes=1)

    ec2.deregister_image(ImageId=image_id)
    assert own(ec2, IncludeDisabled=True) == []


def test_snapshots_go_with_the_image_where_that_is_asked_for(ec2: Any, image_id: str) -> None:
    snapshot = seen(ec2, image_id)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]

    results = ec2.deregister_image(ImageId=image_id, DeleteAssociatedSnapshots=True)["DeleteSnapshotResults"]

    assert results == [{"SnapshotId": snapshot, "ReturnCode": "success"}]
    assert ec2.describe_snapshots(Filters=[{"Name": "snapshot-id", "Values": [snapshot]}])["Snapshots"] == []


def test_snapshot_of_another_image_is_left_alone() -> None:
    """moto gives each image snapshots of its own, so that two share one only here."""
    asked: list[str] = []

    def moto(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        form = dict(parse_qsl(environ["wsgi.input"].read().decode()))
        asked.append(form["Action"])
        start_response("200 OK", [])
        images = ["ami-2"] if "DeregisterImage" in asked else ["ami-1", "ami-2"]
        items = "".join(f"<item><imageId>{name}</imageId><snapshotId>snap-1</snapshotId></item>" for name in images)
        return [f"<R><imagesSet>{items}</imagesSet></R>".encode()]

    form = {"Action": "DeregisterImage", "ImageId": "ami-1", "DeleteAssociatedSnapshots": "true"}
    answer = ImageLifecycle(moto).answer({}, form)

    assert answer is not None
    assert b"<snapshotId>snap-1</snapshotId><returnCode>skipped</returnCode>" in answer.body
    assert "DeregisterImage" in asked
    assert "DeleteSnapshot" not in asked


def test_image_demands_imdsv2_once_it_was_told(ec2: Any, image_id: str) -> None:
    before = seen(ec2, image_id).get("ImdsSupport")
    ec2.modify_image_attribute(ImageId=image_id, ImdsSupport={"Value": "v2.0"})

    assert (before, seen(ec2, image_id)["ImdsSupport"]) == (None, "v2.0")
    assert refused(ec2.modify_image_attribute, ImageId=image_id, ImdsSupport={"Value": "v1.0"}) == (
        "InvalidParameterValue"
    )


def test_snapshots_stay_where_nobody_asked_for_their_end(ec2: Any, image_id: str) -> None:
    snapshot = seen(ec2, image_id)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]

    ec2.deregister_image(ImageId=image_id)

    assert ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]


@pytest.mark.parametrize(
    "call",
    [
        "enable_image",
        "disable_image",
        "disable_image_deprecation",
        "enable_image_deregistration_protection",
        "disable_image_deregistration_protection",
        "deregister_image",
    ],
)
def test_image_that_does_not_exist_is_refused(ec2: Any, call: str) -> None:
    assert refused(getattr(ec2, call), ImageId="ami-0123456789abcdef0") == "InvalidAMIID.NotFound"


def test_image_that_was_deregistered_takes_nothing_to_another(ec2: Any, image_id: str) -> None:
    ec2.disable_image(ImageId=image_id)
    ec2.deregister_image(ImageId=image_id)

    assert own(ec2, IncludeDisabled=True) == []
    assert refused(ec2.enable_image, ImageId=image_id) == "InvalidAMIID.NotFound"


def test_images_come_page_by_page_where_that_is_asked_for(ec2: Any) -> None:
    made = {make_image(ec2, f"image {number}") for number in range(7)}

    pages = list(ec2.get_paginator("describe_images").paginate(Owners=["self"], PaginationConfig={"PageSize": 5}))

    assert [len(page["Images"]) for page in pages] == [5, 2]
    assert {image["ImageId"] for page in pages for image in page["Images"]} == made == set(own(ec2))
