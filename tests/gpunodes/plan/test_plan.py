from __future__ import annotations

from typing import Any

import pytest

from gpunodes.aws import Clients
from gpunodes.plan import plan
from gpunodes.plan.plan import Difference
from gpunodes.recipe import recipe
from gpunodes.recipe.recipe import Recipe
from tests.gpunodes.fakes import base_image

RECIPE = Recipe("ami-0123456789abcdef0", "ubuntu-22.04", "a" * 64, "b" * 64, "c" * 64, "latest", "", "F" * 40, 75)


def make_image(clients: Clients, name: str, **tags: str) -> str:
    launched = clients.ec2.run_instances(ImageId=base_image(clients), MinCount=1, MaxCount=1)
    image_id = clients.ec2.create_image(InstanceId=launched["Instances"][0]["InstanceId"], Name=name)["ImageId"]
    pairs = {f"gpunodes:{key}": value for key, value in tags.items()}
    clients.ec2.create_tags(Resources=[image_id], Tags=[{"Key": key, "Value": pairs[key]} for key in pairs])
    return str(image_id)


def test_summary_fits_a_tag_and_names_every_input() -> None:
    longest = Recipe(
        "ami-0123456789abcdef0", "x" * 40, "a" * 64, "b" * 64, "c" * 64, "1" * 40, "d" * 64, "F" * 40, 16384
    )

    assert len(longest.summary) <= 256
    assert set(recipe.inputs_of(RECIPE.summary)) == set(vars(RECIPE))


def test_newest_promoted_image_is_compared_with_before_any_newer_one(clients: Clients) -> None:
    promoted = make_image(clients, "old", state="promoted", channel="stable", recipe=RECIPE.summary)
    make_image(clients, "newer", state="candidate", channel="stable")

    previous, inputs = plan.newest_of_channel(clients, "stable")

    assert previous is not None
    assert (previous.ami_id, previous.state) == (promoted, "promoted")
    assert inputs == recipe.inputs_of(RECIPE.summary)


def test_without_a_promoted_image_the_newest_of_the_channel_is_compared_with(clients: Clients) -> None:
    make_image(clients, "another channel's", state="promoted", channel="canary")
    make_image(clients, "not sealed", channel="stable")
    candidate = make_image(clients, "mine", state="candidate", channel="stable")

    previous, inputs = plan.newest_of_channel(clients, "stable")

    assert previous is not None
    assert (previous.ami_id, previous.state, inputs) == (candidate, "candidate", {})


def test_empty_channel_has_nothing_to_compare_with(clients: Clients) -> None:
    assert plan.newest_of_channel(clients, "stable") == (None, {})


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"source_ami": "ami-0fedcba9876543210"}, "source_ami"),
        ({"wheelhouse_digest": "d" * 64}, "wheelhouse_digest"),
        ({"agent_version": "1.2"}, "agent_version"),
        ({"agent_key_fingerprint": "E" * 40}, "agent_key_fingerprint"),
        ({"root_volume_size_gib": 100}, "root_volume_size_gib"),
    ],
)
def test_each_input_that_differs_is_named(change: dict[str, Any], name: str) -> None:
    before, after = RECIPE.summary, Recipe(**{**vars(RECIPE), **change}).summary

    [found] = plan.differences(recipe.inputs_of(before), recipe.inputs_of(after))

    assert found.name == name
    assert found.before != found.after


def test_equal_recipes_have_no_difference() -> None:
    assert plan.differences(recipe.inputs_of(RECIPE.summary), recipe.inputs_of(RECIPE.summary)) == []


def test_an_input_that_is_new_differs_from_nothing() -> None:
    assert plan.differences({}, {"flavor": "al2023"}) == [Difference("flavor", "", "al2023")]
