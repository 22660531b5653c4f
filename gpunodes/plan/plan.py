"""`plan`: what a bake would do, without doing it: base, pins, fingerprint, what is new, what it takes and costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from gpunodes.aws import Clients, aws_errors
from gpunodes.operation import durations, runs
from gpunodes.operation.durations import Durations
from gpunodes.plan import cost
from gpunodes.plan.cost import HourlyPrice
from gpunodes.recipe import ami, base, flavors, pins, recipe, wheelhouse
from gpunodes.recipe.pins import Pins
from gpunodes.recipe.recipe import Recipe
from gpunodes.settings import Settings
from gpunodes.target import Target

COMMAND = "build-ami"
TAG_RECIPE = "gpunodes:recipe"
TAG_CHANNEL = "gpunodes:channel"
_PROMOTED = "promoted"


@dataclass(frozen=True)
class Difference:
    """One input of a recipe that differs."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Previous:
    """The image that a new one would be compared with.

    Attributes:
        ami_id: the AMI.
        name: of it.
        state: `promoted`, or another where none was promoted yet.
        creation_date: ISO 8601.
    """

    ami_id: str
    name: str
    state: str
    creation_date: str


@dataclass(frozen=True)
class BakePlan:
    """What a bake would do.

    Attributes:
        channel: what it would be baked for.
        flavor: kind of base image.
        base_ami: id of the base image.
        base_name: its name.
        base_creation_date: ISO 8601.
        pins: of the CloudWatch agent.
        recipe: every input.
        fingerprint: of the recipe.
        gpumon_version: that the image would have.
        instance_type: that would bake.
        previous: newest promoted image of the channel, else its newest image; None where there is none.
        differences: between its recipe and this one; None where its recipe is not known.
        seconds: usual duration from earlier bakes; None before the first.
        usd: cost of the instance for that long; None where duration or price are not known.
        usd_reason: where the price comes from, or why there is none.
        notes: what to know of the base image.
    """

    channel: str
    flavor: str
    base_ami: str
    base_name: str
    base_creation_date: str
    pins: Pins
    recipe: Recipe
    fingerprint: str
    gpumon_version: str
    instance_type: str
    previous: Previous | None
    differences: list[Difference] | None
    seconds: float | None
    usd: float | None
    usd_reason: str
    notes: list[str]


def plan(target: Target, settings: Settings, say: Callable[[str], None], source_ami: str | None = None) -> BakePlan:
    """Work out what a bake would do; nothing is made but the wheelhouse in this machine's cache.

    Args:
        target: where.
        settings: flavor, channel, instance type.
        say: told what a person must know.
        source_ami: base image instead of the flavor's newest.

    Raises:
        GpunodesError: as a bake would.
    """
    clients = Clients(target)
    flavor = flavors.load(target.flavor)
    pinned = pins.of_target(target, pins.read())
    found = base.resolve(clients, target, flavor, source_ami, datetime.now(UTC))
    size = base.root_volume_size_gib(found, flavor, settings.root_volume_size_gib)
    wheels = wheelhouse.ensure(settings.cache_folder)
    wanted = recipe.read(found.image_id, flavor.name, pinned, wheels, size)
    previous, inputs = newest_of_channel(clients, settings.channel)
    seconds = usual_seconds(settings, target, say)
    price = cost.hourly_price(clients, settings.build_instance_type, spot=settings.spot)
    return BakePlan(
        channel=settings.channel,
        flavor=flavor.name,
        base_ami=found.image_id,
        base_name=found.name,
        base_creation_date=found.creation_date,
        pins=pinned,
        recipe=wanted,
        fingerprint=wanted.fingerprint,
        gpumon_version=wheels.gpumon_version,
        instance_type=settings.build_instance_type,
        previous=previous,
        differences=differences(inputs, recipe.inputs_of(wanted.summary)) if inputs else None,
        seconds=seconds,
        usd=None if seconds is None else price.of(seconds),
        usd_reason=_reason(seconds, price),
        notes=found.notes,
    )


def usual_seconds(settings: Settings, target: Target, say: Callable[[str], None]) -> float | None:
    """How long a bake usually takes there; None before the first."""
    known = Durations(settings.cache_folder / durations.FILE, say).typical(target.name, COMMAND)
    steps = [seconds for name, seconds in known.items() if durations.phase_key("", "") not in name]
    return sum(steps) if steps else None


def newest_of_channel(clients: Clients, channel: str) -> tuple[Previous | None, dict[str, str]]:
    """The newest promoted image of a channel, else its newest image of any state, and the inputs of its recipe.

    Raises:
        AwsError: EC2 refused (DescribeImages).
    """
    wanted = [{"Name": f"tag:{TAG_CHANNEL}", "Values": [channel]}, {"Name": "tag-key", "Values": [runs.TAG_STATE]}]
    with aws_errors("looking for the channel's images"):
        pages = clients.ec2.get_paginator("describe_images").paginate(Owners=["self"], Filters=wanted)
        images = [image for page in pages for image in page["Images"]]
    if not images:
        return None, {}
    newest = max(images, key=lambda image: (_state(image) == _PROMOTED, str(image["CreationDate"])))
    inputs = recipe.inputs_of(ami.tags_of(newest).get(TAG_RECIPE, ""))
    return Previous(newest["ImageId"], newest.get("Name", ""), _state(newest), newest["CreationDate"]), inputs


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[Difference]:
    """Every input of two recipes that is not the same."""
    names = dict.fromkeys([*after, *before])
    return [
        Difference(name, before.get(name, ""), after.get(name, ""))
        for name in names
        if before.get(name, "") != after.get(name, "")
    ]


def _state(image: dict[str, object]) -> str:
    return ami.tags_of(image).get(runs.TAG_STATE, "")


def _reason(seconds: float | None, price: HourlyPrice) -> str:
    return "no bake was timed here yet" if seconds is None and price.usd is not None else price.reason
