"""The base image of a bake: resolved to one AMI id, and checked before anything costs money."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import UsageError
from gpunodes.recipe import ami, flavors
from gpunodes.recipe.flavors import Flavor
from gpunodes.target import Target


@dataclass(frozen=True)
class Base:
    """A base image.

    Attributes:
        image_id: the AMI's.
        name: of the AMI.
        owner_id: account that published it.
        creation_date: ISO 8601, as in DescribeImages.
        architecture: `x86_64` or `arm64`.
        root_device_name: the device that becomes the image's root.
        root_gib: size of its root snapshot.
        deprecation_time: ISO 8601; empty where its publisher set none.
        notes: a sentence for each thing to know that keeps nobody from baking.
        raw: all of DescribeImages' answer.
    """

    image_id: str
    name: str
    owner_id: str
    creation_date: str
    architecture: str
    root_device_name: str
    root_gib: int
    deprecation_time: str = ""
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict, repr=False)


def resolve(clients: Clients, target: Target, flavor: Flavor, asked: str | None, now: datetime) -> Base:
    """The base image to bake from: the one that was asked for, or what the target's or flavor's public parameter names.

    Args:
        clients: of the target (SSM GetParameter, EC2 DescribeImages).
        target: where; it may have a parameter of its own.
        flavor: what kind of base image is wanted.
        asked: id of `--source-ami`, which need be no image of the flavor's publisher.
        now: UTC.

    Raises:
        UsageError: there is no such image, or it is none that can be baked from.
        AwsError: parameter or image cannot be read.
    """
    if flavor.has_ended(now.date()):
        raise _ended(flavor, now)
    image = ami.describe(
        clients, asked or _published(clients, flavor, target.base_parameter or flavor.ssm_parameter, now)
    )
    base = _base(image)
    for other in flavors.every():
        if other.has_ended(now.date()) and other.fits(base.name):
            raise _ended(other, now)
    _check_volume(base, flavor, image)
    _check_other_volumes(base)
    if asked:
        _check_flavor(base, flavor)
    else:
        _check_publisher(base, flavor)
    if base.deprecation_time and base.deprecation_time < now.astimezone(UTC).isoformat():
        base.notes.append(f"the base image {base.image_id} is deprecated since {base.deprecation_time[:10]}")
    return base


def root_volume_size_gib(base: Base, flavor: Flavor, wanted_gib: int) -> int:
    """Size of the new image's root volume.

    Args:
        base: the base image.
        flavor: of it.
        wanted_gib: of the settings; 0 for the smallest.

    Raises:
        UsageError: the wanted size is smaller than what the base image needs.
    """
    smallest = max(base.root_gib, flavor.minimum_root_gib)
    if 0 < wanted_gib < smallest:
        raise UsageError(
            f"root_volume_size_gib is {wanted_gib} and {base.image_id} needs {smallest}; raise it in gpunodes.toml, or"
            " leave it out."
        )
    return max(wanted_gib, smallest)


def _published(clients: Clients, flavor: Flavor, parameter: str, now: datetime) -> str:
    if not parameter:
        known = ", ".join(flavors.usable(now.date()))
        raise UsageError(f"AWS publishes no base image of flavor {flavor.name}; take {known}, or name a --source-ami.")
    with aws_errors(f"reading the base image's parameter {parameter}"):
        return str(clients.ssm.get_parameter(Name=parameter)["Parameter"]["Value"])


def _base(image: dict[str, Any]) -> Base:
    root = image.get("RootDeviceName", "")
    sizes = [
        int(mapping.get("Ebs", {}).get("VolumeSize", 0))
        for mapping in image.get("BlockDeviceMappings", [])
        if mapping.get("DeviceName") == root
    ]
    return Base(
        image_id=image["ImageId"],
        name=image.get("Name", ""),
        owner_id=image.get("OwnerId", ""),
        creation_date=image.get("CreationDate", ""),
        architecture=image.get("Architecture", ""),
        root_device_name=root,
        root_gib=max(sizes, default=0),
        deprecation_time=image.get("DeprecationTime", ""),
        raw=image,
    )


def _check_publisher(base: Base, flavor: Flavor) -> None:
    if base.owner_id not in flavor.owners:
        raise UsageError(
            f"Image {base.image_id} is owned by {base.owner_id}, not by {' or '.join(flavor.owners)} as flavor"
            f" {flavor.name} demands; name it with --source-ami if you trust it."
        )
    if not flavor.fits(base.name):
        raise UsageError(
            f"Image {base.image_id} is named `{base.name}`, which is not of flavor {flavor.name}; name it with"
            " --source-ami if it is the right one."
        )
    if base.root_device_name != flavor.root_device_name:
        raise UsageError(
            f"The root device of {base.image_id} is {base.root_device_name}, that of flavor {flavor.name} is"
            f" {flavor.root_device_name}; name it with --source-ami if it is the right one."
        )


def _check_volume(base: Base, flavor: Flavor, image: dict[str, Any]) -> None:
    if image.get("RootDeviceType") == "instance-store" or not base.root_gib:
        raise UsageError(f"Image {base.image_id} has no EBS root volume; a bake needs a base image that has.")
    if base.architecture != flavor.architecture:
        raise UsageError(
            f"Image {base.image_id} is for {base.architecture} and flavor {flavor.name} for {flavor.architecture};"
            " choose an image that fits."
        )


def _check_other_volumes(base: Base) -> None:
    """The template encrypts the root volume; the seal would refuse any other that is plain, after the whole bake."""
    plain = [
        mapping["DeviceName"]
        for mapping in base.raw.get("BlockDeviceMappings", [])
        if "Ebs" in mapping and mapping["DeviceName"] != base.root_device_name and not mapping["Ebs"].get("Encrypted")
    ]
    if plain:
        raise UsageError(
            f"Image {base.image_id} has more volumes than its root ({', '.join(plain)}), and they are not encrypted;"
            " choose a base image without them, or with encrypted ones."
        )


def _check_flavor(base: Base, flavor: Flavor) -> None:
    """A name says nothing of somebody's own image; but one of another flavor's publisher is of that flavor."""
    other = next((known.name for known in flavors.every() if known.fits(base.name)), flavor.name)
    if other != flavor.name and not flavor.fits(base.name):
        raise UsageError(f"Image {base.image_id} is named `{base.name}`, as those of flavor {other} are; add --flavor.")


def _ended(flavor: Flavor, now: datetime) -> UsageError:
    known = ", ".join(flavors.usable(now.date()))
    return UsageError(
        f"{flavor.description} reached its end of life on {flavor.end_of_life}: nobody mends its faults any more;"
        f" choose {known}."
    )
