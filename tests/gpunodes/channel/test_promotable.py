from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gpunodes.aws import Clients
from gpunodes.channel import promotable
from gpunodes.channel.parameter import ChannelParameter
from gpunodes.channel.promotable import Promotable
from gpunodes.errors import PreflightError, UsageError
from tests.gpunodes.channel.channel_images import make_image
from tests.gpunodes.fakes import base_image

DAY = timedelta(days=1)


def find(clients: Clients, asked: str | None = None, source: str = "", later: timedelta = timedelta(0)) -> Promotable:
    now = datetime.now(UTC) + later
    return promotable.find(clients, "stable", asked, source_channel=source, soak=DAY, now=now)


def test_newest_proven_image_of_the_channel_is_the_one(clients: Clients) -> None:
    make_image(clients)
    make_image(clients, "candidate")
    make_image(clients, channel="other")
    proven = make_image(clients)
    images = {
        image["ImageId"]: image["CreationDate"] for image in clients.ec2.describe_images(Owners=["self"])["Images"]
    }

    found = find(clients)

    assert (images[found.ami_id], found.objections) == (images[proven], [])


@pytest.mark.parametrize(
    ("state", "more", "objection"),
    [
        ("candidate", {}, "is candidate and not proven"),
        ("failed", {"failed_reason": "swap is missing"}, "failed its proof (swap is missing)"),
        ("failed", {}, "failed its proof (nobody knows why)"),
        ("proven", {"proof_sha256": ""}, "says that it is proven and names no proof"),
    ],
)
def test_only_a_proven_image_passes_without_a_reason(
    clients: Clients, state: str, more: dict[str, str], objection: str
) -> None:
    found = find(clients, make_image(clients, state, **more))

    assert found.objections == [objection]
    with pytest.raises(PreflightError, match="or say with --reason why it may be used all the same"):
        found.require(" ")
    found.require("an outage of CloudWatch, seen by hand")


@pytest.mark.parametrize("ami_id", ["ami-0123456789abcdef0", "latest"])
def test_image_that_is_not_there_is_refused(clients: Clients, ami_id: str) -> None:
    with pytest.raises(UsageError, match=ami_id):
        find(clients, ami_id)


def test_image_of_another_account_is_refused(clients: Clients) -> None:
    image = {"ImageId": "ami-0123456789abcdef0", "OwnerId": "136693071363"}

    with pytest.raises(UsageError, match="belongs to account 136693071363 and you work in 123456789012"):
        promotable._require_ours(clients, image, {})


def test_image_that_gpunodes_did_not_bake_is_refused(clients: Clients) -> None:
    launched = clients.ec2.run_instances(ImageId=base_image(clients), MinCount=1, MaxCount=1)["Instances"][0]
    other = clients.ec2.create_image(InstanceId=launched["InstanceId"], Name="other")["ImageId"]

    with pytest.raises(UsageError, match=f"Image {other} was not baked by gpunodes"):
        find(clients, other)


def test_channel_without_a_proven_image_says_what_to_do(clients: Clients) -> None:
    make_image(clients, "candidate")

    with pytest.raises(UsageError, match="`stable` has no proven image; prove one with `invoke test-instance`"):
        find(clients)


def test_image_comes_from_the_source_channel_once_it_soaked_there(clients: Clients) -> None:
    canary = ChannelParameter(clients, "canary")
    with pytest.raises(UsageError, match="`canary` names no image yet"):
        find(clients, source="canary")
    old, new = make_image(clients, channel="canary"), make_image(clients, channel="canary")
    canary.write(old)
    canary.write(new)

    soon, later = find(clients, source="canary", later=timedelta(hours=1)), find(clients, source="canary", later=DAY)

    assert (soon.ami_id, later.ami_id, later.objections) == (new, new, [])
    assert "`canary` since" in soon.objections[0]
    assert soon.objections[0].endswith("and needs 23 hours more")
    assert find(clients, old, source="canary", later=DAY).objections == ["is not what channel `canary` names"]


def test_soak_begins_anew_where_the_source_channel_named_another_between(clients: Clients) -> None:
    canary = ChannelParameter(clients, "canary")
    image, other = make_image(clients), make_image(clients)
    for ami_id in (image, other, image, image):
        canary.write(ami_id)
    history = canary.history()

    found = promotable.find(clients, "stable", None, source_channel="canary", soak=DAY, now=history[1].written_at + DAY)

    assert found.objections == []
    assert promotable._of_soak(
        image, "canary", history, DAY, history[1].written_at + timedelta(hours=23, minutes=50)
    ) == [f"has been in channel `canary` since {history[1].written_at:%d %b %H:%M} UTC and needs 10 minutes more"]
