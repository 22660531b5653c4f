"""Which image a channel may be given: one that was proven, and that lived long enough in the channel before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.channel.parameter import ChannelParameter, Pointer
from gpunodes.errors import PreflightError, UsageError
from gpunodes.operation.runs import TAG_STATE
from gpunodes.plan.plan import TAG_CHANNEL
from gpunodes.proof.verdict_tags import TAG_FAILED_REASON, TAG_PROOF_DIGEST
from gpunodes.recipe import ami
from gpunodes.recipe.ami import STATE_FAILED, STATE_PROVEN

_OVERRIDE = "or say with --reason why it may be used all the same"


@dataclass(frozen=True)
class Promotable:
    """An image and what speaks against it.

    Attributes:
        image: as in DescribeImages.
        objections: sentences without their ends; each must be overridden with a reason.
    """

    image: dict[str, Any]
    objections: list[str] = field(default_factory=list)

    @property
    def ami_id(self) -> str:
        """The AMI."""
        return str(self.image["ImageId"])

    def require(self, override: str) -> None:
        """Let it pass without objections, or with a reason.

        Raises:
            PreflightError: something speaks against it, and nobody said why it may be used all the same.
        """
        if self.objections and not override.strip():
            raise PreflightError(f"{self.ami_id} {' and '.join(self.objections)}; see to that, {_OVERRIDE}.")


def find(
    clients: Clients, channel: str, asked: str | None, *, source_channel: str, soak: timedelta, now: datetime
) -> Promotable:
    """The image that a channel would be given, and what speaks against it.

    Args:
        clients: of the target (EC2 DescribeImages, SSM GetParameterHistory).
        channel: that gets it.
        asked: an image; without one what the source channel names, or the newest proven image of the channel.
        source_channel: whose images this one gets; empty for a channel that gets its own.
        soak: how long the source channel must have named it.
        now: UTC.

    Raises:
        UsageError: there is no such image, it cannot be launched, or gpunodes did not bake it here.
        AwsError: AWS refused.
    """
    history = ChannelParameter(clients, source_channel).history() if source_channel else []
    image = ami.describe(clients, asked or _default(clients, channel, source_channel, history))
    tags = ami.tags_of(image)
    _require_ours(clients, image, tags)
    objections = _of_state(tags)
    if source_channel:
        objections += _of_soak(image["ImageId"], source_channel, history, soak, now)
    return Promotable(image, objections)


def _default(clients: Clients, channel: str, source_channel: str, history: Sequence[Pointer]) -> str:
    if source_channel:
        if not history:
            raise UsageError(
                f"Channel `{source_channel}` names no image yet; promote one there first, or name an --ami."
            )
        return history[0].ami_id
    wanted = [
        {"Name": f"tag:{TAG_CHANNEL}", "Values": [channel]},
        {"Name": f"tag:{TAG_STATE}", "Values": [STATE_PROVEN]},
    ]
    with aws_errors(f"looking for proven images of channel {channel}"):
        pages = clients.ec2.get_paginator("describe_images").paginate(Owners=["self"], Filters=wanted)
        images = [image for page in pages for image in page["Images"]]
    if not images:
        raise UsageError(
            f"Channel `{channel}` has no proven image; prove one with `invoke test-instance`, or name an --ami."
        )
    return str(max(images, key=lambda image: str(image["CreationDate"]))["ImageId"])


def _require_ours(clients: Clients, image: dict[str, Any], tags: dict[str, str]) -> None:
    ami.require_own(clients, image, "a channel names images of its own account only")
    if TAG_STATE not in tags:
        raise UsageError(f"Image {image['ImageId']} was not baked by gpunodes; a channel names such images only.")


def _of_state(tags: dict[str, str]) -> list[str]:
    state = tags[TAG_STATE]
    if state == STATE_FAILED:
        return [f"failed its proof ({tags.get(TAG_FAILED_REASON, 'nobody knows why')})"]
    if state != STATE_PROVEN:
        return [f"is {state} and not proven"]
    return [] if tags.get(TAG_PROOF_DIGEST) else ["says that it is proven and names no proof"]


def _of_soak(ami_id: str, source_channel: str, history: Sequence[Pointer], soak: timedelta, now: datetime) -> list[str]:
    """The source channel must name it now, without a break for so long."""
    since = None
    for pointer in history:  # newest first
        if pointer.ami_id != ami_id:
            break
        since = pointer.written_at
    if since is None:
        return [f"is not what channel `{source_channel}` names"]
    left = soak - (now - since)
    if left <= timedelta(0):
        return []
    return [f"has been in channel `{source_channel}` since {since:%d %b %H:%M} UTC and needs {_hours(left)} more"]


def _hours(span: timedelta) -> str:
    hours = span / timedelta(hours=1)
    return f"{hours:.0f} hours" if hours >= 2 else f"{span / timedelta(minutes=1):.0f} minutes"
