"""What a refresh has to decide from: the channel's image, its other images, and what a bake would make now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from gpunodes.aws import Clients, aws_errors
from gpunodes.bake.bake_record import TAG_AGENT_VERSION, UNKNOWN_VERSION
from gpunodes.channel import policy as policies
from gpunodes.channel import promotable
from gpunodes.channel.parameter import ChannelParameter, Pointer
from gpunodes.channel.policy import Policy
from gpunodes.channel.promote import TAG_ROLLED_BACK
from gpunodes.errors import PreflightError
from gpunodes.operation import runs
from gpunodes.plan import plan as plans
from gpunodes.plan.plan import TAG_CHANNEL, TAG_RECIPE, BakePlan, Difference
from gpunodes.recipe import ami, recipe
from gpunodes.refresh import agent_release
from gpunodes.refresh.decide import NOTHING, PROMOTE, WAIT, ChannelImage, Decision, Situation, decide

TAG_FINGERPRINT = "gpunodes:fingerprint"
_BASE = "source_ami"
_UNKNOWN_RECIPE = Difference("recipe", "not known", "known")


@dataclass(frozen=True)
class RefreshPlan:
    """What a refresh would do now.

    Attributes:
        channel: whose.
        decision: and why.
        promoted_ami: what the channel names; empty where it names nothing yet.
        changes: between its recipe and the present one.
        urgency: why it cannot wait; empty where nothing is urgent.
    """

    channel: str
    decision: Decision
    promoted_ami: str
    changes: list[Difference]
    urgency: str


def plan_refresh(clients: Clients, planned: BakePlan, now: datetime | None = None) -> RefreshPlan:
    """Decide for the channel of a planned bake, by its policy.

    Args:
        clients: of the target.
        planned: what a bake would make.
        now: UTC; None for this moment.

    Raises:
        UsageError: the policy file has a mistake.
        PreflightError: the channel names an image that is not of this account and project.
        AwsError: AWS refused.
    """
    policy = policies.load(planned.channel)
    situation = gather(clients, planned, now or datetime.now(UTC))
    if policy.promotes_from:
        return _plan_promotion(clients, situation, planned.channel, policy)
    return RefreshPlan(
        channel=planned.channel,
        decision=decide(situation, policy),
        promoted_ami=situation.promoted.ami_id if situation.promoted else "",
        changes=list(situation.changes),
        urgency=situation.urgency,
    )


def _plan_promotion(clients: Clients, situation: Situation, channel: str, policy: Policy) -> RefreshPlan:
    """Of a channel that bakes nothing itself: it gets what another one names, once that has soaked there."""
    promoted, source = situation.promoted.ami_id if situation.promoted else "", policy.promotes_from
    named = ChannelParameter(clients, source).read()
    if named is None:
        decision = Decision(NOTHING, f"channel {source} names no image yet")
    elif named.ami_id == promoted:
        decision = Decision(NOTHING, f"channel {source} names the same image")
    else:
        found = promotable.find(
            clients, channel, named.ami_id, source_channel=source, soak=policy.soak, now=situation.now
        )
        why = f"channel {source} names {named.ami_id}"
        waits = f"{why}, which {' and '.join(found.objections)}"
        decision = Decision(WAIT, waits) if found.objections else Decision(PROMOTE, why, named.ami_id)
    return RefreshPlan(channel, decision, promoted, [], situation.urgency)


def gather(clients: Clients, planned: BakePlan, now: datetime) -> Situation:
    """Ask AWS what there is (SSM GetParameter, EC2 DescribeImages).

    Args:
        clients: of the target.
        planned: what a bake would make.
        now: UTC.

    Raises:
        PreflightError: the channel names an image that is not of this account and project.
        AwsError: AWS refused.
    """
    images = images_of(clients, planned.channel)
    pointer = ChannelParameter(clients, planned.channel).read()
    promoted = _promoted(clients, pointer, planned.channel, images) if pointer else None
    agent = agent_release.published(clients.target.agent_base_url) if _follows_agent(planned) else ""
    changes = _changes(promoted, planned, agent) if promoted else []
    named = _channel_image(promoted, planned.channel) if promoted else None
    return Situation(
        now=now,
        fingerprint=planned.fingerprint,
        promoted=named,
        changes=changes,
        images=[_channel_image(image, planned.channel) for image in images.values()],
        urgency=urgency(clients, planned.channel, named.baked_at if named else None),
        agent_version=agent,
        names=_base_names(clients, planned, changes),
    )


def images_of(clients: Clients, channel: str) -> dict[str, dict[str, Any]]:
    """The images that were baked for a channel, by id, as in DescribeImages.

    Raises:
        AwsError: EC2 refused.
    """
    wanted = [{"Name": f"tag:{TAG_CHANNEL}", "Values": [channel]}, {"Name": "tag-key", "Values": [runs.TAG_STATE]}]
    with aws_errors(f"looking for the images of channel {channel}"):
        pages = clients.ec2.get_paginator("describe_images").paginate(Owners=["self"], Filters=wanted)
        return {image["ImageId"]: image for page in pages for image in page["Images"]}


def urgency(clients: Clients, channel: str, baked_at: datetime | None) -> str:
    """Why the channel's next image cannot wait: the parameter `/gpunodes/<channel>/urgent`; empty without one.

    Whoever watches advisories writes it. An image that was baked afterwards is the answer to it, so that a parameter
    which nobody removes does not lead to a bake each time.

    Args:
        clients: of the target.
        channel: such as `stable`.
        baked_at: UTC, of the image that the channel names; None where it names none.

    Raises:
        AwsError: SSM refused.
    """
    with aws_errors(f"reading whether channel {channel} is urgent"):
        try:
            found = clients.ssm.get_parameter(Name=f"/gpunodes/{channel}/urgent")["Parameter"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ParameterNotFound":
                return ""
            raise
    is_answered = baked_at is not None and found["LastModifiedDate"] < baked_at
    return "" if is_answered else str(found["Value"]).strip()


def _promoted(clients: Clients, pointer: Pointer, channel: str, images: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The image that a channel names; it may have been baked for another one, from which it was promoted."""
    if pointer.ami_id in images:
        return images[pointer.ami_id]
    ours = [{"Name": "image-id", "Values": [pointer.ami_id]}, {"Name": "tag-key", "Values": [runs.TAG_STATE]}]
    with aws_errors(f"looking up {pointer.ami_id}"):
        found = clients.ec2.describe_images(Owners=["self"], Filters=ours)["Images"]
    if not found:
        raise PreflightError(
            f"Channel `{channel}` names {pointer.ami_id}, which is no image of this account that gpunodes baked; write"
            f" the right one into the SSM parameter /gpunodes/{channel}/ami-id."
        )
    image: dict[str, Any] = found[0]
    return image


