"""Whatever happens, in whatever order: no image in use goes, and each channel names one that can be launched.

Random sequences of refreshes, proofs, promotions, rollbacks, prunes, reaps, launches, references and days that pass, in
which calls fail, answers are lost, processes are killed between two calls, and one runs from begin to end between two
calls of another. The same ten each time, unless more are asked for. A long campaign, of which nothing else need know:

    GPUNODES_SEQUENCES=2000 nice -n 19 python -m pytest tests/gpunodes/lifecycle/test_lifecycle_model.py

GPUNODES_SHRINK=0 shows the first sequence that fails as it is, without looking for a shorter one. What the model
notices is shown by `python -m benchmarks.lifecycle_mutants`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from tests.gpunodes.lifecycle.account import CHANNELS, MACHINES, SOMEBODY_ELSE, Account
from tests.gpunodes.lifecycle.api_in_process import Process, Trouble

SEQUENCES = int(os.environ.get("GPUNODES_SEQUENCES", "10"))
STEPS = 20
SHRINKS = os.environ.get("GPUNODES_SHRINK", "1") == "1"
_LONGER_THAN_A_LOCK = timedelta(hours=5)
channels, machines = st.sampled_from(CHANNELS), st.sampled_from(MACHINES)
hours = st.sampled_from([0, 0, 0, 1, 5])
verdicts = st.sampled_from([True, True, True, False])
overrides = st.sampled_from(["", "on purpose"])
calls = st.integers(0, 15) | st.integers(0, 45)
OLDER = ("proven", "proven", "proven", "failed", "candidate")
USES = ("runs", "is stopped", "template", "configuration", "text", "parameter", "elsewhere", "kept", "nobody")
Deed = Callable[[Account], object]
Befalls = tuple[Trouble, Deed | None]


@st.composite
def deeds(draw: st.DrawFn) -> Deed:
    """What a scheduler or a person does with gpunodes."""
    machine, channel, kind = draw(machines), draw(channels), draw(st.sampled_from("rrrrpbe"))
    if kind == "p":
        return lambda account: account.prune(machine)
    if kind == "b":
        return lambda account: account.roll_back(channel, machine)
    if kind == "e":
        return lambda account: account.reap(machine)
    has_passed, lasts = draw(verdicts), timedelta(hours=draw(hours))
    return lambda account: account.refresh(channel, machine, has_passed=has_passed, proof_lasts=lasts)


@st.composite
def troubles(draw: st.DrawFn) -> Befalls:
    """What befalls a process, and who else works between two of its calls."""
    kind = draw(st.sampled_from(["none", "none", "fails", "lost", "crash", "meets", "meets"]))
    if kind == "none":
        return Trouble(), None
    number = draw(calls)
    if kind == "crash":
        return Trouble(crash_in=number), None
    if kind == "meets":
        return Trouble(meet_in=number), draw(deeds())
    return Trouble(fail_in=number, was_heard=kind == "lost"), None


_NONE: Befalls = (Trouble(), None)


class Lifecycle(RuleBasedStateMachine):
    """An account, and everybody who works in it."""

    images = Bundle("images")
    instances = Bundle("instances")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.account = Account(Path(self.folder.name))
        self.ec2, self.ssm = self.account.api.clients.ec2, self.account.api.clients.ssm
        self.used_by: dict[str, Callable[[], str]] = {}  # who -> image
        self.seen: set[str] = set()

    def teardown(self) -> None:
        """In the end generations pass: what is in use is there, and what was killed has left nothing that stays."""
        try:
            self.account.api.lacks.add("DescribeImageReferences")  # which would hide what the other sources miss
            for _ in range(4):
                self._let_a_generation_pass()
                self.nothing_was_done_that_must_not_be()
                self.an_image_in_use_is_never_deleted_nor_disabled()
                self.a_channel_names_an_image_that_can_be_launched()
                self.the_way_back_exists()
            self.account.api.now += _LONGER_THAN_A_LOCK
            reaped = self.account.reap("scheduler")
            assert not reaped.failures
            assert not self.account.orphans()
        finally:
            self.folder.cleanup()

    def _let_a_generation_pass(self) -> None:
        """A new image, and six weeks later another one: what nobody uses is deprecated, disabled, gone."""
        self.account.recipe_number += 1
        self.account.api.now += timedelta(days=45)
        refresh, prune = lambda account: account.refresh("canary", "laptop"), lambda account: account.prune("laptop")
        assert [self.do(deed).ended_by for deed in (refresh, prune)] == [None, None]

    def do(self, deed: Deed, trouble: Befalls = _NONE) -> Process:
        """Let a process do it, and another one something else at the same time."""
        befalls, other = trouble
        if other is not None:
            befalls = Trouble(meet_in=befalls.meet_in, meeting=lambda: self.do(other))
        with self.account.api.process(befalls) as process:
            deed(self.account)
        self.account.api.settle()
        self.account.forget_terminated()
        return process

    def new_images(self) -> Any:
        """Those that were baked since somebody asked last."""
        every = [image for images in self.account.completed.values() for image in images]
        new = [image for image in every if image not in self.seen]
        self.seen.update(new)
        return multiple(*new)

    @initialize(
        target=images,
        knows_references=st.booleans(),
        uses=st.lists(st.sampled_from(USES), min_size=len(OLDER), max_size=len(OLDER)),
    )
    def there_are_images(self, knows_references: bool, uses: list[str]) -> Any:
        """Older ones, each used by somebody, and one that the channel names.

        Not everywhere does EC2 itself say who refers to an image; then nothing else may be missed.
        """
        if not knows_references:
            self.account.api.lacks.add("DescribeImageReferences")
        older = [self.account.make_image(state) for state in OLDER]
        for image, use in zip(older, uses, strict=True):
            self._use(image, use)
        self.do(lambda account: account.refresh("canary", "laptop"))
        return multiple(*older, *self.new_images())

    def _use(self, image: str, how: str) -> None:
        uses: dict[str, Callable[[], object]] = {
            "runs": lambda: self.launch(image, is_stopped=False),
            "is stopped": lambda: self.launch(image, is_stopped=True),
            "template": lambda: self.refer_by_template(image, 0),
            "configuration": lambda: self.refer_by_launch_configuration(image, len(self.used_by)),
            "text": lambda: self.refer_by_parameter(image, "text"),
            "parameter": lambda: self.refer_by_parameter(image, "aws:ec2:image"),
            "elsewhere": lambda: self.share_with_somebody_who_uses_it(image, len(self.used_by)),
            "kept": lambda: self.keep(image),
            "nobody": lambda: None,
        }
        uses[how]()

    @rule(
        target=images,
        channel=channels,
        machine=machines,
        lasts=hours,
        has_passed=verdicts,
        trouble=troubles(),
    )
    def refresh(self, channel: str, machine: str, lasts: int, has_passed: bool, trouble: Befalls) -> Any:
        self.do(
            lambda account: account.refresh(
                channel, machine, has_passed=has_passed, proof_lasts=timedelta(hours=lasts)
            ),
            trouble,
        )
        return self.new_images()

    @rule(target=images, trouble=troubles(), machine=machines)
    def the_recipe_changes(self, trouble: Befalls, machine: str) -> Any:
        self.account.recipe_number += 1
        self.account.api.now += timedelta(hours=3)
        self.do(lambda account: account.refresh("canary", machine), trouble)
        return self.new_images()

    @rule(image=images, has_passed=st.booleans())
    def prove(self, image: str, has_passed: bool) -> None:
        """Anybody may prove anything again, what a channel names, too."""
        self.do(lambda account: account.work("canary", "laptop", has_passed=has_passed).prove(image))

    @rule(
        image=images,
        channel=channels,
        machine=machines,
        override=overrides,
        trouble=troubles(),
    )
    def promote(self, image: str, channel: str, machine: str, override: str, trouble: Befalls) -> None:
        before = self.account.named(channel)
        process = self.do(lambda account: account.promote(channel, machine, image, override), trouble)
        was_usable = before and before[0] != image and self.account.tag(before[0], "state") != "failed"
        if process.ended_by is None and was_usable and trouble[1] is None:
            assert self.account.named(channel)[0] == image
            assert before[0] in self.account.way_back(channel)

    @rule(channel=channels, machine=machines, trouble=troubles())
    def roll_back(self, channel: str, machine: str, trouble: Befalls) -> None:
        self.do(lambda account: account.roll_back(channel, machine), trouble)

    @rule(channel=channels)
    def roll_back_at_last(self, channel: str) -> None:
        """Where there is a way back, and no trouble, it leads there, after any crash."""
        self.account.api.now += _LONGER_THAN_A_LOCK
        way_back = self.account.way_back(channel)
        process = self.do(lambda account: account.roll_back(channel, "laptop"))
        if way_back:
            assert process.ended_by is None
            assert self.account.named(channel)[0] == way_back[0]

    @rule(target=images, machine=machines)
    def refresh_at_last(self, machine: str) -> Any:
        """Without trouble the next one gets to its end, whatever the last ones have left."""
        self.account.api.now += _LONGER_THAN_A_LOCK
        process = self.do(lambda account: account.refresh("canary", machine))
        assert process.ended_by is None
        assert self.account.named("canary")
        assert not self.account.is_locked("canary")
        return self.new_images()

    @rule(days=st.sampled_from([45, 8, 0]), rounds=st.integers(1, 3), machine=machines, trouble=troubles())
    def prune(self, days: int, rounds: int, machine: str, trouble: Befalls) -> None:
        """Deprecated, disabled, gone: each takes its time, and a prune of its own."""
        for number in range(rounds):
            self.account.api.now += timedelta(days=days)
            self.do(lambda account: account.prune(machine), trouble if number == rounds - 1 else _NONE)

    @rule(machine=machines, trouble=troubles())
    def reap(self, machine: str, trouble: Befalls) -> None:
        self.do(lambda account: account.reap(machine), trouble)

    @rule(channel=channels, is_urgent=st.booleans())
    def an_advisory_comes_or_goes(self, channel: str, is_urgent: bool) -> None:
        name = f"/gpunodes/{channel}/urgent"
        if is_urgent:
            self.ssm.put_parameter(Name=name, Value="CVE", Type="String", Overwrite=True)
        elif self.account.values(name):
            self.ssm.delete_parameter(Name=name)

    @rule(target=instances, image=images, is_stopped=st.booleans())
    def launch(self, image: str, is_stopped: bool) -> Any:
        if self.account.state_of(image) != "available":
            return multiple()
        launched = self.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]
        self.used_by[launched["InstanceId"]] = lambda: image
        if is_stopped:
            self.ec2.stop_instances(InstanceIds=[launched["InstanceId"]])
        return launched["InstanceId"]

    @rule(instance=consumes(instances))
    def terminate(self, instance: str) -> None:
        self.ec2.terminate_instances(InstanceIds=[instance])
        del self.used_by[instance]

    @rule(image=images, number=st.integers(0, 2))
    def refer_by_template(self, image: str, number: int) -> None:
        if self.account.state_of(image) == "available":
            self._new_version(f"template-{number}", image, lambda: image)

    @rule(channel=channels, is_pinned=st.booleans())
    def refer_by_alias(self, channel: str, is_pinned: bool) -> None:
        """A template that follows a channel, or is pinned to what that names now."""
        if versions := self.account.versions(channel):
            name = f"/gpunodes/{channel}/ami-id"
            if not is_pinned:
                self._new_version("follows", f"resolve:ssm:{name}", lambda: self.account.versions(channel)[-1])
            else:
                self._new_version("pinned", f"resolve:ssm:{name}:{len(versions)}", lambda: versions[-1])

    def _new_version(self, name: str, image_id: str, leads_to: Callable[[], str]) -> None:
        data = {"ImageId": image_id, "InstanceType": "t3.small"}
        if any(who.startswith(f"{name} ") for who in self.used_by):
            made = self.ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData=data)
            version = made["LaunchTemplateVersion"]["VersionNumber"]
        else:
            self.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
            version = 1
        self.used_by[f"{name} {version}"] = leads_to

    @rule(image=images, number=st.integers(0, 99))
    def refer_by_launch_configuration(self, image: str, number: int) -> None:
        name = f"configuration-{number}"
        if self.account.state_of(image) == "available" and name not in self.used_by:
            scaling = self.account.api.clients.client("autoscaling")
            scaling.create_launch_configuration(LaunchConfigurationName=name, ImageId=image, InstanceType="t3.small")
            self.used_by[name] = lambda: image

    @rule(image=images, kind=st.sampled_from(["text", "aws:ec2:image"]))
    def refer_by_parameter(self, image: str, kind: str) -> None:
        """Whoever is pinned to a version of an image's parameter launches what stood there then."""
        if self.account.state_of(image) == "available":
            name = f"/team/{kind.partition(':')[0]}"
            self.ssm.put_parameter(Name=name, Value=image, Type="String", DataType=kind, Overwrite=True)
            self.account.api.settle()
            version = "" if kind == "text" else f":{len(self.account.values(name))}"
            self.used_by[f"{name}{version}"] = lambda: image

    @rule(image=images)
    def share(self, image: str) -> None:
        if self.account.state_of(image) == "available":
            self.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": SOMEBODY_ELSE}]})

    @rule(image=images, number=st.integers(0, 99))
    def share_with_somebody_who_uses_it(self, image: str, number: int) -> None:
        name = f"theirs-{number}"
        if self.account.state_of(image) == "available" and name not in self.used_by:
            self.share(image)
            with self.account.as_somebody_else():
                data = {"ImageId": image, "InstanceType": "t3.small"}
                self.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
            self.used_by[name] = lambda: image

    @rule(image=images)
    def keep(self, image: str) -> None:
        if self.account.state_of(image) == "available":
            self.ec2.create_tags(Resources=[image], Tags=[{"Key": "gpunodes:keep", "Value": "a customer's"}])
            self.used_by[f"whoever keeps {image}"] = lambda: image

    @invariant()
    def nothing_was_done_that_must_not_be(self) -> None:
        assert not self.account.violations

    @invariant()
    def an_image_in_use_is_never_deleted_nor_disabled(self) -> None:
        states = {who: self.account.state_of(image()) for who, image in self.used_by.items()}
        assert set(states.values()) <= {"available"}, states

    @invariant()
    def a_channel_names_an_image_that_can_be_launched(self) -> None:
        for channel in CHANNELS:
            for image in self.account.named(channel)[:1]:
                assert self.account.state_of(image) == "available"

    @invariant()
    def the_way_back_exists(self) -> None:
        for channel in CHANNELS:
            for image in self.account.named(channel)[1:2]:
                assert self.account.state_of(image) != "gone" or self.was_failed(image)

    def was_failed(self, image: str) -> bool:
        return image in self.account.failed_once


Lifecycle.TestCase.settings = settings(
    max_examples=SEQUENCES,
    derandomize="GPUNODES_SEQUENCES" not in os.environ,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[phase for phase in Phase if SHRINKS or phase not in {Phase.shrink, Phase.explain}],
)


TestLifecycle = Lifecycle.TestCase  # Hypothesis makes the sequences
