"""Carry a plan out: deprecate first, which harms nobody, then disable, then deregister; a call that fails ends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.channel.revive import TAG_DISABLED_AT
from gpunodes.errors import AwsError
from gpunodes.prune import last_look
from gpunodes.prune.own_images import OwnImage
from gpunodes.prune.prune_plan import DEPRECATE, DEREGISTER, DISABLE, Entry

_A_MOMENT = timedelta(minutes=1)  # AWS takes no time of the past, and rounds to the minute
_IN_COOLDOWN = "disabled-and-in-cooldown"


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
) -> Pruned:
    """Carry out what is planned; the first call that fails stops all that is left, and says so.

    Args:
        clients: of the target.
        entries: of a plan that was made just now.
        clock: UTC.
    """
    done: list[Done] = []
    try:
        done.extend(_deprecate(clients, entry, clock()) for entry in _of(entries, DEPRECATE))
        going = [*_of(entries, DISABLE), *_of(entries, DEREGISTER)]
        doubts = _doubts(clients, going) if going else {}
        for entry in going:
            if doubt := doubts.get(entry.image.ami_id):
                done.append(Done(entry.image.ami_id, entry.action, False, doubt))
            elif entry.action == DISABLE:
                done.append(_disable(clients, entry, clock()))
            else:
                done.append(_deregister(clients, entry))
    except AwsError as error:
        return Pruned(done, str(error))
    return Pruned(done)


def _of(entries: Sequence[Entry], action: str) -> list[Entry]:
    return [entry for entry in entries if entry.action == action]


def _doubts(clients: Clients, going: Sequence[Entry]) -> dict[str, str]:
    """What AWS itself says against it, by image: asked for all before the first one goes."""
    doubts: dict[str, str] = {}
    for reference in last_look.references(clients, [entry.image.ami_id for entry in going]) or []:
        doubts.setdefault(reference.ami_id, f"in use by {reference}")
    for entry in going:
        ami_id = entry.image.ami_id
        if ami_id in doubts or not (shared := last_look.accounts(clients, ami_id)):
            continue
        usage = last_look.usage_by_others(clients, ami_id)
        if usage is None:
            doubts[ami_id] = f"shared with {', '.join(shared)}, and this API cannot say whether they use it"
        elif usage:
            doubts[ami_id] = f"in use by {', '.join(map(str, usage))}"
    return doubts


def _deprecate(clients: Clients, entry: Entry, now: datetime) -> Done:
    ami_id = entry.image.ami_id
    with aws_errors(f"deprecating {ami_id}"):
        clients.ec2.enable_image_deprecation(ImageId=ami_id, DeprecateAt=now + _A_MOMENT)
    return Done(ami_id, entry.action, True, entry.reason)


def _disable(clients: Clients, entry: Entry, now: datetime) -> Done:
    """The tag first: an image that is disabled and does not say since when would never go."""
    ami_id = entry.image.ami_id
    with aws_errors(f"disabling {ami_id}"):
        tag = {"Key": TAG_DISABLED_AT, "Value": now.isoformat(timespec="seconds")}
        clients.ec2.create_tags(Resources=[ami_id], Tags=[tag])
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