def _base_names(clients: Clients, planned: BakePlan, changes: Sequence[Difference]) -> dict[str, str]:
    """Name and date of the new base image, and of the old one where its publisher did not withdraw it."""
    changed = [change for change in changes if change.name == _BASE]
    if not changed:
        return {}
    names = {planned.base_ami: _name_and_date(planned.base_name, planned.base_creation_date)}
    with aws_errors(f"looking up the base image {changed[0].before}"):
        old = [{"Name": "image-id", "Values": [changed[0].before]}]
        for image in clients.ec2.describe_images(Filters=old, IncludeDeprecated=True)["Images"]:
            names[image["ImageId"]] = _name_and_date(image.get("Name", ""), image.get("CreationDate", ""))
    return names


def _name_and_date(name: str, creation_date: str) -> str:
    return f"{name}, {datetime.fromisoformat(creation_date):%d %b %Y}" if creation_date else name


def _follows_agent(planned: BakePlan) -> bool:
    return planned.pins.agent_version == agent_release.LATEST


def _changes(promoted: Mapping[str, Any], planned: BakePlan, agent: str | None) -> list[Difference]:
    tags = ami.tags_of(dict(promoted))
    inputs = recipe.inputs_of(tags.get(TAG_RECIPE, ""))
    changes = plans.differences(inputs, recipe.inputs_of(planned.recipe.summary)) if inputs else [_UNKNOWN_RECIPE]
    baked = _agent_version(tags)
    return [*changes, Difference("agent", baked, agent)] if agent and baked and baked != agent else changes


def _agent_version(tags: Mapping[str, str]) -> str:
    version = tags.get(TAG_AGENT_VERSION, "")
    return "" if version == UNKNOWN_VERSION else version


def _channel_image(image: Mapping[str, Any], channel: str) -> ChannelImage:
    tags = ami.tags_of(dict(image))
    return ChannelImage(
        ami_id=image["ImageId"],
        state=tags.get(runs.TAG_STATE, ""),
        fingerprint=tags.get(TAG_FINGERPRINT, ""),
        baked_at=datetime.fromisoformat(image["CreationDate"]),
        rolled_back=tags.get(f"{TAG_ROLLED_BACK}/{channel}", ""),
        agent_version=_agent_version(tags),
    )
