"""Copies of an image in other regions: made once, waited for, made alike, and checked each.

A copy says by a tag what it is a copy of, from the moment it exists. So whoever comes after a run that was killed
finds it, and goes on with it.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.channel import copy_check
from gpunodes.channel.revive import revive
from gpunodes.errors import AwsError, PreflightError
from gpunodes.recipe import ami

TAG_COPIED_FROM = "gpunodes:copied-from"
# What is said of the image at home only: what channels did with it, and what becomes of it there.
_NOT_COPIED = re.compile(
    r"aws:.*|gpunodes:(copied-from|disabled-at|expires-at|keep|(promoted-at|rolled-back|promotion-override)/.*)"
)
_DEFAULT_KEY = "alias/aws/ebs"
_IMDS = "v2.0"
_FAILED = "failed"
_USABLE = frozenset({"available", "pending", "disabled"})
_COPY_SECONDS = 7200.0
_SETTLE_SECONDS = 120.0  # until EC2 answers from after a change
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 15.0

Wait = Callable[[float], None]


@dataclass(frozen=True)
class Source:
    """What is copied.

    Attributes:
        region: where it is.
        image: as in DescribeImages.
        snapshots: as in DescribeSnapshots.
    """

    region: str
    image: Mapping[str, Any]
    snapshots: Sequence[Mapping[str, Any]]

    @property
    def ami_id(self) -> str:
        """The AMI."""
        return str(self.image["ImageId"])

    @property
    def is_encrypted(self) -> bool:
        """Whether a snapshot of it is; then all of a copy's are."""
        return any(snapshot["Encrypted"] for snapshot in self.snapshots)

    @property
    def tags(self) -> dict[str, str]:
        """That a copy has: those of the image that are true of a copy, too, and what it is a copy of."""
        tags = {key: value for key, value in ami.tags_of(dict(self.image)).items() if not _NOT_COPIED.fullmatch(key)}
        return {**tags, TAG_COPIED_FROM: f"{self.region}/{self.ami_id}"}


def source_of(clients: Clients, image: Mapping[str, Any]) -> Source:
    """An image with its snapshots (DescribeSnapshots).

    Raises:
        AwsError: EC2 refused.
    """
    return Source(clients.target.region, image, _snapshots(clients, image))


def begin(clients: Clients, source: Source, *, is_shared: bool) -> str:
    """The copy that an earlier run made or began in a region, else a new one (CopyImage); returns its id.

    Args:
        clients: of the region that gets it.
        source: what is copied.
        is_shared: whether it will be shared; then its key must be one's own.

    Raises:
        PreflightError: it would be encrypted with a key of AWS, and be shared.
        AwsError: EC2 refused.
    """
    found = find(clients, source)
    usable = [image for image in found if image["State"] in _USABLE]
    if usable:
        return str(min(usable, key=lambda image: (image["State"] != ami.AVAILABLE, image["CreationDate"]))["ImageId"])
    tags = [{"Key": key, "Value": value} for key, value in source.tags.items()]
    arguments: dict[str, Any] = {
        "SourceImageId": source.ami_id,
        "SourceRegion": source.region,
        "Name": source.image["Name"],
        "Description": f"Copy of {source.ami_id} in {source.region}",
        "ClientToken": _token(clients, source, found),
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("image", "snapshot")],
    }
    if source.is_encrypted:
        key = _key(clients)
        if is_shared and not key:
            raise PreflightError(
                f"A copy in {clients.target.region} would be encrypted with the default key {_DEFAULT_KEY}, which"
                " cannot be shared; make a key of your own the default there (`aws ec2 modify-ebs-default-kms-key-id`)."
            )
        arguments |= {"Encrypted": True, **key}
    with aws_errors(f"copying {source.ami_id} to {clients.target.region}"):
        return str(clients.ec2.copy_image(**arguments)["ImageId"])


def finish(clients: Clients, source: Source, copy_id: str, wait: Wait = time.sleep) -> dict[str, Any]:
    """Wait for a copy, make it alike and check it; returns it as in DescribeImages.

    Args:
        clients: of its region.
        source: what it is a copy of.
        copy_id: the AMI.
        wait: sleeps for so many seconds.

    Raises:
        AwsError: it failed, or is not what it was copied from; or EC2 refused.
    """
    image = _wait_until_there(clients, source, copy_id, wait)
    if image["State"] != ami.AVAILABLE or image.get("DeprecationTime"):
        revive(clients, image)
    _make_alike(clients, source, image)
    waited_seconds, pause_seconds = 0.0, _FIRST_PAUSE_SECONDS
    while wrong := _differences(clients, source, copy_id):
        if waited_seconds >= _SETTLE_SECONDS:
            where = f"Image {copy_id} in {clients.target.region}, a copy of {source.ami_id},"
            raise AwsError(f"{where} {' and '.join(wrong)}; deregister it and repeat.")
        wait(pause_seconds)
        waited_seconds += pause_seconds
        pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
    _remove_failed(clients, source)
    return _described(clients, copy_id)


