"""Carry a plan out: deprecate first, which harms nobody, then disable, then deregister; a call that fails ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.channel.revive import TAG_DISABLED_AT
from gpunodes.errors import AwsError
from gpunodes.prune import last_look
from gpunodes.prune.offered import MissingSourceError
from gpunodes.prune.own_images import TAG_SHARED_WITH, OwnImage
from gpunodes.prune.permissions import explained
from gpunodes.prune.prune_plan import DEPRECATE, DEREGISTER, DISABLE, Entry

_A_MOMENT = timedelta(minutes=1)  # AWS takes no time of the past, and rounds to the minute
_IN_COOLDOWN = "disabled-and-in-cooldown"
_LONGEST_TAG = 256


@dataclass(frozen=True)
class Done:
    """What became of one image.

    Attributes:
        ami_id: the AMI.
        action: that was planned.
        was_done: whether it was carried out.
        reason: why, or why not.
        snapshots: ids that went with it.
        left: snapshots of it that AWS did not delete.
    """

    ami_id: str
    action: str
    was_done: bool
    reason: str
    snapshots: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Pruned:
    """What a run did.

    Attributes:
        done: image by image, in the order in which they were handled.
        stopped: why it went no further; empty where it got to the end.
    """

    done: list[Done]
    stopped: str = ""


def carry_out(
    clients: Clients,
    entries: Sequence[Entry],
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    wait: Callable[[float], None] = time.sleep,
) -> Pruned:
    """Carry out what is planned; the first call that fails stops all that is left, and says so.

    Args:
        clients: of the target.
        entries: of a plan that was made just now.
        clock: UTC.
        wait: sleeps for so many seconds, while EC2 writes a report.
    """
    done: list[Done] = []
    try:
        done.extend(_deprecate(clients, entry, clock()) for entry in _of(entries, DEPRECATE))
        going = [*_of(entries, DISABLE), *_of(entries, DEREGISTER)]
        shared = {entry.image.ami_id: last_look.accounts(clients, entry.image.ami_id) for entry in going}
        doubts = {entry.image.ami_id: _doubt(clients, entry, shared[entry.image.ami_id], wait) for entry in going}
        for entry in going:
            if doubt := doubts[entry.image.ami_id]:
                done.append(Done(entry.image.ami_id, entry.action, False, doubt))
            elif entry.action == DISABLE:
                done.append(_disable(clients, entry, clock(), shared[entry.image.ami_id]))
            else:
                done.append(_deregister(clients, entry))
    except AwsError as error:
        return Pruned(done, explained(error))
    return Pruned(done)


def _of(entries: Sequence[Entry], action: str) -> list[Entry]:
    return [entry for entry in entries if entry.action == action]


def _doubt(clients: Clients, entry: Entry, shared: Sequence[str], wait: Callable[[float], None]) -> str:
    """What other accounts have against it: asked for all before the first one goes; empty where it may go.

    A disabled image is shared with nobody any more; who used it shortly before is in a report only days later.
    """
    ami_id = entry.image.ami_id
    with_whom = ", ".join(shared) or entry.image.was_shared_with
    if not with_whom:
        return ""
    try:
        usage = last_look.usage_by_others(clients, ami_id, wait)
    except MissingSourceError:
        return f"shared with {with_whom}, and this API cannot say whether they use it"
    return f"in use by {', '.join(map(str, usage))}" if usage else ""


def _deprecate(clients: Clients, entry: Entry, now: datetime) -> Done:
    ami_id = entry.image.ami_id
    with aws_errors(f"deprecating {ami_id}"):
        clients.ec2.enable_image_deprecation(ImageId=ami_id, DeprecateAt=now + _A_MOMENT)
    return Done(ami_id, entry.action, True, entry.reason)


def _disable(clients: Clients, entry: Entry, now: datetime, shared: Sequence[str]) -> Done:
    """The tags first: an image that is disabled and does not say since when would never go."""
    ami_id = entry.image.ami_id
    with aws_errors(f"disabling {ami_id}"):
        tags = {TAG_DISABLED_AT: now.isoformat(timespec="seconds")}
        if shared:
            tags[TAG_SHARED_WITH] = " ".join(shared)[:_LONGEST_TAG]
        pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
        clients.ec2.create_tags(Resources=[ami_id], Tags=pairs)
        clients.ec2.disable_image(ImageId=ami_id)
    state = _described(clients, ami_id).get("State", "gone")
    if state != "disabled":
        raise AwsError(f"{ami_id} is {state} although it was disabled; look at it and repeat.")
    return Done(ami_id, entry.action, True, entry.reason)


def _deregister(clients: Clients, entry: Entry) -> Done:
    image = entry.image
    with aws_errors(f"deregistering {image.ami_id}"):
        clients.ec2.disable_image_deregistration_protection(ImageId=image.ami_id)
        protection = str(_described(clients, image.ami_id).get("DeregistrationProtection", ""))
        if protection.startswith(_IN_COOLDOWN):
            reason = f"its protection was taken off just now and ends a day later ({protection})"
            return Done(image.ami_id, entry.action, False, reason)
        clients.ec2.deregister_image(ImageId=image.ami_id, DeleteAssociatedSnapshots=True)
    left = _left(clients, image)
    gone = [snapshot for snapshot in image.snapshots if snapshot not in left]
    return Done(image.ami_id, entry.action, True, entry.reason, gone, left)


def _left(clients: Clients, image: OwnImage) -> list[str]:
    """Snapshots that AWS still has: those that another image is made of, too, stay."""
    if not image.snapshots:
        return []
    wanted = [{"Name": "snapshot-id", "Values": list(image.snapshots)}]
    with aws_errors(f"looking for the snapshots of {image.ami_id}"):
        pages = clients.ec2.get_paginator("describe_snapshots").paginate(OwnerIds=["self"], Filters=wanted)
        return [str(snapshot["SnapshotId"]) for page in pages for snapshot in page["Snapshots"]]


def _described(clients: Clients, ami_id: str) -> dict[str, Any]:
    wanted = [{"Name": "image-id", "Values": [ami_id]}]
    found = clients.ec2.describe_images(Owners=["self"], Filters=wanted, IncludeDeprecated=True, IncludeDisabled=True)
    return dict(found["Images"][0]) if found["Images"] else {}
