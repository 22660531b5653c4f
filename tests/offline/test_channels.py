"""A channel for real: a launch by its parameter boots the promoted image, and after a rollback the one before."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from gpunodes.aws import Clients
from gpunodes.channel.channel_lock import ChannelLock, LockOwner
from gpunodes.channel.policy import POLICY_FILE
from tests.offline.api_proxy import Refusal, before_the_api
from tests.offline.conftest import Cloud, parse, run_invoke, target

RETIRE_AT_ONCE = "[stable]\nunproven_after_days = 0.000001\n"
PARAMETER = "resolve:ssm:/gpunodes/stable/ami-id"


def make_image(cloud: Cloud, content: str) -> str:
    """An image with a file of this content, tagged as a bake and a proof leave it."""
    instance = cloud.launch()
    cloud.connect(instance).run(f"echo {content} | sudo tee /etc/content && sync")
    made = cloud.ec2.create_image(InstanceId=instance["InstanceId"], Name=content)
    tags = {"state": "proven", "channel": "stable", "proof-sha256": "0" * 64}
    pairs = [{"Key": f"gpunodes:{key}", "Value": value} for key, value in tags.items()]
    cloud.ec2.create_tags(Resources=[made["ImageId"]], Tags=pairs)
    return str(made["ImageId"])


def done(*arguments: str) -> dict[str, Any]:
    result = run_invoke(*arguments, "--offline", "--json")
    assert result.returncode == 0, result.stderr
    return parse(result.stdout)


def error_of(result: subprocess.CompletedProcess[str], exit_code: int) -> str:
    """The one sentence that a task ends with."""
    assert (result.returncode, "Traceback" in result.stderr) == (exit_code, False), result.stderr
    [error] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return error


@pytest.fixture
def ssm(cloud: Cloud) -> Any:
    return boto3.client(
        "ssm",
        endpoint_url=cloud.facts.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


@contextmanager
def policy(text: str) -> Iterator[None]:
    """A refresh.toml of this text; where the checkout has one, it is left alone and this fails."""
    with POLICY_FILE.open("x") as file:
        file.write(text)
    try:
        yield
    finally:
        POLICY_FILE.unlink()


def retired_long_ago(cloud: Cloud) -> str:
    """An image that may be deleted: a failed one, disabled years ago."""
    made = cloud.ec2.register_image(
        Name="retired", RootDeviceName="/dev/xvda", BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {}}]
    )
    tags = {"state": "failed", "channel": "stable", "disabled-at": "2020-01-01T00:00:00+00:00"}
    pairs = [{"Key": f"gpunodes:{key}", "Value": value} for key, value in tags.items()]
    cloud.ec2.create_tags(Resources=[made["ImageId"]], Tags=pairs)
    cloud.ec2.disable_image(ImageId=made["ImageId"])
    return str(made["ImageId"])


def exists(cloud: Cloud, ami_id: str) -> bool:
    wanted = [{"Name": "image-id", "Values": [ami_id]}]
    return bool(cloud.ec2.describe_images(Filters=wanted, IncludeDisabled=True)["Images"])


def booted(cloud: Cloud) -> str:
    """What is in the image that an instance gets which is launched by the parameter."""
    return cloud.connect(cloud.launch(PARAMETER)).run("cat /etc/content").strip()


@pytest.fixture(scope="module")
def images(cloud: Cloud) -> list[str]:
    return [make_image(cloud, content) for content in ("first", "second")]


def test_instances_follow_the_channel_to_a_new_image_and_back(cloud: Cloud, images: list[str]) -> None:
    first, second = images

    assert done("promote", "--ami", first)["decision"] == "promoted"
    assert booted(cloud) == "first"

    promoted = done("promote", "--ami", second)
    assert (promoted["ami_id"], promoted["previous_ami"], promoted["version"]) == (second, first, 2)
    assert booted(cloud) == "second"
    assert done("promote", "--ami", second)["decision"] == "nothing"

    cloud.ec2.disable_image(ImageId=first)
    back = done("rollback", "--reason", "it hangs")
    assert (back["decision"], back["ami_id"], back["was_enabled"]) == ("rolled back", first, True)
    assert booted(cloud) == "first"

    planned = done("plan", "--refresh")
    assert (planned["decision"], planned["ami_id"]) == ("wait", first)  # both images are minutes old
    assert "recipe not known -> known; the policy says not before" in planned["reason"]


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["promote", "--ami", "ami-0123456789abcdef0"], "There is no image ami-0123456789abcdef0 in this region"),
        (["promote", "--channel", "canary"], "Channel `canary` has no proven image"),
        (["rollback", "--channel", "canary"], "Channel `canary` names no image yet, so there is no way back"),
        (["promote", "--channel", "no channel"], "`no channel` cannot be a channel"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_code_2(arguments: list[str], sentence: str) -> None:
    result = run_invoke(*arguments, "--offline")

    assert sentence in error_of(result, 2)
    assert result.stdout == ""


def test_a_parameter_that_was_edited_by_hand_to_a_foreign_image_is_told_and_nothing_is_deleted(
    cloud: Cloud, images: list[str], ssm: Any
) -> None:
    ssm.put_parameter(Name="/gpunodes/edited/ami-id", Value=images[0], Type="String")
    ssm.put_parameter(Name="/gpunodes/edited/ami-id", Value=cloud.facts.base_image_id, Type="String", Overwrite=True)
    foreign = f"Channel `edited` names {cloud.facts.base_image_id}, which is no image of this account"

    assert foreign in error_of(run_invoke("refresh-ami", "--offline", "--channel", "edited"), 2)
    notes = {line["channel"]: line["note"] for line in done("status")["channels"]}
    assert notes["edited"] == "names an image that is gone, or was not baked here"
    assert done("rollback", "--channel", "edited", "--reason", "edited by hand")["ami_id"] == images[0]
    ssm.delete_parameter(Name="/gpunodes/edited/ami-id")


@pytest.mark.usefixtures("cloud")
def test_the_second_of_two_schedulers_is_refused_and_the_first_keeps_its_lock() -> None:
    clients = Clients(target())
    owner = LockOwner("20260101-000000-0001", "scheduler", "first")
    first = ChannelLock(clients, "nightly", owner, datetime.now(UTC) + timedelta(hours=1), print)
    first.acquire()

    error = error_of(run_invoke("refresh-ami", "--offline", "--channel", "nightly"), 2)

    assert "Channel `nightly` is" in error
    assert "20260101-000000-0001" in error
    assert first.is_held()
    first.release()


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize("task", ["refresh-ami", "prune", "status"])
def test_an_unknown_key_of_the_policy_is_told_with_the_nearest_that_is_known(task: str) -> None:
    with policy("[stable]\nmaximum_age_day = 3\n"):
        result = run_invoke(task, "--offline")

    error = error_of(result, 2)
    assert "refresh.toml: [stable] has an unknown key `maximum_age_day`; did you mean `maximum_age_days`?" in error


def test_without_permission_for_one_source_of_references_nothing_is_deleted(cloud: Cloud) -> None:
    old = retired_long_ago(cloud)
    with policy(RETIRE_AT_ONCE), before_the_api(cloud.layout) as proxy:
        proxy.answers["DescribeLaunchTemplates"] = lambda _body: Refusal("UnauthorizedOperation", "not you", 403)
        refused = run_invoke("prune", "--offline", "--apply")

    assert refused.returncode == 3, refused.stderr
    assert "launch templates did not answer, so nothing is disabled or deleted" in refused.stderr
    assert "UnauthorizedOperation" in refused.stderr
    assert exists(cloud, old)

    with policy(RETIRE_AT_ONCE):
        pruned = done("prune", "--apply")
    assert [(row["ami_id"], row["action"], row["was_done"]) for row in pruned["done"]] == [(old, "deregister", True)]
    assert not exists(cloud, old)
