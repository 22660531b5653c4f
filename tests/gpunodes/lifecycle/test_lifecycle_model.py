"""Whatever happens, in whatever order: no image in use goes, and each channel names one that can be launched.

Random sequences of bakes, proofs, promotions, rollbacks, prunes, launches and references, in which calls fail and the
process is killed between two calls. More of them: GPUNODES_SEQUENCES=2000.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from gpunodes.channel import promote as promote_module
from gpunodes.channel import rollback as rollback_module
from gpunodes.channel.channel_lock import ChannelLock, LockOwner
from gpunodes.channel.parameter import ChannelParameter
from gpunodes.channel.policy import Policy
from gpunodes.channel.promote import promote
from gpunodes.channel.rollback import rollback
from gpunodes.operation import runs
from gpunodes.prune import prune_run
from gpunodes.prune.prune_run import prune_region
from gpunodes.settings import Settings
from tests.gpunodes.fakes import RecordingProgress
from tests.gpunodes.lifecycle.api_in_process import Api

SEQUENCES = int(os.environ.get("GPUNODES_SEQUENCES", "25"))
CHANNELS = ("canary", "stable")
channels = st.sampled_from(CHANNELS)
troubles = st.none() | st.integers(0, 25)


class Lifecycle(RuleBasedStateMachine):
    """An account, and everybody who works in it."""

    images = Bundle("images")
    instances = Bundle("instances")

    def __init__(self) -> None:
        super().__init__()
        self.api = Api()
        self.clients = self.api.clients()
        self.ec2, self.ssm = self.clients.ec2, self.clients.ssm
        self.folder = tempfile.TemporaryDirectory()
        self.used_by: dict[str, str] = {}  # who -> image
        self.promoted_on_purpose: set[str] = set()

    def teardown(self) -> None:
        self.folder.cleanup()

    @contextmanager
    def trouble(self, fail: int | None, crash: int | None) -> Iterator[None]:
        """What is done here is done through this account's API, which may fail or kill it."""
        with self.api.trouble(fail, crash), ExitStack() as patches:
            for module in (promote_module, rollback_module, prune_run):
                patches.enter_context(patch.object(module, "Clients", lambda _target: self.clients))
            yield

    def settings_of(self, channel: str) -> Settings:
        return Settings(channel=channel, work_folder=Path(self.folder.name))

    def state_of(self, ami_id: str) -> str:
        found = self.ec2.describe_images(
            Owners=["self"], Filters=[{"Name": "image-id", "Values": [ami_id]}], IncludeDisabled=True
        )["Images"]
        return str(found[0]["State"]) if found else "gone"

    def named(self, channel: str) -> list[str]:
        history = [pointer.ami_id for pointer in ChannelParameter(self.clients, channel).history()]
        return list(dict.fromkeys(history))

    @rule(target=images, channel=channels, is_proven=st.booleans())
    def bake(self, channel: str, is_proven: bool) -> str:
        made = self.ec2.register_image(Name=str(uuid.uuid4()), RootDeviceName="/dev/xvda")["ImageId"]
        tags = {"channel": channel, "state": "proven" if is_proven else "candidate", "proof-sha256": "0"}
        pairs = [{"Key": f"gpunodes:{key}", "Value": value} for key, value in tags.items()]
        self.ec2.create_tags(Resources=[made], Tags=pairs)
        self.ec2.enable_image_deregistration_protection(ImageId=made)
        return str(made)

    @rule(image=images, has_passed=st.booleans())
    def prove(self, image: str, has_passed: bool) -> None:
        if self.state_of(image) == "available" and not any(image in self.named(channel) for channel in CHANNELS):
            state = {"Key": "gpunodes:state", "Value": "proven" if has_passed else "failed"}
            self.ec2.create_tags(Resources=[image], Tags=[state])

    @rule(image=images, channel=channels, override=st.sampled_from(["", "on purpose"]), fail=troubles, crash=troubles)
    def promote(self, image: str, channel: str, override: str, fail: int | None, crash: int | None) -> None:
        if override:
            self.promoted_on_purpose.add(image)
        with self.trouble(fail, crash):
            promote(
                self.clients.target,
                self.settings_of(channel),
                Policy(),
                RecordingProgress(),
                ami_id=image,
                override=override,
            )

    @rule(channel=channels, fail=troubles, crash=troubles)
    def roll_back(self, channel: str, fail: int | None, crash: int | None) -> None:
        with self.trouble(fail, crash):
            rollback(self.clients.target, self.settings_of(channel), RecordingProgress(), reason="a test")

    @rule(days=st.integers(0, 40), fail=troubles, crash=troubles)
    def prune(self, days: int, fail: int | None, crash: int | None) -> None:
        self.api.clock.now += timedelta(days=days)
        with self.trouble(fail, crash):
            prune_region(
                self.clients.target, self.settings_of("stable"), RecordingProgress(), apply=True, clock=self.api.clock
            )

    @rule(target=instances, image=images)
    def launch(self, image: str) -> Any:
        if self.state_of(image) != "available":
            return multiple()
        launched = self.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]
        self.used_by[launched["InstanceId"]] = image
        return launched["InstanceId"]

    @rule(instance=consumes(instances))
    def terminate(self, instance: str) -> None:
        self.ec2.terminate_instances(InstanceIds=[instance])
        del self.used_by[instance]

    @rule(instance=instances)
    def stop(self, instance: str) -> None:
        self.ec2.stop_instances(InstanceIds=[instance])

    @rule(image=images, number=st.integers(0, 2))
    def refer_by_template(self, image: str, number: int) -> None:
        if self.state_of(image) == "available":
            name = f"template-{number}"
            data = {"ImageId": image, "InstanceType": "t3.small"}
            there = self.ec2.describe_launch_templates(Filters=[{"Name": "launch-template-name", "Values": [name]}])
            if there["LaunchTemplates"]:
                made = self.ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData=data)
                version = made["LaunchTemplateVersion"]["VersionNumber"]
            else:
                self.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
                version = 1
            self.used_by[f"{name} {version}"] = image

    @rule(image=images, number=st.integers(0, 2))
    def refer_by_parameter(self, image: str, number: int) -> None:
        if self.state_of(image) == "available":
            name = f"/team/{number}"
            self.ssm.put_parameter(Name=name, Value=f"ami={image}", Type="String", Overwrite=True)
            self.used_by[name] = image

    @rule(image=images)
    def share(self, image: str) -> None:
        if self.state_of(image) == "available":
            self.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": "111122223333"}]})

    @invariant()
    def an_image_in_use_is_never_deleted_nor_disabled(self) -> None:
        assert {who: self.state_of(image) for who, image in self.used_by.items()} == dict.fromkeys(
            self.used_by, "available"
        )

    @invariant()
    def a_channel_names_an_image_that_can_be_launched_and_was_proven(self) -> None:
        for channel in CHANNELS:
            for image in self.named(channel)[:1]:
                [found] = self.ec2.describe_images(Owners=["self"], Filters=[{"Name": "image-id", "Values": [image]}])[
                    "Images"
                ]
                tags = {tag["Key"]: tag["Value"] for tag in found["Tags"]}
                assert tags["gpunodes:state"] == "proven" or image in self.promoted_on_purpose

    @invariant()
    def the_way_back_exists(self) -> None:
        for channel in CHANNELS:
            for image in self.named(channel)[1:2]:
                assert self.state_of(image) != "gone"

    @invariant()
    def nobody_is_locked_out_for_good(self) -> None:
        for channel in CHANNELS:
            owner = LockOwner(f"20260101-000000-{uuid.uuid4().hex[:4]}", "who", "host")
            state = ChannelLock(self.clients, channel, owner, self.api.clock(), lambda _: None).read()
            if state.owner:  # of a process that was killed: the next one takes it over
                assert runs.is_over(self.settings_of(channel), state.owner.run_id)


@pytest.fixture(autouse=True)
def _no_images_of_motos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")


Lifecycle.TestCase.settings = settings(
    max_examples=SEQUENCES,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


TestLifecycle = Lifecycle.TestCase  # Hypothesis makes the sequences
