"""The images that gpunodes baked in this account and region, with what a plan needs to know of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.channel.copies import TAG_COPIED_FROM
from gpunodes.channel.revive import TAG_DISABLED_AT
from gpunodes.operation.runs import TAG_STATE
from gpunodes.plan.plan import TAG_CHANNEL
from gpunodes.recipe import ami

_IMAGES_PER_PAGE = 200  # a page of a thousand takes tens of MiB while it is read
TAG_KEEP = "gpunodes:keep"
TAG_SHARED_WITH = "gpunodes:shared-with"
# A bake protects its image without a cool-down: one with it is somebody's own doing.
_BY_HAND = "enabled-with-cooldown"


@dataclass(frozen=True)
class OwnImage:
    """An image of ours.

    Attributes:
        ami_id: the AMI.
        name: of it.
        channel: that it was baked for.
        state: `candidate`, `proven` or `failed`; empty for one whose bake did not end, which is `reap`'s matter.
        created_at: UTC.
        is_disabled: whether nothing can be launched from it.
        deprecated_at: UTC; None where it is not, or not yet known when.
        disabled_at: UTC, by our own tag; None where it is not disabled, or somebody did it by hand.
        kept_because: what a person wrote into the tag `gpunodes:keep`; empty without it.
        is_protected_by_hand: whether somebody protected it from deregistration, with a cool-down, as no bake does.
        was_shared_with: whom it was shared with when it was disabled, which ended that; empty for nobody.
        snapshots: ids.
        gib: size of its volumes.
        region: where it is.
        copied_from: region and AMI, as `us-east-1/ami-0123456789abcdef0`; empty where it is no copy.
        has_failed: whether it is a copy that EC2 could not make; nothing was ever launched from it.
    """

    ami_id: str
    name: str
    channel: str
    state: str
    created_at: datetime
    is_disabled: bool = False
    deprecated_at: datetime | None = None
    disabled_at: datetime | None = None
    kept_because: str = ""
    is_protected_by_hand: bool = False
    was_shared_with: str = ""
    snapshots: tuple[str, ...] = ()
    gib: int = 0
    region: str = ""
    copied_from: str = ""
    has_failed: bool = False


def own_images(clients: Clients) -> list[OwnImage]:
    """All of them, oldest first, disabled ones too (DescribeImages).

    Raises:
        AwsError: EC2 refused.
    """
    wanted = [{"Name": "tag-key", "Values": [TAG_CHANNEL]}]
    with aws_errors("looking for images"):
        pages = clients.ec2.get_paginator("describe_images").paginate(
            Owners=["self"],
            Filters=wanted,
            IncludeDeprecated=True,
            IncludeDisabled=True,
            PaginationConfig={"PageSize": _IMAGES_PER_PAGE},
        )
        found = [_own_image(image, clients.target.region) for page in pages for image in page["Images"]]
    return sorted(found, key=lambda image: (image.created_at, image.ami_id))


def _own_image(image: dict[str, Any], region: str) -> OwnImage:
    tags = ami.tags_of(image)
    volumes = [mapping["Ebs"] for mapping in image.get("BlockDeviceMappings", []) if "Ebs" in mapping]
    return OwnImage(
        ami_id=image["ImageId"],
        name=image.get("Name", ""),
        channel=tags[TAG_CHANNEL],
        state=tags.get(TAG_STATE, ""),
        created_at=datetime.fromisoformat(image["CreationDate"]).astimezone(UTC),
        is_disabled=image["State"] == "disabled",
        deprecated_at=_moment(image.get("DeprecationTime", "")),
        disabled_at=_moment(tags.get(TAG_DISABLED_AT, "")),
        kept_because=_kept_because(tags),
        is_protected_by_hand=image.get("DeregistrationProtection") == _BY_HAND,
        was_shared_with=tags.get(TAG_SHARED_WITH, ""),
        snapshots=tuple(ami.snapshots_of(image)),
        gib=sum(int(volume.get("VolumeSize", 0)) for volume in volumes),
        region=region,
        copied_from=tags.get(TAG_COPIED_FROM, ""),
        has_failed=image["State"] == "failed",
    )


def _kept_because(tags: Mapping[str, str]) -> str:
    return (tags[TAG_KEEP] or "no reason was given") if TAG_KEEP in tags else ""


def _moment(text: str) -> datetime | None:
    """None for what is no time: a tag may hold anything."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None
