from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gpunodes.aws import Clients
from gpunodes.bake import seal
from gpunodes.errors import AwsError
from gpunodes.recipe import ami
from tests.gpunodes import fakes
from tests.gpunodes.fakes import base_image


def make_image(clients: Clients) -> str:
    launched = clients.ec2.run_instances(ImageId=base_image(clients), MinCount=1, MaxCount=1)
    instance = launched["Instances"][0]["InstanceId"]
    return str(clients.ec2.create_image(InstanceId=instance, Name="one")["ImageId"])


def tags_of(clients: Clients, resource_id: str) -> dict[str, str]:
    tags = clients.ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [resource_id]}])["Tags"]
    return {tag["Key"]: tag["Value"] for tag in tags}


def test_image_and_snapshots_are_tagged_alike(clients: Clients) -> None:
    image_id = make_image(clients)
    tags = {"gpunodes:state": "candidate", "Name": "one"}

    sealed = seal.seal(clients, image_id)
    seal.tag(clients, image_id, sealed.snapshot_ids, tags)

    assert sealed.snapshot_ids == ami.snapshots_of(ami.describe(clients, image_id))
    assert sealed.snapshot_ids
    for resource_id in (image_id, *sealed.snapshot_ids):
        assert tags_of(clients, resource_id).items() >= tags.items()
    assert sealed.done == ["private"]


def test_what_the_emulator_lacks_is_said(clients: Clients) -> None:
    image_id = make_image(clients)

    assert seal.seal(clients, image_id).notes == [
        "this API forgets encryption when it makes an image, so the snapshots are not encrypted",
        f"this API ignores ImdsSupport, so {image_id} does not itself require IMDSv2",
        f"this API has no deregistration protection, so {image_id} is not protected",
    ]


@pytest.mark.parametrize("shared", ["image", "snapshot"])
def test_a_shared_image_is_refused(clients: Clients, shared: str) -> None:
    image_id = make_image(clients)
    if shared == "image":
        clients.ec2.modify_image_attribute(ImageId=image_id, LaunchPermission={"Add": [{"Group": "all"}]})
    else:
        [snapshot] = ami.snapshots_of(ami.describe(clients, image_id))
        clients.ec2.modify_snapshot_attribute(
            SnapshotId=snapshot, Attribute="createVolumePermission", OperationType="add", GroupNames=["all"]
        )

    with pytest.raises(AwsError, match=f"Image {image_id} or a snapshot of it is shared"):
        seal.seal(clients, image_id)


@dataclass
class Aws:
    """Clients of an account that has every call, and images that are as they are."""

    image: dict[str, Any]
    encrypted: bool = True
    late_answers: int = 0
    calls: list[str] = field(default_factory=list)
    target: Any = field(default_factory=lambda: fakes.target(tolerates_missing_calls=False))

    @property
    def ec2(self) -> Aws:
        return self

    def ask(self, _service: str, _doing: str, call: Callable[[Any], Any]) -> Any:
        return call(self)

    def describe_images(self, **_more: Any) -> dict[str, Any]:
        if "ImdsSupport" in self.image and self.late_answers:
            self.late_answers -= 1
            return {"Images": [{**self.image, "ImdsSupport": ""}]}
        return {"Images": [self.image]}

    def describe_image_attribute(self, **_more: Any) -> dict[str, Any]:
        return {"LaunchPermissions": []}

    def describe_snapshot_attribute(self, **_more: Any) -> dict[str, Any]:
        return {"CreateVolumePermissions": []}

    def describe_snapshots(self, **_more: Any) -> dict[str, Any]:
        return {"Snapshots": [{"SnapshotId": "snap-1", "Encrypted": self.encrypted}]}

    def modify_image_attribute(self, ImageId: str, ImdsSupport: dict[str, str]) -> None:  # noqa: N803
        self.calls.append(f"imds {ImageId}")
        self.image["ImdsSupport"] = ImdsSupport["Value"]

    def enable_image_deregistration_protection(self, ImageId: str, **_more: Any) -> dict[str, Any]:  # noqa: N803
        self.calls.append(f"protect {ImageId}")
        return {"Return": "enabled"}


def image(**more: Any) -> dict[str, Any]:
    mapping = {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": "snap-1"}}
    return {"ImageId": "ami-1", "State": "available", "BlockDeviceMappings": [mapping], **more}


def test_on_aws_everything_is_done() -> None:
    account = Aws(image())

    sealed = seal.seal(cast("Clients", account), "ami-1")

    assert account.calls == ["imds ami-1", "protect ami-1"]
    assert sealed.notes == []
    assert sealed.done == ["private", "encrypted", "IMDSv2 only", "protected from deregistration"]


def test_an_answer_from_before_the_change_does_not_fail_the_seal() -> None:
    clock = fakes.FakeClock()

    sealed = seal.seal(cast("Clients", Aws(image(), late_answers=2)), "ami-1", clock.wait)

    assert "IMDSv2 only" in sealed.done
    assert clock.waits == [1, 2]


def test_an_image_that_never_requires_imdsv2_fails_the_seal() -> None:
    clock = fakes.FakeClock()

    with pytest.raises(AwsError, match="ami-1 does not require IMDSv2 although AWS was told"):
        seal.seal(cast("Clients", Aws(image(), late_answers=100)), "ami-1", clock.wait)

    assert sum(clock.waits) == 15


def test_an_image_without_snapshots_is_not_taken_for_an_encrypted_one() -> None:
    with pytest.raises(AwsError, match="Image ami-1 has no snapshot"):
        seal.seal(cast("Clients", Aws(image(BlockDeviceMappings=[]))), "ami-1")


def test_an_image_that_requires_imdsv2_already_is_not_changed() -> None:
    account = Aws(image(ImdsSupport="v2.0"))

    assert "IMDSv2 only" in seal.seal(cast("Clients", account), "ami-1").done
    assert "imds ami-1" not in account.calls


def test_an_unencrypted_image_is_refused() -> None:
    account = Aws(image(), encrypted=False)

    with pytest.raises(AwsError, match=r"Snapshot snap-1 is not encrypted"):
        seal.seal(cast("Clients", account), "ami-1")
    assert account.calls == []


def test_on_aws_a_call_that_is_missing_fails_the_seal(clients: Clients, moto_url: str) -> None:
    image_id = make_image(clients)
    strict = Clients(fakes.target(moto_url, tolerates_missing_calls=False))

    with pytest.raises(AwsError, match=r"Snapshot snap-\w+ is not encrypted"):
        seal.seal(strict, image_id)
