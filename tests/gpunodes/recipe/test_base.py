from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from gpunodes.aws import Clients
from gpunodes.errors import AwsError, UsageError
from gpunodes.recipe import base, flavors
from gpunodes.recipe.base import Base
from tests.gpunodes import fakes

NOW = datetime(2026, 11, 22, tzinfo=UTC)
AL2023 = flavors.load("al2023")
IMAGE: dict[str, Any] = {
    "ImageId": "ami-1",
    "Name": "Deep Learning Base OSS Nvidia Driver GPU AMI (Amazon Linux 2023) 20261001",
    "OwnerId": "898082745236",
    "State": "available",
    "CreationDate": "2026-10-01T00:00:00.000Z",
    "Architecture": "x86_64",
    "RootDeviceName": "/dev/xvda",
    "RootDeviceType": "ebs",
    "BlockDeviceMappings": [
        {"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"},
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 75, "SnapshotId": "snap-1"}},
    ],
}


@dataclass
class Account:
    """Clients of an account with one image, which every parameter names."""

    image: dict[str, Any]
    asked: list[str] = field(default_factory=list)

    @property
    def ec2(self) -> Account:
        return self

    @property
    def ssm(self) -> Account:
        return self

    def describe_images(self, Filters: list[dict[str, Any]], **_more: Any) -> dict[str, Any]:  # noqa: N803
        self.asked += Filters[0]["Values"]
        return {"Images": [self.image]}

    def get_parameter(self, Name: str) -> dict[str, Any]:  # noqa: N803
        self.asked.append(Name)
        return {"Parameter": {"Value": "ami-1"}}


def resolve(asked: str | None = None, flavor: str = "al2023", **changes: Any) -> Base:
    clients = cast("Clients", Account({**IMAGE, **changes}))
    return base.resolve(clients, fakes.target(), flavors.load(flavor), asked, NOW)


def test_the_newest_image_of_a_flavor_is_named_by_its_public_parameter() -> None:
    account = Account(IMAGE)

    found = base.resolve(cast("Clients", account), fakes.target(), AL2023, None, NOW)

    assert account.asked == [AL2023.ssm_parameter, "ami-1"]
    assert (found.image_id, found.root_device_name, found.root_gib) == ("ami-1", "/dev/xvda", 75)
    assert found.notes == []


def test_asked_for_comes_before_the_targets_own_parameter_and_that_before_the_flavors() -> None:
    account = Account(IMAGE)
    target = fakes.target(base_parameter="/of/the/target")

    base.resolve(cast("Clients", account), target, AL2023, "ami-3", NOW)
    base.resolve(cast("Clients", account), target, AL2023, None, NOW)

    assert account.asked == ["ami-3", "/of/the/target", "ami-1"]


def test_missing_parameter_is_named(clients: Clients) -> None:
    with pytest.raises(AwsError, match=r"the base image's parameter /aws/service/deeplearning.* \(ParameterNotFound"):
        base.resolve(clients, fakes.target(), AL2023, None, NOW)


def test_flavor_that_aws_does_not_publish_needs_an_image() -> None:
    with pytest.raises(UsageError, match="no base image of flavor debian-12; take al2023, ubuntu-22"):
        resolve(flavor="debian-12")
    assert resolve(asked="ami-1", flavor="debian-12", Name="anything").image_id == "ami-1"


def test_amazon_linux_2_is_refused_by_flavor_and_by_image() -> None:
    sentence = "Amazon Linux 2 reached its end of life on 2026-06-30: .*; choose al2023"
    with pytest.raises(UsageError, match=sentence):
        resolve(flavor="amazon-linux-2")
    with pytest.raises(UsageError, match=sentence):
        resolve(asked="ami-1", Name="amzn2-ami-hvm-2.0.20260601.0-x86_64-gp2")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"OwnerId": "123456789012"}, "is owned by 123456789012, not by 898082745236"),
        ({"Name": "Deep Learning Base (Fedora)"}, "which is not of flavor al2023"),
        ({"State": "pending"}, "is pending"),
        ({"Architecture": "arm64"}, "is for arm64 and flavor al2023 for x86_64"),
        ({"RootDeviceType": "instance-store"}, "has no EBS root volume"),
        ({"BlockDeviceMappings": []}, "has no EBS root volume"),
        ({"RootDeviceName": "/dev/sdb"}, "has no EBS root volume"),
        (
            {
                "RootDeviceName": "/dev/sdc",
                "BlockDeviceMappings": [{"DeviceName": "/dev/sdc", "Ebs": {"VolumeSize": 9}}],
            },
            "root device of ami-1 is /dev/sdc, that of flavor al2023 is /dev/xvda",
        ),
    ],
)
def test_image_that_is_not_what_the_flavor_says_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        resolve(**changes)


def test_owner_name_and_root_device_of_an_image_that_was_asked_for_are_the_askers_business() -> None:
    mapping = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 20}}
    found = resolve(asked="ami-1", OwnerId="1", Name="ours", RootDeviceName="/dev/sda1", BlockDeviceMappings=[mapping])

    assert (found.name, found.root_device_name, found.root_gib) == ("ours", "/dev/sda1", 20)


def test_flavor_that_the_name_of_an_image_contradicts_is_refused() -> None:
    name = "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) 20261001"
    device = [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 75, "SnapshotId": "snap-1"}}]
    ubuntu: dict[str, Any] = {"Name": name, "RootDeviceName": "/dev/sda1", "BlockDeviceMappings": device}

    assert resolve(asked="ami-1", flavor="ubuntu-24.04", **ubuntu).name == name
    with pytest.raises(UsageError, match=r"\(Ubuntu 24.04\).*, as those of flavor ubuntu-24.04 are; add --flavor"):
        resolve(asked="ami-1", flavor="ubuntu-22.04", **ubuntu)


@pytest.mark.parametrize("encrypted", [True, False, None])
def test_further_volumes_must_be_encrypted(encrypted: bool | None) -> None:
    more = {"SnapshotId": "snap-2", "VolumeSize": 8} | ({} if encrypted is None else {"Encrypted": encrypted})
    changes: dict[str, Any] = {
        "BlockDeviceMappings": [*IMAGE["BlockDeviceMappings"], {"DeviceName": "/dev/sdf", "Ebs": more}]
    }

    if encrypted:
        assert resolve(**changes).root_gib == 75
    else:
        with pytest.raises(UsageError, match=r"more volumes than its root \(/dev/sdf\), and they are not encrypted"):
            resolve(**changes)


def test_deprecated_image_is_noted() -> None:
    found = resolve(DeprecationTime="2026-11-01T00:00:00.000Z")

    assert found.notes == ["the base image ami-1 is deprecated since 2026-11-01"]
    assert resolve(DeprecationTime="2027-11-01T00:00:00.000Z").notes == []


@pytest.mark.parametrize(("wanted", "size"), [(0, 75), (75, 75), (200, 200)])
def test_root_volume_is_as_large_as_wanted_and_needed(wanted: int, size: int) -> None:
    assert base.root_volume_size_gib(resolve(), AL2023, wanted) == size


def test_root_volume_smaller_than_the_base_is_refused() -> None:
    with pytest.raises(UsageError, match="root_volume_size_gib is 8 and ami-1 needs 75; raise it"):
        base.root_volume_size_gib(resolve(), AL2023, 8)
