"""AMIs of this project: look one up, find the newest candidate, seal a new one."""

from __future__ import annotations

from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import AwsError, UsageError
from gpunodes.runs import TAG_STATE
from gpunodes.settings import Settings
from gpunodes.target import Target

STATE_CANDIDATE = "candidate"


def source_ami(clients: Clients, target: Target, settings: Settings, asked: str | None) -> dict[str, Any]:
    """The base image to bake from, as in DescribeImages: the one that was asked for, the target's, or the parameter's.

    Raises:
        UsageError: the id that was asked for does not exist.
        AwsError: the parameter or the image cannot be read.
    """
    image_id = asked or target.source_ami
    if image_id is None:
        with aws_errors(f"reading the base image's parameter {settings.source_ami_parameter}"):
            answer = clients.ssm.get_parameter(Name=settings.source_ami_parameter)
        image_id = str(answer["Parameter"]["Value"])
    return describe(clients, image_id)


def describe(clients: Clients, image_id: str) -> dict[str, Any]:
    """One image that can be launched, as in DescribeImages.

    Raises:
        UsageError: it does not exist here, or cannot be launched.
    """
    if not image_id.startswith("ami-"):
        raise UsageError(f"`{image_id}` is no AMI id; those look like ami-0123456789abcdef0.")
    with aws_errors(f"looking up {image_id}"):
        # A filter, not ImageIds: an id that does not exist is then an empty answer, not one of several error codes.
        images = clients.ec2.describe_images(Filters=[{"Name": "image-id", "Values": [image_id]}])["Images"]
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
        images = clients.ec2.describe_images(
            Owners=["self"],
            Filters=[
                {"Name": f"tag:{TAG_STATE}", "Values": [STATE_CANDIDATE]},
                {"Name": "state", "Values": ["available"]},
            ],
        )["Images"]
    if not images:
        raise UsageError("There is no candidate image; bake one with `invoke build-ami`, or name one with --ami.")
    newest: dict[str, Any] = max(images, key=lambda image: str(image["CreationDate"]))
    return newest


def seal(clients: Clients, image_id: str, tags: dict[str, str]) -> list[str]:
    """Tag the image and its snapshots alike and make instances of it require IMDSv2.

    Returns:
        A sentence for each call that this API does not have.

    Raises:
        AwsError: a call that the API has was refused.
    """
    image = describe(clients, image_id)
    snapshots = [
        mapping["Ebs"]["SnapshotId"]
        for mapping in image["BlockDeviceMappings"]
        if "SnapshotId" in mapping.get("Ebs", {})
    ]
    with aws_errors(f"tagging {image_id} and its snapshots"):
        clients.ec2.create_tags(
            Resources=[image_id, *snapshots], Tags=[{"Key": key, "Value": value} for key, value in tags.items()]
        )
    return [] if image.get("ImdsSupport") == "v2.0" else _require_imdsv2(clients, image_id)


def _require_imdsv2(clients: Clients, image_id: str) -> list[str]:
    """ModifyImageAttribute ImdsSupport, then read back: an emulator may accept the call and ignore it."""
    with aws_errors(f"requiring IMDSv2 for {image_id}"):
        clients.ec2.modify_image_attribute(ImageId=image_id, ImdsSupport={"Value": "v2.0"})
    if describe(clients, image_id).get("ImdsSupport") == "v2.0":
        return []
    return [f"this API ignores ImdsSupport, so {image_id} does not itself require IMDSv2"]


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
    count = sum(int(gpu["Count"]) for gpu in gpus)
    if count == 0:
        raise UsageError(f"{instance_type} has no GPU; name a type that has, like g4dn.xlarge.")
    return count
