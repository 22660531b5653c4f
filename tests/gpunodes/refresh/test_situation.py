"""What a refresh finds in an account of moto's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gpunodes.aws import Clients
from gpunodes.channel import policy
from gpunodes.channel.parameter import ChannelParameter
from gpunodes.errors import PreflightError
from gpunodes.plan.plan import BakePlan, Difference
from gpunodes.recipe import pins
from gpunodes.recipe.recipe import Recipe
from gpunodes.refresh import agent_release, situation
from gpunodes.refresh.decide import BAKE, NOTHING, PROMOTE, PROVE, WAIT
from tests.gpunodes.fakes import base_image

RECIPE = Recipe("ami-0123456789abcdef0", "ubuntu-22.04", "a" * 64, "b" * 64, "c" * 64, "latest", "", "F" * 40, 75)
NEW_BASE = replace(RECIPE, source_ami="ami-0fedcba9876543210")


def planned(recipe: Recipe, channel: str = "stable") -> BakePlan:
    return BakePlan(
        channel=channel,
        flavor=recipe.flavor,
        base_ami=recipe.source_ami,
        base_name="base",
        base_creation_date="2026-11-01T00:00:00.000Z",
        pins=pins.read(),
        recipe=recipe,
        fingerprint=recipe.fingerprint,
        gpumon_version="0.1.0",
        instance_type="g4dn.xlarge",
        previous=None,
        differences=None,
        seconds=None,
        usd=None,
        usd_reason="",
        notes=[],
    )


def make_image(clients: Clients, recipe: Recipe, state: str = "proven", channel: str = "stable") -> str:
    launched = clients.ec2.run_instances(ImageId=base_image(clients), MinCount=1, MaxCount=1)["Instances"][0]
    made = clients.ec2.create_image(InstanceId=launched["InstanceId"], Name=f"{recipe.fingerprint}-{state}-{channel}")
    tags = {"state": state, "channel": channel, "recipe": recipe.summary, "fingerprint": recipe.fingerprint}
    pairs = [{"Key": f"gpunodes:{key}", "Value": value} for key, value in tags.items()]
    clients.ec2.create_tags(Resources=[made["ImageId"]], Tags=pairs)
    return str(made["ImageId"])


def test_channel_without_an_image_is_due(clients: Clients) -> None:
    found = situation.plan_refresh(clients, planned(RECIPE), datetime.now(UTC))

    assert (found.decision.action, found.promoted_ami) == (BAKE, "")


def test_promoted_image_of_the_same_recipe_is_enough(clients: Clients) -> None:
    promoted = make_image(clients, RECIPE)
    ChannelParameter(clients, "stable").write(promoted)

    found = situation.plan_refresh(clients, planned(RECIPE), datetime.now(UTC))

    assert (found.decision.action, found.promoted_ami, found.changes) == (NOTHING, promoted, [])


def test_change_of_the_base_image_is_seen_and_what_was_baked_for_it_is_gone_on_with(clients: Clients) -> None:
    ChannelParameter(clients, "stable").write(make_image(clients, RECIPE))
    make_image(clients, NEW_BASE, "candidate", "other")
    begun = make_image(clients, NEW_BASE, "candidate")

    gathered = situation.gather(clients, planned(NEW_BASE), datetime.now(UTC))

    assert [(change.name, change.before, change.after) for change in gathered.changes] == [
        ("source_ami", RECIPE.source_ami, NEW_BASE.source_ami)
    ]
    assert {image.ami_id for image in gathered.images if image.state == "candidate"} == {begun}


def test_base_images_are_told_by_name_and_date_where_ec2_still_shows_them(clients: Clients) -> None:
    old = replace(RECIPE, source_ami=base_image(clients))
    shown = clients.ec2.describe_images(ImageIds=[old.source_ami])["Images"][0]
    ChannelParameter(clients, "stable").write(make_image(clients, old))

    reason = situation.plan_refresh(clients, planned(NEW_BASE), datetime.now(UTC)).decision.reason

    baked = datetime.fromisoformat(shown["CreationDate"])
    assert f"source_ami {old.source_ami} ({shown['Name']}, {baked:%d %b %Y}) -> " in reason
    assert f"-> {NEW_BASE.source_ami} (base, 01 Nov 2026)" in reason
    assert situation._base_names(clients, planned(NEW_BASE), [Difference("source_ami", "ami-0gone", "")]) == {
        NEW_BASE.source_ami: "base, 01 Nov 2026"
    }


@pytest.mark.parametrize(
    ("tagged", "published", "changes"),
    [
        ("1.300064.0b1337", "1.300065.0b1", [("agent", "1.300064.0b1337", "1.300065.0b1")]),
        ("1.300064.0b1337", "1.300064.0b1337", []),
        ("unknown", "1.300065.0b1", []),
        ("1.300064.0b1337", None, []),
    ],
)
def test_a_newer_agent_is_a_change_where_the_pins_leave_it_to_its_publisher(
    clients: Clients, monkeypatch: pytest.MonkeyPatch, tagged: str, published: str | None, changes: list[Any]
) -> None:
    monkeypatch.setattr(agent_release, "published", lambda _url: published)
    promoted = make_image(clients, RECIPE)
    clients.ec2.create_tags(Resources=[promoted], Tags=[{"Key": "gpunodes:agent-version", "Value": tagged}])
    ChannelParameter(clients, "stable").write(promoted)

    gathered = situation.gather(clients, planned(RECIPE), datetime.now(UTC))

    assert [(change.name, change.before, change.after) for change in gathered.changes] == changes
    assert gathered.agent_version == published


def test_a_pinned_agent_is_not_asked_for(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(agent_release, "published")
    pinned = replace(planned(RECIPE), pins=replace(pins.read(), agent_version="1.300064.0b1337"))

    assert situation.gather(clients, pinned, datetime.now(UTC)).agent_version == ""


def test_candidate_that_is_younger_than_the_promoted_image_is_proven_next(clients: Clients) -> None:
    begun = make_image(clients, RECIPE, "candidate")

    found = situation.plan_refresh(clients, planned(RECIPE), datetime.now(UTC))

    assert (found.decision.action, found.decision.ami_id) == (PROVE, begun)


def test_image_of_another_channel_may_be_promoted(clients: Clients) -> None:
    promoted = make_image(clients, RECIPE, channel="canary")
    ChannelParameter(clients, "stable").write(promoted)

    found = situation.plan_refresh(clients, planned(RECIPE), datetime.now(UTC))

    assert (found.decision.action, found.promoted_ami) == (NOTHING, promoted)


def test_image_whose_recipe_nobody_knows_counts_as_changed(clients: Clients) -> None:
    promoted = make_image(clients, RECIPE)
    clients.ec2.delete_tags(Resources=[promoted], Tags=[{"Key": "gpunodes:recipe"}])
    ChannelParameter(clients, "stable").write(promoted)

    gathered = situation.gather(clients, planned(RECIPE), datetime.now(UTC))

    assert [change.name for change in gathered.changes] == ["recipe"]


@pytest.mark.parametrize("foreign", ["ami-0123456789abcdef0", "base"])
def test_parameter_that_names_a_foreign_image_is_one_sentence(clients: Clients, foreign: str) -> None:
    ami_id = base_image(clients) if foreign == "base" else foreign
    ChannelParameter(clients, "stable").write(ami_id)

    with pytest.raises(PreflightError, match=f"Channel `stable` names {ami_id}, which is no image of this account"):
        situation.gather(clients, planned(RECIPE), datetime.now(UTC))


def test_urgency_is_a_parameter_that_anybody_may_write_and_a_later_image_is_the_answer(clients: Clients) -> None:
    before = situation.urgency(clients, "stable", None)
    clients.ssm.put_parameter(Name="/gpunodes/stable/urgent", Value=" CVE-2026-1 \n", Type="String")
    written_at = clients.ssm.get_parameter(Name="/gpunodes/stable/urgent")["Parameter"]["LastModifiedDate"]
    hour = timedelta(hours=1)

    assert (before, situation.urgency(clients, "stable", None)) == ("", "CVE-2026-1")
    assert situation.urgency(clients, "stable", written_at - hour) == "CVE-2026-1"
    assert situation.urgency(clients, "stable", written_at + hour) == ""


def test_image_that_the_channel_left_is_known(clients: Clients) -> None:
    first, second = make_image(clients, RECIPE), make_image(clients, NEW_BASE)
    ChannelParameter(clients, "stable").write(first)
    clients.ec2.create_tags(Resources=[second], Tags=[{"Key": "gpunodes:rolled-back/stable", "Value": "NCCL hangs"}])

    found = situation.plan_refresh(clients, planned(NEW_BASE), datetime.now(UTC))

    assert found.decision.action == NOTHING
    assert f"{second}, which was rolled back (NCCL hangs)" in found.decision.reason


def test_channel_that_gets_anothers_images_bakes_none(
    clients: Clients, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "refresh.toml"
    file.write_text('[stable]\npromotes_from = "canary"\nsoak_hours = 24\n')
    load = policy.load
    monkeypatch.setattr(policy, "load", lambda channel: load(channel, file))

    def decision(later: timedelta = timedelta(0)) -> tuple[str, str]:
        found = situation.plan_refresh(clients, planned(RECIPE), datetime.now(UTC) + later).decision
        return found.action, found.reason

    none = decision()
    image = make_image(clients, RECIPE, channel="canary")
    clients.ec2.create_tags(Resources=[image], Tags=[{"Key": "gpunodes:proof-sha256", "Value": "0"}])
    ChannelParameter(clients, "canary").write(image)
    soon, later = decision(), decision(timedelta(hours=25))
    ChannelParameter(clients, "stable").write(image)

    assert none == (NOTHING, "channel canary names no image yet")
    assert soon[0] == WAIT
    assert "needs 24 hours more" in soon[1]
    assert later == (PROMOTE, f"channel canary names {image}")
    assert decision() == (NOTHING, "channel canary names the same image")
