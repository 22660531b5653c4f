"""A refresh for real: the base changed, so a new image is baked, proven and promoted, and the way back leads back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gpunodes.channel.policy import POLICY_FILE
from localaws.base_releases import RELEASE_FILE
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


def done(*arguments: str) -> dict[str, Any]:
    result = run_invoke(*arguments, "--offline", "--json")
    assert result.returncode == 0, result.stderr
    return parse(result.stdout)


def release(cloud: Cloud) -> tuple[str, str]:
    """What an instance that is launched by the channel's parameter runs: its image, and the release of the base."""
    instance = cloud.launch(PARAMETER)
    remote = cloud.connect(instance)
    assert remote.run("systemctl is-active gpumon").strip() == "active"
    return instance["ImageId"], remote.run(f"cat /{RELEASE_FILE} 2>/dev/null || echo 1").strip()


def test_a_new_base_becomes_the_image_that_instances_get_and_the_way_back_leads_back(cloud: Cloud) -> None:
    old = done("build-ami")["ami_id"]
    done("promote", "--ami", old, "--reason", "the first image, of a test")
    assert done("refresh-ami")["decision"] == "nothing"
    assert release(cloud) == (old, "1")

    published = run_invoke("offline.new-base")
    assert published.returncode == 0, published.stderr
    refreshed = done("refresh-ami")

    new = refreshed["ami_id"]
    assert (refreshed["decision"], refreshed["done"]) == (
        "refreshed",
        [f"baked {new}", f"proved {new}", f"promoted {new}"],
    )
    first, second = cloud.facts.base_image_id, cloud.facts.next_base_image_id
    assert f"source_ami {first} (debian-12-gpu-offline-" in refreshed["reason"]
    assert f"-> {second} (debian-12-gpu-offline-" in refreshed["reason"]
    assert release(cloud) == (new, "2")

    again = done("refresh-ami")
    assert (again["decision"], again["ami_id"], again["done"]) == ("nothing", new, [])

    assert done("rollback", "--reason", "a test")["ami_id"] == old
    assert release(cloud) == (old, "1")
    held = done("refresh-ami")
    assert (held["decision"], held["ami_id"]) == ("nothing", old)
    assert f"the recipe is that of {new}, which was rolled back" in held["reason"]

    [line] = done("status")["channels"]
    assert (line["ami_id"], line["note"]) == (old, "names an image that is candidate")
    pruned = done("prune")
    assert {row["ami_id"]: row["reason"] for row in pruned["images"]}[new] == "the way back of channel stable"
