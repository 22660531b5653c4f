"""A channel for real: a launch by its parameter boots the promoted image, and after a rollback the one before."""

from __future__ import annotations

from typing import Any

import pytest

from tests.offline.conftest import Cloud, parse, run_invoke

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

    assert (result.returncode, result.stdout) == (2, "")
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert sentence in errors[0]
    assert "Traceback" not in result.stderr
