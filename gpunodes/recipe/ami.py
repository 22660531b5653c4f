"""AMIs of this project: look one up, find the newest candidate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import UsageError
from gpunodes.operation.runs import TAG_STATE

_NOT_IN_A_TAG = re.compile(r"[^\w +=.:/@-]")
_LONGEST_TAG_VALUE = 256
STATE_CANDIDATE = "candidate"
STATE_PROVEN = "proven"
STATE_FAILED = "failed"
AVAILABLE = "available"


def describe(clients: Clients, image_id: str) -> dict[str, Any]:
    """One image that can be launched, as in DescribeImages.

    Raises:
        UsageError: it does not exist here, or cannot be launched.
    """
    if not image_id.startswith("ami-"):
        raise UsageError(f"`{image_id}` is no AMI id; those look like ami-0123456789abcdef0.")
    with aws_errors(f"looking up {image_id}"):
        # A filter, not ImageIds: an id that does not exist is then an empty answer, not one of several error codes.
        images = clients.ec2.describe_images(
            Filters=[{"Name": "image-id", "Values": [image_id]}], IncludeDeprecated=True
        )["Images"]
    if not images:
        raise UsageError(f"There is no image {image_id} in this region; give the id of one that `build-ami` made.")
    image: dict[str, Any] = images[0]
    if image["State"] != AVAILABLE:
        raise UsageError(f"Image {image_id} is {image['State']}; give one that is available.")
    return image


def state_now(clients: Clients, image_id: str) -> str:
    """Its state in DescribeImages; `deregistered` where that knows it no more.

    Raises:
        AwsError: DescribeImages was refused.
    """
    with aws_errors(f"looking up {image_id}"):
        images = clients.ec2.describe_images(
            Filters=[{"Name": "image-id", "Values": [image_id]}], IncludeDeprecated=True, IncludeDisabled=True
        )["Images"]
    return str(images[0]["State"]) if images else "deregistered"


def newest(clients: Clients, state: str) -> dict[str, Any] | None:
    """The image of ours in a state with the latest creation date; None where there is none.

    Raises:
        AwsError: DescribeImages was refused.
    """
    with aws_errors(f"looking for {state} images"):
        pages = clients.ec2.get_paginator("describe_images").paginate(
            Owners=["self"],
            Filters=[
                {"Name": f"tag:{TAG_STATE}", "Values": [state]},
                {"Name": "state", "Values": [AVAILABLE]},
            ],
        )
        images = [image for page in pages for image in page["Images"]]
    return max(images, key=lambda image: str(image["CreationDate"]), default=None)


def newest_to_prove(clients: Clients) -> dict[str, Any]:
    """The newest candidate; where every one was proven already, the newest of those, to be proven again.

    Raises:
        UsageError: there is none.
    """
    image = newest(clients, STATE_CANDIDATE) or newest(clients, STATE_PROVEN)
    if image is None:
        raise UsageError(
            "There is no candidate and no proven image; bake one with `invoke build-ami`, or name one with --ami."
        )
    return image


def snapshots_of(image: dict[str, Any]) -> list[str]:
    """Ids of an image's snapshots."""
    ebs = [mapping.get("Ebs", {}) for mapping in image.get("BlockDeviceMappings", [])]
    return [str(volume["SnapshotId"]) for volume in ebs if "SnapshotId" in volume]


def require_own(clients: Clients, image: Mapping[str, Any], advice: str) -> None:
    """Whether an image is the account's that we work in (GetCallerIdentity): nobody can tag or name what is another's.

    Args:
        clients: of the target.
        image: as in DescribeImages.
        advice: what to do about it, without its end.

    Raises:
        UsageError: it is another account's.
        AwsError: STS refused.
    """
    with aws_errors("asking who you are"):
        account = clients.client("sts").get_caller_identity()["Account"]
    if image["OwnerId"] != account:
        raise UsageError(
            f"Image {image['ImageId']} belongs to account {image['OwnerId']} and you work in {account}; {advice}."
        )


def tag_value(text: str) -> str:
    """A text as a tag of EC2 can hold it."""
    return _NOT_IN_A_TAG.sub(" ", text)[:_LONGEST_TAG_VALUE]


def tags_of(image: dict[str, Any]) -> dict[str, str]:
    """Tags of an image as a dictionary."""
    return {tag["Key"]: tag["Value"] for tag in image.get("Tags", [])}
