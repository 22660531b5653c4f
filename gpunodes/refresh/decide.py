"""Whether a channel is due for a new image, and why or why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gpunodes.channel import policy as policies
from gpunodes.channel.policy import Policy
from gpunodes.plan.plan import Difference
from gpunodes.recipe.ami import STATE_CANDIDATE, STATE_FAILED, STATE_PROVEN

BAKE, PROVE, PROMOTE, WAIT, NOTHING = "bake", "prove", "promote", "wait", "nothing"


@dataclass(frozen=True)
class ChannelImage:
    """An image of a channel.

    Attributes:
        ami_id: the AMI.
        state: `candidate`, `proven` or `failed`.
        fingerprint: of its recipe, or the beginning of it.
        baked_at: UTC.
        rolled_back: when, by what run and why the channel left it for an earlier one; empty where it did not.
        agent_version: of the CloudWatch agent in it; empty where nobody knows.
    """

    ami_id: str
    state: str
    fingerprint: str
    baked_at: datetime
    rolled_back: str = ""
    agent_version: str = ""


@dataclass(frozen=True)
class Situation:
    """What a decision is made from.

    Attributes:
        now: UTC.
        fingerprint: of the recipe that a bake would have now; base image, agent and pins are part of it.
        promoted: what the channel points to; None where it points to nothing yet.
        changes: what differs between its recipe and the present one.
        images: of the channel, promoted or not, in any order.
        urgency: why it cannot wait, such as an advisory; empty where nothing is urgent.
        agent_version: of the CloudWatch agent that a bake would install, where the pins leave that to its publisher;
            empty where they do not; None where it could not be read.
        names: id of a base image -> its name and date, for people; without those that EC2 shows no more.
    """

    now: datetime
    fingerprint: str
    promoted: ChannelImage | None = None
    changes: Sequence[Difference] = ()
    images: Sequence[ChannelImage] = ()
    urgency: str = ""
    agent_version: str | None = ""
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What a refresh does next.

    Attributes:
        action: `bake`, `prove` (an image was baked already), `promote` (and proven, too), `wait` or `nothing`.
        reason: one sentence.
        ami_id: of the image to prove or to promote; else empty.
        due_at: UTC, until when to wait, or when age alone demands a new image; None where that is not known.
    """

    action: str
    reason: str
    ami_id: str = ""
    due_at: datetime | None = None

    @property
    def is_due(self) -> bool:
        """Whether there is something to do now."""
        return self.action in {BAKE, PROVE, PROMOTE}


def decide(situation: Situation, policy: Policy) -> Decision:
    """Say what to do; what a refresh that was stopped has left is gone on with, and never baked twice."""
    why = _why(situation, policy)
    if not why:
        due_at = situation.promoted.baked_at + policy.maximum_age if situation.promoted else None
        until = f"; its age demands a new one on {due_at:%d %B %Y}" if due_at else ""
        unsure = "; which CloudWatch agent is published could not be read" if situation.agent_version is None else ""
        said = f"nothing has changed since the promoted image was baked{unsure}{until}"
        return Decision(NOTHING, said, due_at=due_at)
    if held := _held(situation):
        return Decision(
            NOTHING,
            f"{why}; but the recipe is that of {held.ami_id}, which was rolled back ({held.rolled_back}): change it, or"
            " promote an image by hand",
        )
    begun = _begun(situation)
    if begun and begun.state == STATE_PROVEN:
        return Decision(PROMOTE, f"{why}; {begun.ami_id} is proven already", begun.ami_id)
    if begun and begun.state == STATE_CANDIDATE:
        return Decision(PROVE, f"{why}; {begun.ami_id} is baked already", begun.ami_id)
    failed = f"; {begun.ami_id}, of the same recipe, failed its proof" if begun else ""
    due_at = _earliest(situation, policy)
    if due_at > situation.now:
        return Decision(WAIT, f"{why}{failed}; the policy says not before {due_at:%a %d %b %H:%M} UTC", due_at=due_at)
    return Decision(BAKE, f"{why}{failed}")


def _why(situation: Situation, policy: Policy) -> str:
    """Why a new image is wanted; empty where it is not."""
    if situation.promoted is None:
        return "the channel has no image yet"
    if situation.urgency:
        return f"it is urgent: {situation.urgency}"
    if situation.changes:
        return "changed: " + ", ".join(_word(change, situation.names) for change in situation.changes)
    age = situation.now - situation.promoted.baked_at
    if age >= policy.maximum_age:
        return f"the promoted image is {_days(age)} old, and {_days(policy.maximum_age)} are allowed"
    return ""


def _begun(situation: Situation) -> ChannelImage | None:
    """The newest image of the present recipe that is younger than the promoted one: an earlier refresh began it."""
    promoted = situation.promoted
    younger = [
        image
        for image in situation.images
        if image.state in {STATE_CANDIDATE, STATE_PROVEN, STATE_FAILED}
        and _is_what_a_bake_gives(image, situation)
        and (promoted is None or (image.ami_id != promoted.ami_id and image.baked_at > promoted.baked_at))
    ]
    return max(younger, key=lambda image: image.baked_at, default=None)


def _held(situation: Situation) -> ChannelImage | None:
    """The image that the channel was brought back from, where a bake would make the same again."""
    left = [image for image in situation.images if image.rolled_back and _is_what_a_bake_gives(image, situation)]
    return max(left, key=lambda image: image.baked_at, default=None)


def _is_what_a_bake_gives(image: ChannelImage, situation: Situation) -> bool:
    """Whether it is of this recipe, and the agent in it not outdated; a tag may hold a fingerprint's beginning only."""
    if image.agent_version and situation.agent_version and image.agent_version != situation.agent_version:
        return False
    return bool(image.fingerprint) and situation.fingerprint.startswith(image.fingerprint)


def _is_urgent(situation: Situation, policy: Policy) -> bool:
    """Whether no window is waited for: what has no image yet, is too old or is unsafe."""
    promoted = situation.promoted
    if promoted is None or situation.now - promoted.baked_at >= policy.maximum_age:
        return True
    return bool(situation.urgency) and policy.security == policies.NOW


def _earliest(situation: Situation, policy: Policy) -> datetime:
    """The first moment from now on at which the policy allows a bake.

    Two bakes are never nearer than the gap, unless it is urgent and nothing of this recipe failed meanwhile.
    """
    moment = situation.now
    is_at_once = bool(situation.urgency) and policy.security == policies.NOW and _begun(situation) is None
    if situation.images and not is_at_once:
        moment = max(moment, max(image.baked_at for image in situation.images) + policy.minimum_gap)
    window = policy.window
    if window is None or window.contains(moment) or _is_urgent(situation, policy):
        return moment
    return window.next_begin(moment)


def _word(change: Difference, names: Mapping[str, str]) -> str:
    before, after = (f"{side} ({names[side]})" if side in names else side for side in (change.before, change.after))
    return f"{change.name} {before or 'nothing'} -> {after or 'nothing'}"


def _days(span: timedelta) -> str:
    days = span / timedelta(days=1)
    return f"{days:.0f} day" if round(days) == 1 else f"{days:.0f} days"
