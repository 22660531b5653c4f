"""An account with two images that are due: one to be disabled, one to be deregistered; and a channel that left them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gpunodes.prune import prune_run
from gpunodes.prune.prune_run import Prune, prune_region
from gpunodes.settings import Settings
from tests.gpunodes.fakes import RecordingProgress
from tests.gpunodes.lifecycle.api_in_process import Api, ClientsInProcess
from tests.gpunodes.prune.failing_calls import FailingCalls

OTHER_ACCOUNT = "111122223333"


class PrunedAccount:
    """What is asked of it and done to it.

    Attributes:
        to_disable: an image that was deprecated long ago.
        to_deregister: one that was disabled long ago.
        due: both.
    """

    def __init__(self, calls: FailingCalls, folder: Path) -> None:
        self._api = api = Api()
        api.now = datetime.now(UTC)  # by which moto dates images
        calls.how = {}
        self.clients, self.calls = api.clients, calls
        self._settings = Settings(work_folder=folder)
        self.ec2, self.ssm = self.clients.ec2, self.clients.ssm
        self.to_disable, self.to_deregister = self.image(state="failed"), self.image(state="failed")
        self.due = (self.to_disable, self.to_deregister)
        for image in self.due:
            self.ec2.enable_image_deprecation(ImageId=image, DeprecateAt=api.now + timedelta(minutes=1))
        self.disable(self.to_deregister)
        api.now += timedelta(days=40)
        for _ in range(2):  # the second one is the way back of the first
            self.parameter("/gpunodes/stable/ami-id", self.image(), DataType="aws:ec2:image")
        calls.seen.clear()

    def image(self, **tags: str) -> str:
        """An image as a bake leaves it."""
        device = {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": self.snapshot()}}
        made = self.ec2.register_image(
            Name=str(uuid.uuid4()), RootDeviceName="/dev/xvda", BlockDeviceMappings=[device]
        )["ImageId"]
        tags = {"channel": "stable", "state": "proven", "proof-sha256": "0", **tags}
        pairs = [{"Key": f"gpunodes:{key}", "Value": value} for key, value in tags.items()]
        self.ec2.create_tags(Resources=[made], Tags=pairs)
        self.ec2.enable_image_deregistration_protection(ImageId=made)
        return str(made)

    def snapshot(self) -> str:
        volume = self.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
        return str(self.ec2.create_snapshot(VolumeId=volume)["SnapshotId"])

    def disable(self, image: str) -> None:
        """As an earlier prune did it."""
        tag = {"Key": "gpunodes:disabled-at", "Value": self._api.now.isoformat(timespec="seconds")}
        self.ec2.create_tags(Resources=[image], Tags=[tag])
        self.ec2.disable_image(ImageId=image)

    def parameter(self, name: str, value: str, **more: Any) -> None:
        self.ssm.put_parameter(Name=name, Value=value, Type="String", Overwrite=True, **more)
        self._api.now += timedelta(seconds=2)  # until a parameter of an image is valid

    def share(self, image: str) -> None:
        self.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": OTHER_ACCOUNT}]})

    def launch_elsewhere(self, image: str) -> None:
        """In the account that it is shared with."""
        self._api.account_id, own = OTHER_ACCOUNT, self._api.account_id
        self.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)
        self._api.account_id = own

    def prune(self, *, apply: bool = True, most: str = "") -> Prune:
        progress = RecordingProgress()
        return prune_region(
            self.clients.target,
            self._settings,
            progress,
            apply=apply,
            most=most,
            clock=self._api.clock,
            wait=lambda _: None,
        )

    def later(self, **time: float) -> None:
        self._api.now += timedelta(**time)

    def states(self, *images: str) -> dict[str, str]:
        """State of each image that there is."""
        found = self.ec2.describe_images(Owners=["self"], IncludeDisabled=True, IncludeDeprecated=True)["Images"]
        return {each["ImageId"]: each["State"] for each in found if not images or each["ImageId"] in images}


@pytest.fixture(scope="module")
def in_process() -> Any:
    """Which calls of the API in this process fail; whatever makes clients gets those of it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
        calls = FailingCalls()
        patched.setattr(ClientsInProcess, "_client", calls.attach(ClientsInProcess._client))
        patched.setattr(prune_run, "Clients", lambda _target: ClientsInProcess.api.clients)
        yield calls
        calls.how = {}


@pytest.fixture
def account(in_process: Any, tmp_path: Path) -> PrunedAccount:
    return PrunedAccount(in_process, tmp_path)