def find(clients: Clients, source: Source) -> list[dict[str, Any]]:
    """Every copy of an image in a region, in any state (DescribeImages).

    Raises:
        AwsError: EC2 refused.
    """
    wanted = [{"Name": f"tag:{TAG_COPIED_FROM}", "Values": [source.tags[TAG_COPIED_FROM]]}]
    with aws_errors(f"looking for copies of {source.ami_id} in {clients.target.region}"):
        pages = clients.ec2.get_paginator("describe_images").paginate(
            Owners=["self"], Filters=wanted, IncludeDeprecated=True, IncludeDisabled=True
        )
        return [image for page in pages for image in page["Images"]]


def _token(clients: Clients, source: Source, failed: Sequence[Mapping[str, Any]]) -> str:
    """The same for the same copy, whoever asks for it; another one once such a copy has failed."""
    words = [source.region, source.ami_id, clients.target.region, *sorted(image["ImageId"] for image in failed)]
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


def _key(clients: Clients) -> dict[str, str]:
    """The region's default key, named: without a name CopyImage takes that of AWS, which cannot be shared."""
    answer = clients.ask(
        "ec2",
        f"asking for the default key of {clients.target.region}",
        lambda ec2: ec2.get_ebs_default_kms_key_id(),
    )
    key_id = str(answer["KmsKeyId"]) if answer else _DEFAULT_KEY
    return {} if key_id.endswith(_DEFAULT_KEY) else {"KmsKeyId": key_id}


def _wait_until_there(clients: Clients, source: Source, copy_id: str, wait: Wait) -> dict[str, Any]:
    region = clients.target.region
    waited_seconds, pause_seconds = 0.0, _FIRST_PAUSE_SECONDS
    while (image := _described(clients, copy_id)).get("State", "pending") == "pending":
        if waited_seconds >= _COPY_SECONDS:
            raise AwsError(f"The copy {copy_id} of {source.ami_id} in {region} is still pending; repeat later.")
        wait(pause_seconds)
        waited_seconds += pause_seconds
        pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
    if image["State"] not in _USABLE:
        reason = image.get("StateReason", {}).get("Message", "EC2 does not say why").rstrip(".")
        raise AwsError(
            f"The copy {copy_id} of {source.ami_id} in {region} is {image['State']} ({reason}); see to that and repeat,"
            " nothing was promoted."
        )
    return image


def _make_alike(clients: Clients, source: Source, image: Mapping[str, Any]) -> None:
    """What CopyImage does not take along, or what changed at home since: metadata by token, protection, tags."""
    copy_id, region = str(image["ImageId"]), clients.target.region
    has = ami.tags_of(dict(image))
    missing = {key: value for key, value in source.tags.items() if has.get(key) != value}
    with aws_errors(f"setting up {copy_id} in {region}"):
        if image.get("ImdsSupport") != _IMDS:
            clients.ec2.modify_image_attribute(ImageId=copy_id, ImdsSupport={"Value": _IMDS})
        if missing:
            pairs = [{"Key": key, "Value": value} for key, value in missing.items()]
            clients.ec2.create_tags(Resources=[copy_id, *ami.snapshots_of(dict(image))], Tags=pairs)
    if str(image.get("DeregistrationProtection", "disabled")).startswith("disabled"):
        clients.ask(
            "ec2",
            f"protecting {copy_id} from deregistration",
            lambda ec2: ec2.enable_image_deregistration_protection(ImageId=copy_id, WithCooldown=False),
        )


def _differences(clients: Clients, source: Source, copy_id: str) -> list[str]:
    image = _described(clients, copy_id)
    return copy_check.differences(source.image, source.snapshots, image, _snapshots(clients, image), source.tags)


def _remove_failed(clients: Clients, source: Source) -> None:
    """Copies that failed before this one; nothing was ever launched from them."""
    for image in find(clients, source):
        if image["State"] == _FAILED:
            with aws_errors(f"removing the failed copy {image['ImageId']} in {clients.target.region}"):
                clients.ec2.deregister_image(ImageId=image["ImageId"], DeleteAssociatedSnapshots=True)


def _described(clients: Clients, ami_id: str) -> dict[str, Any]:
    """Empty where EC2 does not know it, or not yet."""
    wanted = [{"Name": "image-id", "Values": [ami_id]}]
    with aws_errors(f"looking up {ami_id} in {clients.target.region}"):
        found = clients.ec2.describe_images(
            Owners=["self"], Filters=wanted, IncludeDeprecated=True, IncludeDisabled=True
        )["Images"]
    return dict(found[0]) if found else {}


def _snapshots(clients: Clients, image: Mapping[str, Any]) -> list[dict[str, Any]]:
    wanted = ami.snapshots_of(dict(image))
    if not wanted:
        return []
    with aws_errors(f"looking at the snapshots of {image['ImageId']}"):
        found = clients.ec2.describe_snapshots(OwnerIds=["self"], Filters=[{"Name": "snapshot-id", "Values": wanted}])[
            "Snapshots"
        ]
    return list(found)
