"""`promote`: a channel names an image from now on, and the one that it named before is kept for the way back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.channel import promotable
from gpunodes.channel.channel_lock import ChannelLock, LockOwner
from gpunodes.channel.elsewhere import LABEL_PREVIOUS, Elsewhere
from gpunodes.channel.parameter import ChannelParameter, Pointer
from gpunodes.channel.policy import Policy
from gpunodes.channel.promotable import Promotable
from gpunodes.channel.revive import revive
from gpunodes.errors import GpunodesError
from gpunodes.operation import runs
from gpunodes.operation.runs import Run, utc_now
from gpunodes.operation.steps import Progress, Step, Timing, run_steps
from gpunodes.recipe import ami
from gpunodes.settings import Settings
from gpunodes.target import Target

TAG_PROMOTED_AT = "gpunodes:promoted-at"  # and a slash and the channel
TAG_ROLLED_BACK = "gpunodes:rolled-back"  # the same, on an image that the channel left for an earlier one
TAG_OVERRIDE = "gpunodes:promotion-override"  # the same


@dataclass(frozen=True)
class Promotion:
    """What `promote` did.

    Attributes:
        channel: that names the image now.
        ami_id: the image.
        version: of the channel's parameter.
        previous_ami: what it named before; empty for the first one.
        was_promoted: whether something changed: false where it named the image already, in every region.
        objections: what spoke against it.
        override: why it was promoted all the same; empty where nothing spoke against it.
        regions: beside the home region -> the copy that it names there.
        shared_with: who else may launch it: accounts, organisations, organisational units.
        run_id: of the promotion.
        timings: seconds per step.
    """

    channel: str
    ami_id: str
    version: int
    previous_ami: str
    was_promoted: bool
    objections: list[str]
    override: str
    regions: dict[str, str]
    shared_with: list[str]
    run_id: str
    timings: list[Timing]


@dataclass
class _Work:
    """A promotion while it runs."""

    target: Target
    settings: Settings
    policy: Policy
    run: Run
    clients: Clients
    progress: Progress
    asked_ami: str | None
    override: str
    clock: Callable[[], datetime]
    elsewhere: Elsewhere
    chosen: Promotable | None = None
    before: Pointer | None = None
    after: Pointer | None = None
    timings: list[Timing] = field(default_factory=list)

    @property
    def channel(self) -> str:
        return self.settings.channel

    @property
    def parameter(self) -> ChannelParameter:
        return ChannelParameter(self.clients, self.channel, self.elsewhere.wait)

    def choose(self) -> None:
        self.chosen = promotable.find(
            self.clients,
            self.channel,
            self.asked_ami,
            source_channel=self.policy.promotes_from,
            soak=self.policy.soak,
            now=self.clock(),
        )
        self.chosen.require(self.override)

    def prepare(self) -> None:
        self.elsewhere.prepare(_given(self.chosen).image)

    def write(self) -> None:
        """The tag first: an image that a channel names says so itself, whatever happens next."""
        chosen = _given(self.chosen)
        self.before = self.parameter.read()
        with self.elsewhere.named(lambda: self._names(chosen.ami_id)):
            if self.before and self.before.ami_id == chosen.ami_id:
                self.after = self.before
                return
            self._tag(chosen)
            revive(self.clients, chosen.image)
            self.after = self.parameter.write(chosen.ami_id)
        if self.before:
            self.parameter.label(self.before, LABEL_PREVIOUS)

    def _names(self, ami_id: str) -> bool:
        pointer = self.parameter.read()
        return pointer is not None and pointer.ami_id == ami_id

    def _tag(self, chosen: Promotable) -> None:
        tags = {f"{TAG_PROMOTED_AT}/{self.channel}": self.clock().isoformat(timespec="seconds")}
        if chosen.objections:
            said = f"{self.run.run_id}: {self.override}"
            tags[f"{TAG_OVERRIDE}/{self.channel}"] = ami.tag_value(said)
        resources = [chosen.ami_id, *ami.snapshots_of(chosen.image)]
        pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
        with aws_errors(f"tagging {chosen.ami_id} as promoted"):
            self.clients.ec2.create_tags(Resources=resources, Tags=pairs)
            # Whoever promotes it again has thought of why it was left.
            mark = {"Key": f"{TAG_ROLLED_BACK}/{self.channel}"}
            self.clients.ec2.delete_tags(Resources=[chosen.ami_id], Tags=[mark])

    def record(self) -> None:
        """Into the run's folder; what AWS itself keeps is the tag and the parameter's history."""
        self.run.write_json("promotion.json", self.document())

    def document(self) -> dict[str, Any]:
        chosen, after = _given(self.chosen), _given(self.after)
        return {
            "schema": "gpunodes-promotion/1",
            "channel": self.channel,
            "ami_id": after.ami_id,
            "version": after.version,
            "previous_ami": self.before.ami_id if self.before and self.before != after else "",
            "was_promoted": self.before != after or bool(self.elsewhere.written),
            "objections": chosen.objections,
            "override": self.override if chosen.objections else "",
            "regions": dict(self.elsewhere.copy_ids),
            "shared_with": [share.value for share in self.policy.share_with],
            "run_id": self.run.run_id,
        }


def promote(
    target: Target,
    settings: Settings,
    policy: Policy,
    progress: Progress,
    *,
    ami_id: str | None = None,
    override: str = "",
    held_lock: ChannelLock | None = None,
    clock: Callable[[], datetime] = utc_now,
    wait: Callable[[float], None] = time.sleep,
) -> Promotion:
    """Let the settings' channel name an image, and its copies in the policy's regions; again, it changes nothing.

    Args:
        target: where.
        settings: channel and folders.
        policy: of the channel: where its images come from, how long they soak there, and where they go.
        progress: told about each step.
        ami_id: the image; without one what the source channel names, or the newest proven image of the channel.
        override: why an image may be used that is not proven, or did not soak; recorded.
        held_lock: of the channel, where the caller holds it already.
        clock: UTC.
        wait: sleeps for so many seconds.

    Raises:
        UsageError: there is no such image, or it can be none of a channel's; a region or a share is wrong.
        PreflightError: something speaks against it; or the channel is locked; or a region is switched off.
        AwsError: AWS refused, or did not take the image: then the channel names what it named before.
    """
    run = runs.start(settings, target.destination, clock())
    clients = Clients(target)
    elsewhere = Elsewhere(clients, settings.channel, policy, progress, wait)
    work = _Work(target, settings, policy, run, clients, progress, ami_id, override, clock, elsewhere)
    lock = channel_lock(work.clients, settings, run, progress, clock)
    locked = [] if held_lock else [Step(f"lock channel {settings.channel}", lock.acquire, lock.release)]
    steps = [
        *locked,
        Step("check the image", work.choose),
        *elsewhere.steps(work.prepare),
        Step("write the parameter and read it back", work.write),
        Step("record it", work.record),
    ]
    with runs.going_on(run):
        timings = run_steps(steps, progress, timings=work.timings)
    found = work.document()
    return Promotion(**{name: found[name] for name in found if name != "schema"}, timings=timings)


def channel_lock(
    clients: Clients,
    settings: Settings,
    run: Run,
    progress: Progress,
    clock: Callable[[], datetime] = utc_now,
) -> ChannelLock:
    """The lock of the settings' channel, for a run."""
    has_ended = partial(runs.is_over, settings)
    owner = LockOwner.of(run)
    return ChannelLock(clients, settings.channel, owner, runs.expires_at(run), progress.say, has_ended, clock)


def _given(value: Any) -> Any:
    if value is None:
        raise GpunodesError("A step of the promotion was run before the one that it needs.")
    return value
