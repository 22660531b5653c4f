"""What becomes of each image, and why: a plan first, and whoever wants it done says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from gpunodes.channel.policy import Policy
from gpunodes.prune.own_images import OwnImage
from gpunodes.prune.references import References
from gpunodes.recipe.ami import STATE_FAILED, STATE_PROVEN

KEEP, DEPRECATE, DISABLE, DEREGISTER = "keep", "deprecate", "disable", "deregister"
DEFAULT_MOST = 10
_MANY = 2
_SOON = timedelta(minutes=5)  # AWS takes no deprecation of this very moment


@dataclass(frozen=True)
class Entry:
    """One image and what is planned for it.

    Attributes:
        image: the image.
        action: `keep`, `deprecate`, `disable` or `deregister`.
        reason: a sentence without its end.
        due_at: UTC, when the next action is due; None where none is, or nobody can say.
    """

    image: OwnImage
    action: str
    reason: str
    due_at: datetime | None = None


@dataclass(frozen=True)
class Account:
    """What a plan is made from.

    Attributes:
        now: UTC.
        images: all of ours.
        histories: channel -> what it names and named, newest first.
        policies: channel -> its policy; a channel without one has the default.
        references: who refers to what.
        at_home: in another region than home: what is kept there, and why; a copy of it stays, too.
    """

    now: datetime
    images: Sequence[OwnImage]
    histories: Mapping[str, Sequence[str]]
    references: References
    policies: Mapping[str, Policy] = field(default_factory=dict)
    at_home: Mapping[str, str] = field(default_factory=dict)

    def policy_of(self, image: OwnImage) -> Policy:
        """Of the channel that an image was baked for."""
        return self.policies.get(image.channel, Policy())


def plan(account: Account, most: int = DEFAULT_MOST, counts: Counter[str] | None = None) -> list[Entry]:
    """Say of every image what becomes of it.

    Args:
        account: what there is.
        most: so many images are deprecated in one run, as many disabled, as many deregistered; the oldest go first.
        counts: of each action that this run plans elsewhere already; this plan's are added.
    """
    counts = Counter() if counts is None else counts
    capped = []
    for image in account.images:
        entry = _entry(image, account)
        counts[entry.action] += 1
        if entry.action != KEEP and counts[entry.action] > most:
            reason = f"{entry.action} is due, after the {most} of this run"
            entry = replace(entry, action=KEEP, reason=reason, due_at=account.now)
        capped.append(entry)
    return capped


def named_or_way_back(account: Account) -> dict[str, str]:
    """Images that channels name or may go back to, and why each is; as `us-east-1/ami-0123456789abcdef0`."""
    return {
        f"{image.region}/{image.ami_id}": why for image in account.images if (why := _why_in_channels(image, account))
    }


def reconsider(entries: Sequence[Entry], references: References) -> list[Entry]:
    """The same plan, without what is in use by what was found later.

    Args:
        entries: of a plan.
        references: to the images that it lets go.
    """
    return [_unless_used(entry, references) for entry in entries]


def _entry(image: OwnImage, account: Account) -> Entry:
    if image.has_failed:
        entry = Entry(image, DEREGISTER, "a copy that failed", account.now)
    elif why := _why_current(image, account):
        return Entry(image, KEEP, why)
    else:
        entry = Entry(image, *_next_action(image, account))
    return _unless_used(entry, account.references)


def _unless_used(entry: Entry, references: References) -> Entry:
    """Nothing that is in use, or may be, is disabled or deregistered."""
    if entry.action not in {DISABLE, DEREGISTER}:
        return entry
    if users := references.of(entry.image.ami_id):
        more = f" and {len(users) - _MANY} more" if len(users) > _MANY else ""
        return Entry(entry.image, KEEP, f"in use by {', '.join(map(str, users[:_MANY]))}{more}")
    if not references.are_complete:
        failed = ", ".join(references.failed)
        return Entry(entry.image, KEEP, f"{entry.action} is due, but nobody knows who uses it: {failed} did not answer")
    return entry


def _why_current(image: OwnImage, account: Account) -> str:
    """Why an image is none of the old ones; empty where it is."""
    if why := _kept_by_hand(image):
        return why
    if why := _why_in_channels(image, account):
        return why
    if not image.state:
        return "its bake did not end; `invoke reap` removes it"
    policy = account.policy_of(image)
    if image.state != STATE_PROVEN:
        ready_at = image.created_at + policy.unproven_after
        return f"{image.state}, and younger than {policy.unproven_after.days} days" if account.now < ready_at else ""
    return "" if _is_superseded(image, account) else "proven, and nothing newer was promoted in its channel"


def _why_in_channels(image: OwnImage, account: Account) -> str:
    """Whether a channel names an image, or what it is a copy of, or may go back to it; empty where none does."""
    # No rollback leads to an image that is gone, or that failed a later proof.
    usable = {other.ami_id for other in account.images if other.state != STATE_FAILED}
    for channel, named in account.histories.items():
        if named and named[0] == image.ami_id:
            return f"channel {channel} names it"
        previous = [ami_id for ami_id in dict.fromkeys(named) if ami_id != named[0] and ami_id in usable]
        if image.ami_id in previous[: account.policies.get(channel, Policy()).keep_previous]:
            return f"the way back of channel {channel}"
    why = account.at_home.get(image.copied_from, "")
    return f"a copy of {image.copied_from}: {why}" if why else ""


def _kept_by_hand(image: OwnImage) -> str:
    if image.kept_because:
        return f"kept by hand: {image.kept_because}"
    return "protected from deregistration by hand (with a cool-down)" if image.is_protected_by_hand else ""


def _is_superseded(image: OwnImage, account: Account) -> bool:
    """Whether the channel has left it behind: it named it once, or names one that is younger."""
    named = account.histories.get(image.channel, ())
    if image.ami_id in named:
        return True
    promoted = next((other for other in account.images if other.ami_id in named[:1]), None)
    return promoted is not None and promoted.created_at > image.created_at


def _next_action(image: OwnImage, account: Account) -> tuple[str, str, datetime | None]:
    policy = account.policy_of(image)
    if image.is_disabled:
        if image.disabled_at is None:
            return (
                KEEP,
                "disabled by hand, nobody knows when; tag it gpunodes:disabled-at, or deregister it by hand",
                None,
            )
        due_at = image.disabled_at + policy.delete_after
        if account.now < due_at:
            return KEEP, f"disabled, goes on {due_at:%d %b %Y}", due_at
        return DEREGISTER, f"disabled for {_days(account.now, image.disabled_at)}", due_at
    if image.deprecated_at is None or image.deprecated_at > account.now + _SOON:
        return (
            DEPRECATE,
            "no channel names it any more" if image.state == STATE_PROVEN else f"{image.state} for long",
            None,
        )
    due_at = image.deprecated_at + policy.disable_after
    if account.now < due_at:
        return KEEP, f"deprecated, is disabled on {due_at:%d %b %Y}", due_at
    return DISABLE, f"deprecated for {_days(account.now, image.deprecated_at)}", due_at


def _days(now: datetime, since: datetime) -> str:
    return f"{(now - since).days} days"
