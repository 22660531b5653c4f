"""An account with channels, and what gpunodes does there from two machines; what is so is read without a call."""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from gpunodes.channel.policy import Policy
from gpunodes.channel.promote import TAG_ROLLED_BACK, promote
from gpunodes.channel.rollback import rollback
from gpunodes.cleanup.reap import Reaped, reap_region
from gpunodes.plan.plan import BakePlan
from gpunodes.prune.prune_run import Prune, prune_region
from gpunodes.recipe import pins
from gpunodes.recipe.recipe import Recipe
from gpunodes.refresh.refresh import Refreshed
from gpunodes.refresh.refresh_run import run_refresh
from gpunodes.settings import Settings
from tests.gpunodes.fakes import RecordingProgress
from tests.gpunodes.lifecycle import moto_in_process
from tests.gpunodes.lifecycle.api_in_process import Api, Call
from tests.gpunodes.lifecycle.work_in_process import Work

CHANNELS = ("canary", "stable")
MACHINES = ("scheduler", "laptop")
SOMEBODY_ELSE = "111122223333"
POLICIES = {
    "canary": Policy(window=None, minimum_gap=timedelta(hours=1), keep_previous=1, unproven_after=timedelta(days=1)),
    "stable": Policy(window=None, promotes_from="canary", soak=timedelta(hours=2), keep_previous=1),
}
_RECIPE = Recipe("ami-0123456789abcdef0", "debian-12", "a" * 64, "b" * 64, "c" * 64, "latest", "", "F" * 40, 8)
_PINS = pins.read()
_LOCK = "/gpunodes/{}/lock"
_POINTER = "/gpunodes/{}/ami-id"


