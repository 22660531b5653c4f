from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpunodes.aws import Clients
from gpunodes.channel.channel_lock import ChannelLock, LockOwner
from gpunodes.channel.elsewhere import LABEL_PREVIOUS
from gpunodes.channel.parameter import ChannelParameter
from gpunodes.channel.policy import Policy
from gpunodes.channel.promote import Promotion, promote
from gpunodes.errors import GpunodesError, PreflightError
from gpunodes.settings import Settings
from tests.gpunodes.channel.channel_images import make_image, tags_of
from tests.gpunodes.fakes import RecordingProgress


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(work_folder=tmp_path)


def promoted(
    clients: Clients, settings: Settings, ami_id: str | None = None, override: str = "", policy: Policy | None = None
) -> Promotion:
    progress = RecordingProgress()
    return promote(clients.target, settings, policy or Policy(), progress, ami_id=ami_id, override=override)


def names(clients: Clients) -> str:
    pointer = ChannelParameter(clients, "stable").read()
    return pointer.ami_id if pointer else ""


def test_channel_names_the_image_and_keeps_the_one_before(clients: Clients, settings: Settings) -> None:
    first, second = make_image(clients), make_image(clients)

    was_first, is_now = promoted(clients, settings, first), promoted(clients, settings, second)

    assert (was_first.previous_ami, is_now.previous_ami, is_now.version) == ("", first, 2)
    assert names(clients) == second
    assert [pointer.labels for pointer in ChannelParameter(clients, "stable").history()] == [(), (LABEL_PREVIOUS,)]
    assert "promoted-at/stable" in tags_of(clients, second)
    assert "promotion-override/stable" not in tags_of(clients, second)


def test_doing_it_again_changes_nothing(clients: Clients, settings: Settings) -> None:
    image = make_image(clients)
    promoted(clients, settings, image)

    again = promoted(clients, settings, image)

    assert (again.was_promoted, again.version) == (False, 1)
    assert len(ChannelParameter(clients, "stable").history()) == 1


def test_image_that_is_not_proven_needs_a_reason_which_is_recorded(clients: Clients, settings: Settings) -> None:
    image = make_image(clients, "candidate")
    with pytest.raises(PreflightError, match=f"{image} is candidate and not proven; see to that"):
        promoted(clients, settings, image)
    before = names(clients)

    done = promoted(clients, settings, image, override="the region's CloudWatch is down <now>")

    assert (before, names(clients)) == ("", image)
    said = tags_of(clients, image)["promotion-override/stable"]
    assert said.rstrip() == f"{done.run_id}: the region s CloudWatch is down  now"
    document = json.loads((settings.runs_folder / done.run_id / "promotion.json").read_text())
    assert (document["override"], document["objections"]) == (
        "the region's CloudWatch is down <now>",
        ["is candidate and not proven"],
    )


def test_reason_is_not_recorded_where_nothing_spoke_against_it(clients: Clients, settings: Settings) -> None:
    done = promoted(clients, settings, make_image(clients), override="just in case")

    assert (done.override, done.objections) == ("", [])


def test_image_goes_from_channel_to_channel(clients: Clients, settings: Settings) -> None:
    image = make_image(clients, channel="canary")
    ChannelParameter(clients, "canary").write(image)
    policy = Policy(promotes_from="canary")

    with pytest.raises(PreflightError, match="has been in channel `canary` since"):
        promoted(clients, settings, policy=policy)

    assert promoted(clients, settings, policy=policy, override="urgent").ami_id == image


def test_channel_that_is_locked_is_left_alone_and_a_free_one_is_free_again(
    clients: Clients, settings: Settings
) -> None:
    image = make_image(clients)
    expires_at = datetime(2100, 1, 1, tzinfo=UTC)
    lock = ChannelLock(clients, "stable", LockOwner("20260101-000000-0000", "who", "host"), expires_at, print)
    lock.acquire()

    with pytest.raises(GpunodesError, match="run 20260101-000000-0000"):
        promoted(clients, settings, image)
    before = names(clients)
    lock.release()
    promoted(clients, settings, image)

    assert (before, names(clients)) == ("", image)
    assert lock.read().owner is None


def test_image_that_was_rolled_back_may_be_promoted_by_hand_and_is_so_no_more(
    clients: Clients, settings: Settings
) -> None:
    image = make_image(clients, **{"rolled-back/stable": "NCCL hangs"})

    promoted(clients, settings, image)

    assert "rolled-back/stable" not in tags_of(clients, image)


def test_deprecated_image_that_is_promoted_is_deprecated_no_more(offline_clients: Clients, settings: Settings) -> None:
    image = make_image(offline_clients)
    offline_clients.ec2.enable_image_deprecation(ImageId=image, DeprecateAt=datetime.now(UTC) + timedelta(hours=1))

    promoted(offline_clients, settings, image)

    [found] = offline_clients.ec2.describe_images(ImageIds=[image])["Images"]
    assert "DeprecationTime" not in found
