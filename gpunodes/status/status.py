"""`status`: what each channel names since when, what waits to be promoted, what is old, and what keeping it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.channel.parameter import ChannelParameter, Pointer
from gpunodes.channel.policy import Policy
from gpunodes.errors import AwsError, PreflightError
from gpunodes.plan.cost import SnapshotPrice, snapshot_price
from gpunodes.plan.plan import TAG_RECIPE
from gpunodes.proof.verdict_tags import TAG_PROVEN_AT
from gpunodes.prune import account, prune_plan
from gpunodes.prune.own_images import OwnImage
from gpunodes.prune.prune_plan import Account, Entry
from gpunodes.recipe import ami, recipe
from gpunodes.recipe.ami import STATE_CANDIDATE, STATE_PROVEN

_SOURCE = "source_ami"


@dataclass(frozen=True)
class RegionStatus:
    """What a channel names in another region than home.

    Attributes:
        region: its name.
        ami_id: what the channel names there; empty where it names nothing.
        note: what is wrong with that; empty where nothing is.
    """

    region: str
    ami_id: str
    note: str = ""


@dataclass(frozen=True)
class ChannelStatus:
    """One line.

    Attributes:
        channel: its name.
        ami_id: what it names; empty where it names nothing.
        note: what is wrong with that; empty where nothing is.
        named_since: UTC; None where it names nothing.
        baked_at: UTC; None where the image is not ours or gone.
        base_ami: the base image, by the image's own tag; empty where it has none.
        proven_at: as the image's tag says; empty where it was not proven.
        candidates: how many of its images wait for a proof or for a promotion.
        deprecated: how many are deprecated, and not disabled.
        disabled: how many are disabled.
        due: how many the next `invoke prune --apply` handles.
        gib: of all its images' volumes: the most that their snapshots can be.
        monthly_usd: of so many GiB; None where no price is known.
        regions: of its policy, that could be read; the counts from `deprecated` on are of all regions.
    """

    channel: str
    ami_id: str
    note: str
    named_since: datetime | None
    baked_at: datetime | None
    base_ami: str
    proven_at: str
    candidates: int
    deprecated: int
    disabled: int
    due: int
    gib: int
    monthly_usd: float | None
    regions: Sequence[RegionStatus] = ()


@dataclass(frozen=True)
class Status:
    """All of it.

    Attributes:
        at: UTC.
        channels: by name; those with images and without a parameter, too.
        price_reason: where the price comes from, or why there is none.
        failed: sources of references that did not answer: what is due is not known for sure.
        unreachable: why regions beside home are missing; empty where none is.
    """

    at: datetime
    channels: Sequence[ChannelStatus]
    price_reason: str
    failed: Sequence[str]
    unreachable: str = ""


def status(clients: Clients, now: datetime | None = None) -> Status:
    """Ask AWS for all of it; nothing is changed.

    Args:
        clients: of the target.
        now: UTC; None for this moment.

    Raises:
        UsageError: the policy file has a mistake.
        PreflightError: the credentials are no longer valid.
        AwsError: images or channels cannot be read.
    """
    moment = now or datetime.now(UTC)
    everywhere, unreachable = _everywhere(clients, moment)
    looked = everywhere[clients.target.region]
    entries = [entry for each in everywhere.values() for entry in prune_plan.plan(each, len(each.images))]
    price = snapshot_price(clients)
    names = sorted({*looked.histories, *(image.channel for image in looked.images)})
    pointers = {name: ChannelParameter(clients, name).read() for name in names}
    tags = _tags(clients, [pointer.ami_id for pointer in pointers.values() if pointer])
    lines = [
        replace(
            _line(name, looked, entries, pointer=pointers[name], tags=tags, price=price),
            regions=_regions(name, everywhere, clients.target.region, pointers[name]),
        )
        for name in names
    ]
    failed = [name for each in everywhere.values() for name in each.references.failed]
    return Status(moment, lines, price.reason, list(dict.fromkeys(failed)), unreachable)


def _everywhere(clients: Clients, now: datetime) -> tuple[dict[str, Account], str]:
    """All regions; only home, and why, where another one cannot be read."""
    try:
        return account.look_everywhere(clients, now), ""
    except (AwsError, PreflightError) as error:
        return {clients.target.region: account.look(clients, now)}, str(error)


def _regions(
    channel: str, everywhere: Mapping[str, Account], home: str, pointer: Pointer | None
) -> tuple[RegionStatus, ...]:
    found = []
    for region, looked in everywhere.items():
        if region == home or region not in everywhere[home].policies.get(channel, Policy()).regions:
            continue
        ami_id = next(iter(looked.histories.get(channel, ())), "")
        named = next((image for image in looked.images if image.ami_id == ami_id), None)
        note = _note(bool(ami_id), named)
        if named and pointer and named.copied_from != f"{home}/{pointer.ami_id}":
            note = f"names {ami_id}, which is no copy of {pointer.ami_id}; repeat the promotion"
        found.append(RegionStatus(region, ami_id, note))
    return tuple(found)


def _line(
    channel: str,
    looked: Account,
    entries: Sequence[Entry],
    *,
    pointer: Pointer | None,
    tags: dict[str, dict[str, str]],
    price: SnapshotPrice,
) -> ChannelStatus:
    own = [entry for entry in entries if entry.image.channel == channel]
    home = {image.ami_id for image in looked.images}
    named = next((image for image in looked.images if pointer and image.ami_id == pointer.ami_id), None)
    tagged = tags.get(pointer.ami_id, {}) if pointer else {}
    gib = sum(entry.image.gib for entry in own)
    return ChannelStatus(
        channel=channel,
        ami_id=pointer.ami_id if pointer else "",
        note=_note(pointer is not None, named),
        named_since=pointer.written_at if pointer else None,
        baked_at=named.created_at if named else None,
        base_ami=recipe.inputs_of(tagged.get(TAG_RECIPE, "")).get(_SOURCE, ""),
        proven_at=tagged.get(TAG_PROVEN_AT, ""),
        candidates=sum(_waits(entry.image, named) for entry in own if entry.image.ami_id in home),
        deprecated=sum(_is_deprecated(entry.image, looked.now) for entry in own),
        disabled=sum(entry.image.is_disabled for entry in own),
        due=sum(entry.action != prune_plan.KEEP for entry in own),
        gib=gib,
        monthly_usd=price.of(gib),
    )


def _note(names_any: bool, named: OwnImage | None) -> str:
    if not names_any:
        return "names no image"
    if named is None:
        return "names an image that is gone, or was not baked here"
    if named.is_disabled:
        return "names a disabled image: every launch fails"
    return "" if named.state == STATE_PROVEN else f"names an image that is {named.state or 'unfinished'}"


def _waits(image: OwnImage, named: OwnImage | None) -> bool:
    is_younger = named is None or image.created_at > named.created_at
    return image.state in {STATE_CANDIDATE, STATE_PROVEN} and is_younger and not image.is_disabled


def _is_deprecated(image: OwnImage, now: datetime) -> bool:
    return not image.is_disabled and image.deprecated_at is not None and image.deprecated_at <= now


def _tags(clients: Clients, ami_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    if not ami_ids:
        return {}
    wanted: list[dict[str, Any]] = [{"Name": "image-id", "Values": sorted(set(ami_ids))}]
    with aws_errors("looking at the images that channels name"):
        found = clients.ec2.describe_images(Owners=["self"], Filters=wanted, IncludeDisabled=True)["Images"]
    return {image["ImageId"]: ami.tags_of(image) for image in found}
