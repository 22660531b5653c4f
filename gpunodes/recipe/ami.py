"""AMIs of this project: look one up, find the newest candidate."""

from __future__ import annotations

from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import AwsError, UsageError
from gpunodes.operation.runs import TAG_STATE

STATE_CANDIDATE = "candidate"


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
    if image["State"] != "available":
        raise UsageError(f"Image {image_id} is {image['State']}; give one that is available.")
    return image


def newest_candidate(clients: Clients) -> dict[str, Any]:
    """The candidate with the latest creation date.

    Raises:
        UsageError: there is none.
    """
    with aws_errors("looking for candidates"):
        pages = clients.ec2.get_paginator("describe_images").paginate(
            Owners=["self"],
            Filters=[
                {"Name": f"tag:{TAG_STATE}", "Values": [STATE_CANDIDATE]},
                {"Name": "state", "Values": ["available"]},
            ],
        )
        images = [image for page in pages for image in page["Images"]]
    if not images:
        raise UsageError("There is no candidate image; bake one with `invoke build-ami`, or name one with --ami.")
    newest: dict[str, Any] = max(images, key=lambda image: str(image["CreationDate"]))
    return newest


def snapshots_of(image: dict[str, Any]) -> list[str]:
    """Ids of an image's snapshots."""
    ebs = [mapping.get("Ebs", {}) for mapping in image.get("BlockDeviceMappings", [])]
    return [str(volume["SnapshotId"]) for volume in ebs if "SnapshotId" in volume]


def tags_of(image: dict[str, Any]) -> dict[str, str]:
    """Tags of an image as a dictionary."""
    return {tag["Key"]: tag["Value"] for tag in image.get("Tags", [])}


def gpu_count(clients: Clients, instance_type: str) -> int:
    """How many GPUs an instance type has (DescribeInstanceTypes GpuInfo).

    Raises:
        UsageError: the type does not exist, or has none.
    """
    try:
        with aws_errors(f"looking up the instance type {instance_type}"):
            answer = clients.ec2.describe_instance_types(InstanceTypes=[instance_type])
    except AwsError as error:
        if "InvalidInstanceType" in str(error):
            raise UsageError(f"There is no instance type `{instance_type}`; name one like g4dn.xlarge.") from error
        raise
    gpus = answer["InstanceTypes"][0].get("GpuInfo", {}).get("Gpus", [])
    # A part of a GPU (g6f) is counted as none, but is one to whoever uses it.
    count = sum(max(int(gpu["Count"]), int(gpu.get("LogicalGpuCount", 0))) for gpu in gpus)
    if count == 0:
        raise UsageError(f"{instance_type} has no GPU; name a type that has, like g4dn.xlarge.")
    return count
