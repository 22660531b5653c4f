from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gpunodes.aws import Clients
from gpunodes.channel.parameter import ChannelParameter
from gpunodes.channel.rollback import Rollback, images_by_id, rollback
from gpunodes.errors import PreflightError, UsageError
from gpunodes.settings import Settings
from tests.gpunodes.channel.channel_images import make_image, tags_of
from tests.gpunodes.fakes import RecordingProgress


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(work_folder=tmp_path)


def rolled_back(clients: Clients, settings: Settings, **more: Any) -> Rollback:
    return rollback(clients.target, settings, RecordingProgress(), **more)


def channel_of(clients: Clients, *ami_ids: str) -> ChannelParameter:
    parameter = ChannelParameter(clients, "stable")
    for ami_id in ami_ids:
        parameter.write(ami_id)
    return parameter


def test_channel_names_the_image_before_and_the_one_that_is_left_says_why(clients: Clients, settings: Settings) -> None:
    first, second = make_image(clients), make_image(clients)
    parameter = channel_of(clients, first, second)

    done = rolled_back(clients, settings, reason="NCCL hangs")

    pointer = parameter.read()
    assert pointer is not None
    assert (pointer.ami_id, pointer.version) == (first, 3) == (done.ami_id, done.version)
    assert tags_of(clients, second)["rolled-back/stable"].endswith(f"{done.run_id} NCCL hangs")
    assert "rolled-back/stable" not in tags_of(clients, first)
    assert (settings.runs_folder / done.run_id / "rollback.json").exists()


def test_rolling_back_twice_goes_on_to_the_other_and_back(clients: Clients, settings: Settings) -> None:
    first, second = make_image(clients), make_image(clients)
    channel_of(clients, first, second)

    assert [rolled_back(clients, settings).ami_id for _ in range(3)] == [first, second, first]


def test_images_that_are_gone_are_passed_over(clients: Clients, settings: Settings) -> None:
    first, gone, now = (make_image(clients) for _ in range(3))
    channel_of(clients, first, gone, now)
    clients.ec2.deregister_image(ImageId=gone)

    assert rolled_back(clients, settings).ami_id == first


def test_where_all_are_gone_that_is_said_and_nothing_changes(clients: Clients, settings: Settings) -> None:
    gone, now = make_image(clients), make_image(clients)
    parameter = channel_of(clients, gone, now)
    clients.ec2.deregister_image(ImageId=gone)

    with pytest.raises(PreflightError, match=f"exists any more \\({gone}\\)"):
        rolled_back(clients, settings)

    assert [pointer.ami_id for pointer in parameter.history()] == [now, gone]


def test_image_that_is_left_may_be_gone(clients: Clients, settings: Settings) -> None:
    first, gone = make_image(clients), make_image(clients)
    channel_of(clients, first, gone)
    clients.ec2.deregister_image(ImageId=gone)

    assert rolled_back(clients, settings).ami_id == first


def test_any_earlier_image_can_be_asked_for(clients: Clients, settings: Settings) -> None:
    images = [make_image(clients) for _ in range(3)]
    channel_of(clients, *images)

    assert rolled_back(clients, settings, ami_id=images[0]).ami_id == images[0]


@pytest.mark.parametrize(
    ("named", "asked", "sentence"),
    [
        (0, None, "`stable` names no image yet"),
        (1, None, "`stable` never named another image"),
        (2, "now", "already; name an earlier image"),
        (2, "ami-0123456789abcdef0", "`stable` never named ami-0123456789abcdef0; it named ami-"),
    ],
)
def test_way_back_that_is_none_is_one_sentence(
    clients: Clients, settings: Settings, named: int, asked: str | None, sentence: str
) -> None:
    images = [make_image(clients) for _ in range(named)]
    parameter = channel_of(clients, *images)

    with pytest.raises(UsageError, match=sentence):
        rolled_back(clients, settings, ami_id=images[-1] if asked == "now" else asked)

    assert len(parameter.history()) == named


def test_nobody_elses_image_is_found(clients: Clients) -> None:
    assert images_by_id(clients, ["ami-0123456789abcdef0"]) == {}
    assert images_by_id(clients, []) == {}


def test_disabled_image_is_enabled_again(offline_clients: Clients, settings: Settings) -> None:
    first, second = make_image(offline_clients), make_image(offline_clients)
    channel_of(offline_clients, first, second)
    offline_clients.ec2.enable_image_deprecation(ImageId=first, DeprecateAt=datetime.now(UTC) + timedelta(hours=1))
    offline_clients.ec2.disable_image(ImageId=first)
    offline_clients.ec2.create_tags(Resources=[first], Tags=[{"Key": "gpunodes:disabled-at", "Value": "then"}])

    done = rolled_back(offline_clients, settings)

    assert (done.ami_id, done.was_enabled) == (first, True)
    image = images_by_id(offline_clients, [first])[first]
    assert (image["State"], image.get("DeprecationTime")) == ("available", None)
    assert "disabled-at" not in tags_of(offline_clients, first)
    pointer = ChannelParameter(offline_clients, "stable").read()
    assert pointer is not None
    assert pointer.ami_id == first


def test_image_that_failed_a_later_proof_is_passed_over(clients: Clients, settings: Settings) -> None:
    first, failed, now = make_image(clients), make_image(clients, "failed"), make_image(clients)
    channel_of(clients, first, failed, now)

    assert rolled_back(clients, settings).ami_id == first


@pytest.mark.parametrize("asked", [None, "failed"])
def test_where_all_have_failed_that_is_said_and_nothing_changes(
    clients: Clients, settings: Settings, asked: str | None
) -> None:
    failed, now = make_image(clients, "failed"), make_image(clients)
    parameter = channel_of(clients, failed, now)

    with pytest.raises(PreflightError, match=f"has not failed a later proof \\({failed}\\)"):
        rolled_back(clients, settings, ami_id=failed if asked else None)

    assert [pointer.ami_id for pointer in parameter.history()] == [now, failed]