@dataclass
class Account:
    """An account while its life goes on.

    Attributes:
        folder: of the machines' checkouts.
        api: the only way to change it.
        recipe_number: of the recipe that a bake would have now.
        completed: by channel and fingerprint, every image whose bake got to its end, in order.
        on_purpose: images that somebody promoted although something spoke against it.
        failed_once: images that failed a proof, if only once.
        violations: what was done and must not be.
        told: what every operation said.
    """

    folder: Path
    api: Api = field(default_factory=Api)
    recipe_number: int = 0
    completed: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    on_purpose: set[str] = field(default_factory=set)
    failed_once: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.api.watch = self._watch
        self.base = str(self.api.clients.ec2.register_image(Name="base", RootDeviceName="/dev/xvda")["ImageId"])
        self._ec2 = moto_in_process.backend("ec2")
        self._ssm = moto_in_process.backend("ssm")

    def settings(self, channel: str, machine: str) -> Settings:
        return Settings(channel=channel, work_folder=self.folder / machine)

    @property
    def recipe(self) -> Recipe:
        return replace(_RECIPE, source_ami=f"ami-{self.recipe_number:017x}")

    def work(self, channel: str, machine: str, **more: Any) -> Work:
        return Work(self.api, self.settings(channel, machine), POLICIES[channel], self.recipe, self.base, **more)

    def refresh(self, channel: str, machine: str, **more: Any) -> Refreshed:
        work = self.work(channel, machine, **more)
        return run_refresh(
            self.api.clients,
            self.settings(channel, machine),
            self._progress(),
            work=work,
            bake_plan=lambda: _bake_plan(work.recipe, channel),
            clock=self.api.clock,
        )

    def promote(self, channel: str, machine: str, image: str, override: str) -> None:
        if override:
            self.on_purpose.add(image)
        promote(
            self.api.clients.target,
            self.settings(channel, machine),
            POLICIES[channel],
            self._progress(),
            ami_id=image,
            override=override,
            clock=self.api.clock,
        )

    def roll_back(self, channel: str, machine: str) -> str:
        target, clock = self.api.clients.target, self.api.clock
        return rollback(target, self.settings(channel, machine), self._progress(), clock=clock).ami_id

    def prune(self, machine: str) -> Prune:
        target, settings = self.api.clients.target, self.settings("stable", machine)
        clock, wait = self.api.clock, self.api.wait
        return prune_region(target, settings, self._progress(), apply=True, clock=clock, wait=wait)

    def reap(self, machine: str) -> Reaped:
        target, settings = self.api.clients.target, self.settings("stable", machine)
        return reap_region(target, settings, apply=True, now=self.api.now, wait=self.api.wait)

    def make_image(self, state: str) -> str:
        """One that was baked for `canary` long ago."""
        ec2, tags = self.api.clients.ec2, {"channel": "canary", "state": state, "proof-sha256": "0"}
        made = str(ec2.register_image(Name=f"older-{uuid.uuid4()}", RootDeviceName="/dev/xvda")["ImageId"])
        pairs = [{"Key": f"gpunodes:{name}", "Value": value} for name, value in tags.items()]
        self.api.watch = lambda _call: None  # nobody baked it now
        ec2.create_tags(Resources=[made], Tags=pairs)
        self.api.watch = self._watch
        return made

    @contextmanager
    def as_somebody_else(self) -> Iterator[None]:
        """What is called meanwhile is called in another account."""
        self.api.account_id, own = SOMEBODY_ELSE, self.api.account_id
        try:
            yield
        finally:
            self.api.account_id = own

    def state_of(self, ami_id: str) -> str:
        """`available`, `disabled` or `gone`."""
        if ami_id not in self._ec2.amis:
            return "gone"
        return "disabled" if self.api.images._extra(ami_id).is_disabled else "available"

    def tag(self, ami_id: str, name: str) -> str:
        """The value of one of our tags; empty without it."""
        image = self._ec2.amis.get(ami_id)
        tags = {tag["key"]: tag["value"] for tag in image.get_tags()} if image else {}
        return str(tags.get(f"gpunodes:{name}", ""))

    def versions(self, channel: str) -> list[str]:
        """What a channel names and named, oldest first, version by version."""
        return self.values(_POINTER.format(channel))

    def values(self, name: str) -> list[str]:
        """Of a parameter, oldest first."""
        return [str(version.value) for version in self._ssm._parameters.get(name, [])]

    def named(self, channel: str) -> list[str]:
        """The images of a channel, each once, the present one first."""
        return list(dict.fromkeys(reversed(self.versions(channel))))

    def way_back(self, channel: str) -> list[str]:
        """Images that a rollback may lead to, newest first."""
        earlier = self.named(channel)[1:]
        return [image for image in earlier if self.state_of(image) != "gone" and self.tag(image, "state") != "failed"]

    def lock_owner(self, channel: str) -> tuple[str, str]:
        """Run and expiry of the newest write that counts; empty where the lock is free."""
        versions = self._ssm._parameters.get(_LOCK.format(channel), [])
        for version in reversed(versions):
            content = json.loads(version.value)
            if content["after"] == version.version - 1:
                return (content.get("run_id", ""), content.get("expires_at", ""))
        return ("", "")

    def is_locked(self, channel: str) -> bool:
        """Whether nobody else gets the channel now."""
        owner, expires_at = self.lock_owner(channel)
        return bool(owner) and datetime.fromisoformat(expires_at) > self.api.now

    def forget_terminated(self) -> None:
        """As EC2 does within an hour; moto never would."""
        for name, reservation in list(self._ec2.reservations.items()):
            if all(instance._state.name == "terminated" for instance in reservation.instances):
                del self._ec2.reservations[name]

    def orphans(self) -> list[str]:
        """What nobody will ever ask for again: snapshots without an image, images whose bake did not end, instances."""
        used = {image.ebs_snapshot.id for image in self._ec2.amis.values()}
        snapshots = [
            name
            for name, snapshot in self._ec2.snapshots.items()
            if name not in used and (snapshot.description or "").startswith("Created by CreateImage")
        ]
        unsealed = [name for name in self._ec2.amis if name != self.base and not self.tag(name, "state")]
        locked = [channel for channel in CHANNELS if self.lock_owner(channel)[0]]
        instances = [
            instance.id
            for reservation in self._ec2.reservations.values()
            for instance in reservation.instances
            if instance._state.name != "terminated"
            and any(tag["key"] == "gpunodes:run-id" for tag in instance.get_tags())
        ]
        return [*snapshots, *unsealed, *instances, *(f"lock of {channel}" for channel in locked)]

    def created(self, ami_id: str) -> datetime:
        made: datetime = self._ec2.amis[ami_id].creation_date
        return made

    def _progress(self) -> RecordingProgress:
        progress = RecordingProgress()
        self.told, progress.events = self.told, self.told
        return progress

    def _watch(self, call: Call) -> None:
        if call.action == "PutParameter":
            for channel in CHANNELS:
                if call.asked["Name"] == _POINTER.format(channel):
                    self._require_lock(channel, "write its parameter")
                    self._require_usable(channel, call.asked["Value"])
        if call.action == "CreateTags":
            tags = _tags(call)
            if tags.get("gpunodes:state") == "failed":
                self.failed_once.add(call.asked["ResourceId.1"])
            if tags.get("gpunodes:state") == "candidate":
                self._complete(call.asked["ResourceId.1"], tags["gpunodes:channel"], tags["gpunodes:fingerprint"])

    def _complete(self, ami_id: str, channel: str, fingerprint: str) -> None:
        """A bake gets to its end: nobody may have one of the same that waits for its proof or promotion."""
        self._require_lock(channel, "finish a bake")
        promoted = self.named(channel)[:1]
        for other in self.completed[channel, fingerprint]:
            waits = self.state_of(other) == "available" and self.tag(other, "state") in {"candidate", "proven"}
            left = self.tag(other, f"{TAG_ROLLED_BACK.removeprefix('gpunodes:')}/{channel}")
            if waits and not left and self._is_younger(other, promoted):
                self.violations.append(f"{ami_id} was baked although {other} of the same recipe waits")
        self.completed[channel, fingerprint].append(ami_id)

    def _is_younger(self, ami_id: str, promoted: list[str]) -> bool:
        return not promoted or (ami_id not in promoted and self.created(ami_id) > self.created(promoted[0]))

    def _require_lock(self, channel: str, what: str) -> None:
        owner, _ = self.lock_owner(channel)
        if owner not in self.api.runs_of_this_process:
            self.violations.append(f"somebody without the lock of {channel} was about to {what}; {owner} has it")

    def _require_usable(self, channel: str, ami_id: str) -> None:
        state = self.tag(ami_id, "state")
        is_way_back = ami_id in self.named(channel) and state != "failed"
        if state != "proven" and ami_id not in self.on_purpose and not is_way_back:
            self.violations.append(f"{channel} was about to name {ami_id}, which is {state}")


def _tags(call: Call) -> dict[str, str]:
    tags, number = {}, 1
    while f"Tag.{number}.Key" in call.asked:
        tags[call.asked[f"Tag.{number}.Key"]] = call.asked.get(f"Tag.{number}.Value", "")
        number += 1
    return tags


def _bake_plan(recipe: Recipe, channel: str) -> BakePlan:
    return BakePlan(
        channel=channel,
        flavor=recipe.flavor,
        base_ami=recipe.source_ami,
        base_name="base",
        base_creation_date="2026-02-01T00:00:00.000Z",
        pins=_PINS,
        recipe=recipe,
        fingerprint=recipe.fingerprint,
        gpumon_version="0.1.0",
        instance_type="t3.small",
        previous=None,
        differences=None,
        seconds=None,
        usd=None,
        usd_reason="",
        notes=[],
    )
