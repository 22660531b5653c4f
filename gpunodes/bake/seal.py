"""Seal a new image by the API, for every Packer alike: private, encrypted, IMDSv2 only, not to be deregistered."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import AwsError
from gpunodes.recipe import ami

_READ_BACK_PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Sealed:
    """A sealed image.

    Attributes:
        snapshot_ids: its snapshots, to be tagged like itself.
        done: what holds now, a few words each.
        notes: a sentence for each call that this API does not have.
    """

    snapshot_ids: list[str]
    done: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def seal(clients: Clients, image_id: str, wait: Callable[[float], None] = time.sleep) -> Sealed:
    """Make an image one that may be kept, and read back that it is.

    Args:
        clients: of the target.
        image_id: the AMI.
        wait: seconds, while EC2 still answers from before a change.

    Raises:
        AwsError: a call was refused, or the image is public or unencrypted; on AWS also where a call is missing.
    """
    image = ami.describe(clients, image_id)
    sealed = Sealed(ami.snapshots_of(image))
    if not sealed.snapshot_ids:  # EC2 would take an empty list for: every snapshot there is
        raise AwsError(f"Image {image_id} has no snapshot; bake again.")
    _check_private(clients, image, sealed)
    _check_encrypted(clients, sealed)
    _require_imdsv2(clients, image, sealed, wait)
    _protect(clients, image_id, sealed)
    return sealed


def tag(clients: Clients, image_id: str, snapshot_ids: list[str], tags: dict[str, str]) -> None:
    """Tag an image and its snapshots alike (CreateTags)."""
    with aws_errors(f"tagging {image_id} and its snapshots"):
        clients.ec2.create_tags(
            Resources=[image_id, *snapshot_ids], Tags=[{"Key": key, "Value": value} for key, value in tags.items()]
        )


def _check_private(clients: Clients, image: dict[str, Any], sealed: Sealed) -> None:
    """DescribeImageAttribute and DescribeSnapshotAttribute: nobody but this account may use image or snapshots."""
    with aws_errors(f"asking who may use {image['ImageId']}"):
        shares = clients.ec2.describe_image_attribute(ImageId=image["ImageId"], Attribute="launchPermission")
        shared = list(shares["LaunchPermissions"])
        for snapshot_id in sealed.snapshot_ids:
            answer = clients.ec2.describe_snapshot_attribute(SnapshotId=snapshot_id, Attribute="createVolumePermission")
            shared += answer["CreateVolumePermissions"]
    if shared or image.get("Public"):
        raise AwsError(f"Image {image['ImageId']} or a snapshot of it is shared ({shared}); find out what shared it.")
    sealed.done.append("private")


def _check_encrypted(clients: Clients, sealed: Sealed) -> None:
    with aws_errors("looking at the image's snapshots"):
        snapshots = clients.ec2.describe_snapshots(SnapshotIds=sealed.snapshot_ids)["Snapshots"]
    plain = [snapshot["SnapshotId"] for snapshot in snapshots if not snapshot["Encrypted"]]
    if not plain:
        sealed.done.append("encrypted")
    elif clients.target.tolerates_missing_calls:
        sealed.notes.append("this API forgets encryption when it makes an image, so the snapshots are not encrypted")
    else:
        raise AwsError(f"Snapshot {', '.join(plain)} is not encrypted; do not change `encrypted` of the template.")


def _require_imdsv2(clients: Clients, image: dict[str, Any], sealed: Sealed, wait: Callable[[float], None]) -> None:
    """ModifyImageAttribute ImdsSupport, then read back: an emulator may accept the call and ignore it."""
    image_id = image["ImageId"]
    if image.get("ImdsSupport") != "v2.0":
        with aws_errors(f"requiring IMDSv2 for {image_id}"):
            clients.ec2.modify_image_attribute(ImageId=image_id, ImdsSupport={"Value": "v2.0"})
        pauses = () if clients.target.tolerates_missing_calls else _READ_BACK_PAUSES_SECONDS
        if not _requires_imdsv2(clients, image_id, pauses, wait):
            if not clients.target.tolerates_missing_calls:
                raise AwsError(f"Image {image_id} does not require IMDSv2 although AWS was told; bake again.")
            sealed.notes.append(f"this API ignores ImdsSupport, so {image_id} does not itself require IMDSv2")
            return
    sealed.done.append("IMDSv2 only")


def _requires_imdsv2(
    clients: Clients, image_id: str, pauses_seconds: tuple[float, ...], wait: Callable[[float], None]
) -> bool:
    for pause_seconds in (*pauses_seconds, None):
        if ami.describe(clients, image_id).get("ImdsSupport") == "v2.0":
            return True
        if pause_seconds is not None:
            wait(pause_seconds)
    return False


def _protect(clients: Clients, image_id: str, sealed: Sealed) -> None:
    answer = clients.ask(
        "ec2",
        f"protecting {image_id} from deregistration",
        lambda ec2: ec2.enable_image_deregistration_protection(ImageId=image_id, WithCooldown=False),
    )
    if answer is None:
        sealed.notes.append(f"this API has no deregistration protection, so {image_id} is not protected")
    else:
        sealed.done.append("protected from deregistration")
