"""A refresh for real: the base changed, so a new image is baked, proven and promoted, and the way back leads back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gpunodes.channel.policy import POLICY_FILE
from tests.offline.conftest import Cloud, parse, run_invoke

PARAMETER = "resolve:ssm:/gpunodes/stable/ami-id"
AT_ONCE = '[stable]\nwindow = "always"\nminimum_gap_hours = 0.001\n'


@pytest.fixture(scope="module", autouse=True)
def policy() -> Iterator[None]:
    """A policy that waits for nothing; where the checkout has one, it is left alone and this fails."""
    with POLICY_FILE.open("x") as file:
        file.write(AT_ONCE)
    yield
    POLICY_FILE.unlink()


def old_image(cloud: Cloud) -> str:
    """An image of an older base, as a bake and a proof leave it."""
    instance = cloud.launch()
    cloud.connect(instance).run("echo old | sudo tee /etc/content && sync")
    made = cloud.ec2.create_image(InstanceId=instance["InstanceId"], Name="old")
    recipe = "source_ami=ami-0123456789abcdef0 flavor=debian-12"
    tags = {"state": "proven", "channel": "stable", "proof-sha256": "0" * 64, "recipe": recipe, "fingerprint": "0" * 64}
    pairs = [{"Key": f"gpunodes:{key}", "Value": value} for key, value in tags.items()]
    cloud.ec2.create_tags(Resources=[made["ImageId"]], Tags=pairs)
    return str(made["ImageId"])


def done(*arguments: str) -> dict[str, Any]:
    result = run_invoke(*arguments, "--offline", "--json")
    assert result.returncode == 0, result.stderr
    return parse(result.stdout)


def test_a_new_base_becomes_the_image_that_instances_get_and_the_way_back_leads_back(cloud: Cloud) -> None:
    old = old_image(cloud)
    done("promote", "--ami", old)

    refreshed = done("refresh-ami")

    new = refreshed["ami_id"]
    assert (refreshed["decision"], refreshed["done"]) == (
        "refreshed",
        [f"baked {new}", f"proved {new}", f"promoted {new}"],
    )
    assert f"source_ami ami-0123456789abcdef0 -> {cloud.facts.base_image_id}" in refreshed["reason"]
    launched = cloud.launch(PARAMETER)
    assert launched["ImageId"] == new
    assert cloud.connect(launched).run("systemctl is-active gpumon").strip() == "active"

    again = done("refresh-ami")
    assert (again["decision"], again["ami_id"], again["done"]) == ("nothing", new, [])

    assert done("rollback", "--reason", "a test")["ami_id"] == old
    assert cloud.connect(cloud.launch(PARAMETER)).run("cat /etc/content").strip() == "old"
    held = done("refresh-ami")
    assert (held["decision"], held["ami_id"]) == ("nothing", old)
    assert f"the recipe is that of {new}, which was rolled back" in held["reason"]

    [line] = done("status")["channels"]
    assert (line["ami_id"], line["note"]) == (old, "")
    pruned = done("prune")
    assert {row["ami_id"]: row["reason"] for row in pruned["images"]}[new] == "the way back of channel stable"
