from __future__ import annotations

from typing import Any

import pytest

from gpunodes.channel.copy_check import differences

TAGS = {"gpunodes:state": "proven"}


def image(**changes: Any) -> dict[str, Any]:
    made = {
        "ImageId": "ami-copy",
        "SourceImageId": "ami-source",
        "State": "available",
        "Architecture": "x86_64",
        "BootMode": "uefi-preferred",
        "EnaSupport": True,
        "ImdsSupport": "v2.0",
        "RootDeviceName": "/dev/xvda",
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": "snap-1", "VolumeSize": 40}}],
        "Tags": [{"Key": "gpunodes:state", "Value": "proven"}],
    }
    return {**made, **changes}


def snapshot(**changes: Any) -> dict[str, Any]:
    return {"SnapshotId": "snap-1", "State": "completed", "Encrypted": True, **changes}


def wrong(copy: dict[str, Any], snapshots: list[dict[str, Any]] | None = None) -> list[str]:
    there = [snapshot()] if snapshots is None else snapshots
    return differences(image(ImageId="ami-source"), [snapshot()], copy, there, TAGS)


def test_copy_that_is_alike_is_fine() -> None:
    assert wrong(image()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"State": "pending"}, "is pending"),
        ({"Architecture": "arm64"}, "has Architecture arm64, not x86_64"),
        ({"BootMode": "legacy-bios"}, "has BootMode legacy-bios, not uefi-preferred"),
        ({"EnaSupport": False}, "has EnaSupport False, not True"),
        ({"ImdsSupport": None}, "has ImdsSupport None, not v2.0"),
        ({"RootDeviceName": "/dev/sda1"}, "has RootDeviceName /dev/sda1, not /dev/xvda"),
        ({"SourceImageId": "ami-other"}, "is a copy of ami-other"),
        ({"Tags": []}, "has nothing in its tag gpunodes:state, not proven"),
    ],
)
def test_each_difference_is_said(changes: dict[str, Any], said: str) -> None:
    assert wrong(image(**changes)) == [said]


def test_volume_of_another_size_is_said() -> None:
    smaller = [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": "snap-1", "VolumeSize": 8}}]

    assert wrong(image(BlockDeviceMappings=smaller)) == ["has volumes of {'/dev/xvda': 8} GiB, not {'/dev/xvda': 40}"]


@pytest.mark.parametrize(
    ("snapshots", "said"),
    [
        ([], "has no snapshot snap-1"),
        ([snapshot(State="pending")], "has the snapshot snap-1, which is pending"),
        ([snapshot(Encrypted=False)], "has the snapshot snap-1, which is not encrypted"),
    ],
)
def test_snapshots_are_looked_at(snapshots: list[dict[str, Any]], said: str) -> None:
    assert wrong(image(), snapshots) == [said]


def test_image_that_is_gone_is_no_copy() -> None:
    assert wrong({})[0] == "is gone"
