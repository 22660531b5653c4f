"""`rollback`: a channel names the image again that it named before, and the parameter proves it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.channel.elsewhere import Elsewhere
from gpunodes.channel.parameter import ChannelParameter, Pointer
from gpunodes.channel.policy import Policy
from gpunodes.channel.promote import TAG_ROLLED_BACK, channel_lock
from gpunodes.channel.revive import revive
from gpunodes.errors import AwsError, PreflightError, UsageError
from gpunodes.operation import runs
from gpunodes.operation.runs import TAG_STATE, Run, utc_now
from gpunodes.operation.steps import Progress, Step, Timing, run_steps
from gpunodes.recipe import ami
from gpunodes.recipe.ami import STATE_FAILED
from gpunodes.settings import Settings
from gpunodes.target import Target

_DISABLED = "disabled"
_AVAILABLE = "available"


@dataclass(frozen=True)
class Rollback:
    """What `rollback` did.

    Attributes:
        channel: that names the image again.
        ami_id: the image.
        version: of the channel's parameter, a new one: history only grows.
        left_ami: what it named until now.
        was_enabled: whether the image had been disabled, and was enabled for this.
        reason: that a person gave; empty without one.
        regions: beside the home region -> the copy of the image that the channel names there again.
        run_id: of the rollback.
        timings: seconds per step.
    """

    channel: str
    ami_id: str
    version: int
    left_ami: str
    was_enabled: bool
    reason: str
    regions: dict[str, str]
    run_id: str
    timings: list[Timing]


@dataclass
class _Work:
    """A rollback while it runs."""

    settings: Settings
    run: Run
    clients: Clients
    progress: Progress
    asked_ami: str | None
    reason: str
    clock: Callable[[], datetime]
    elsewhere: Elsewhere
    left: Pointer | None = None
    image: dict[str, Any] | None = None
    after: Pointer | None = None
    was_enabled: bool = False

    @property
    def parameter(self) -> ChannelParameter:
        return ChannelParameter(self.clients, self.settings.channel, self.elsewhere.wait)

    def choose(self) -> None:
        """The newest other image in the history that can be launched, or enabled again, and has not failed since."""
        channel, history = self.settings.channel, self.parameter.history()
        if not history:
            raise UsageError(f"Channel `{channel}` names no image yet, so there is no way back.")
        self.left = history[0]
        wanted = _earlier(history, self.asked_ami, channel)
        images = images_by_id(self.clients, wanted)
        failed = {ami_id for ami_id, image in images.items() if ami.tags_of(image).get(TAG_STATE) == STATE_FAILED}
        self.image = next((images[ami_id] for ami_id in wanted if ami_id in images and ami_id not in failed), None)
        if self.image is None:
            fate = "has not failed a later proof" if failed else "exists any more"
            raise PreflightError(
                f"None of the images that channel `{channel}` named before {fate} ({', '.join(wanted[:3])});"
                " promote another one with `invoke promote --ami`."
            )

    def revive(self) -> None:
        """Enable it, where it had been retired that far, and let it be no longer deprecated."""
        self.was_enabled = revive(self.clients, self.image) if self.image else False

    def prepare(self) -> None:
        """Its copies; where the policy got a region since, one is made now."""
        if self.image:
            found = images_by_id(self.clients, [self.image["ImageId"]])  # it may have been enabled just now
            self.elsewhere.prepare(found[self.image["ImageId"]])

    def write(self) -> None:
        """The mark first: a refresh must not promote again what is left now."""
        if self.image is None or self.left is None:
            raise UsageError("A rollback was written before an image was chosen; run the steps in their order.")
        said = f"{self.clock().isoformat(timespec='seconds')} {self.run.run_id} {self.reason}".strip()
        mark = {"Key": f"{TAG_ROLLED_BACK}/{self.settings.channel}", "Value": ami.tag_value(said)}
        if self.left.ami_id in images_by_id(self.clients, [self.left.ami_id]):
            with aws_errors(f"marking {self.left.ami_id} as rolled back"):
                self.clients.ec2.create_tags(Resources=[self.left.ami_id], Tags=[mark])
        ami_id = str(self.image["ImageId"])
        with self.elsewhere.named(lambda: self._names(ami_id)):
            self.after = self.parameter.write(ami_id)

    def _names(self, ami_id: str) -> bool:
        pointer = self.parameter.read()
        return pointer is not None and pointer.ami_id == ami_id


def rollback(
    target: Target,
    settings: Settings,
    progress: Progress,
    *,
    ami_id: str | None = None,
    reason: str = "",
    clock: Callable[[], datetime] = utc_now,
    policy: Policy | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Rollback:
    """Let the settings' channel name an earlier image again, and its copies in the policy's regions.

    Args:
        target: where.
        settings: channel and folders.
        progress: told about each step.
        ami_id: which of the earlier ones; without it the one before.
        reason: kept on the image that is left.
        clock: UTC.
        policy: of the channel: its regions and shares; None for none.
        wait: sleeps for so many seconds.

    Raises:
        UsageError: the channel named no other image, or never that one.
        PreflightError: none of the earlier ones exists any more; or the channel is locked.
        AwsError: AWS refused, or did not take the image: then the channel names what it named before.
    """
    run = runs.start(settings, target.destination, clock())
    clients = Clients(target)
    elsewhere = Elsewhere(clients, settings.channel, policy or Policy(), progress, wait)
    work = _Work(settings, run, clients, progress, ami_id, reason, clock, elsewhere)
    lock = channel_lock(work.clients, settings, run, progress, clock)
    steps = [
        Step(f"lock channel {settings.channel}", lock.acquire, lock.release),
        Step("find the image before", work.choose),
        Step("enable it again", work.revive),
        *elsewhere.steps(work.prepare),
        Step("write the parameter and read it back", work.write),
    ]
    with runs.going_on(run):
        timings = run_steps(steps, progress)
    if work.after is None or work.left is None:
        raise AwsError("The rollback ended without a new version of the parameter; repeat it.")
    done = Rollback(
        channel=settings.channel,
        ami_id=work.after.ami_id,
        version=work.after.version,
        left_ami=work.left.ami_id,
        was_enabled=work.was_enabled,
        reason=reason,
        regions=dict(elsewhere.copy_ids),
        run_id=run.run_id,
        timings=timings,
    )
    run.write_json(
        "rollback.json", {"schema": "gpunodes-rollback/1", **{k: v for k, v in vars(done).items() if k != "timings"}}
    )
    return done


def images_by_id(clients: Clients, ami_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Own images that can be launched, or could be once they are enabled (DescribeImages with disabled ones).

    Raises:
        AwsError: EC2 refused.
    """
    if not ami_ids:
        return {}
    wanted = [{"Name": "image-id", "Values": list(ami_ids)}]
    with aws_errors("looking for the images that the channel named before"):
        pages = clients.ec2.get_paginator("describe_images").paginate(
            Owners=["self"], Filters=wanted, IncludeDeprecated=True, IncludeDisabled=True
        )
        found = [image for page in pages for image in page["Images"]]
    return {image["ImageId"]: image for image in found if image["State"] in {_AVAILABLE, _DISABLED}}


def _earlier(history: Sequence[Pointer], asked: str | None, channel: str) -> list[str]:
    """Images that the channel named before its present one, newest first."""
    earlier = list(dict.fromkeys(pointer.ami_id for pointer in history if pointer.ami_id != history[0].ami_id))
    if asked is None:
        if not earlier:
            raise UsageError(f"Channel `{channel}` never named another image, so there is no way back.")
        return earlier
    if asked == history[0].ami_id:
        raise UsageError(f"Channel `{channel}` names {asked} already; name an earlier image, or none.")
    if asked not in earlier:
        raise UsageError(f"Channel `{channel}` never named {asked}; it named {', '.join(earlier[:3]) or 'no other'}.")
    return [asked]
