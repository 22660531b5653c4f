"""Prune and status where channels reach several regions, against the offline cloud's API in this process."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from moto.ec2.models import ec2_backends
from rich.console import Console

from gpunodes.channel import copies, policy
from gpunodes.channel.parameter import ChannelParameter
from gpunodes.errors import PreflightError
from gpunodes.prune import prune_run
from gpunodes.prune.prune_run import Prune, prune_region
from gpunodes.status import status_report
from gpunodes.status.status import Status, status
from tests.gpunodes.channel.test_elsewhere import WEST, World, own_key, world
from tests.gpunodes.fakes import RecordingProgress
from tests.gpunodes.lifecycle import moto_in_process

__all__ = ["world"]
HOME = "us-east-1"


@pytest.fixture(autouse=True)
def policy_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: World) -> Path:
    """Channel stable reaches the west and keeps one image for the way back."""
    file = tmp_path / "refresh.toml"
    file.write_text(f'[stable]\nregions = ["{WEST}"]\nkeep_previous = 1\n')
    load, load_all = policy.load, policy.load_all
    monkeypatch.setattr(policy, "load", lambda channel, _file=None: load(channel, file))
    monkeypatch.setattr(policy, "load_all", lambda _file=None: load_all(file))
    monkeypatch.setattr(prune_run, "Clients", lambda _target: world.home)
    return file


def pruned(world: World, *, most: str = "") -> Prune:
    progress = RecordingProgress()
    return prune_region(world.home.target, world.settings, progress, apply=True, most=most, clock=world.api.clock)


def actions(done: Prune) -> dict[str, str]:
    return {entry.image.ami_id: entry.action for entry in done.entries}


def reasons(done: Prune) -> dict[str, str]:
    return {entry.image.ami_id: entry.reason for entry in done.entries}


def promote_killed_while_it_copies(world: World, image: str) -> None:
    with pytest.MonkeyPatch.context() as patches, world.api.process() as process:
        patches.setattr(copies, "finish", lambda *_arguments: process.die())
        world.promote(image, (WEST,))


def later(world: World, days: float) -> None:
    world.api.now += timedelta(days=days)


def test_copies_go_like_images_and_one_in_use_keeps_only_itself(world: World) -> None:
    images = [world.make_image() for _ in range(4)]
    there = [world.promote(image, (WEST,)).regions[WEST] for image in images]
    launched = world.there(WEST).ec2.run_instances(ImageId=there[0], MinCount=1, MaxCount=1)
    seen = []
    for days in (0, 15, 31):
        later(world, days)
        seen.append(actions(pruned(world)))

    assert [row[images[0]] for row in seen] == ["deprecate", "disable", "deregister"]
    assert [row[there[1]] for row in seen] == ["deprecate", "disable", "deregister"]
    assert [row[there[0]] for row in seen] == ["deprecate", "keep", "keep"]
    assert all(row[each] == "keep" for row in seen for each in (*images[2:], *there[2:]))
    assert launched["Instances"][0]["ImageId"] in {image["ImageId"] for image in world.images(WEST)}
    assert len(world.images(HOME)) == 2


def test_copy_of_the_way_back_stays_though_its_region_never_named_it(world: World) -> None:
    first, second = world.make_image(), world.make_image()
    world.promote(first, ())
    promote_killed_while_it_copies(world, first)
    [copy] = [image["ImageId"] for image in world.images(WEST)]
    assert ChannelParameter(world.there(WEST), "stable").read() is None
    world.promote(second, (WEST,))
    later(world, 1)

    done = pruned(world)

    assert actions(done)[copy] == "keep"
    assert reasons(done)[copy] == f"a copy of {HOME}/{first}: the way back of channel stable"


def test_copy_of_a_promotion_that_was_killed_is_retired_once_it_is_superseded(world: World) -> None:
    image, *others = (world.make_image() for _ in range(4))
    world.promote(others[0], (WEST,))
    promote_killed_while_it_copies(world, image)
    [copy] = [each["ImageId"] for each in world.images(WEST) if world.copied(each) == image]
    waiting = actions(pruned(world))[copy]
    ec2_backends[moto_in_process.ACCOUNT][WEST].amis[copy].creation_date -= timedelta(
        days=1
    )  # EC2 says no more than the second
    for other in others[1:]:
        world.promote(other, (WEST,))

    assert (waiting, actions(pruned(world))[copy]) == ("keep", "deprecate")


def test_failed_copy_is_deregistered_at_once(world: World) -> None:
    image = world.make_image()
    world.promote(image, (WEST,))
    source = [{"ResourceType": "image", "Tags": [{"Key": "gpunodes:channel", "Value": "stable"}]}]
    own_key(world, WEST)
    failed = world.there(WEST).ec2.copy_image(
        Name="failed", SourceImageId=image, SourceRegion=HOME, Encrypted=True, KmsKeyId="alias/none",
        TagSpecifications=source,
    )["ImageId"]  # fmt: skip
    later(world, 1)

    done = pruned(world)

    assert (actions(done)[failed], reasons(done)[failed]) == ("deregister", "a copy that failed")
    assert failed not in {each["ImageId"] for each in world.images(WEST)}


def test_most_is_of_all_regions_together(world: World) -> None:
    for _ in range(4):
        world.promote(world.make_image(), (WEST,))
    pruned(world)
    later(world, 15)

    done = pruned(world, most="3")

    assert [entry.image.region for entry in done.entries if entry.action == "disable"] == [HOME, HOME, WEST]


def test_region_that_is_off_stops_all_deletion(world: World, policy_file: Path) -> None:
    for _ in range(3):
        world.promote(world.make_image(), (WEST,))
    policy_file.write_text('[stable]\nregions = ["ap-east-1"]\nkeep_previous = 1\n')
    before = world.images(HOME)

    with pytest.raises(PreflightError, match="Region ap-east-1 does not know this account"):
        pruned(world)

    assert world.images(HOME) == before


def shown(found: Status) -> str:
    out = StringIO()
    status_report.show(found, Console(file=out, width=200))
    return out.getvalue()


def test_status_shows_what_each_region_names(world: World) -> None:
    first, second = world.make_image(), world.make_image()
    done = world.promote(first, (WEST,))
    fine = status(world.home)
    world.promote(second, ())
    behind = status(world.home)

    [line] = fine.channels
    assert [vars(each) for each in line.regions] == [{"region": WEST, "ami_id": done.regions[WEST], "note": ""}]
    assert line.gib == 2 * 15 + 15
    assert f"stable in {WEST}: {done.regions[WEST]}" in shown(fine)
    assert f"which is no copy of {second}; repeat the promotion" in shown(behind)


def test_status_of_home_is_shown_where_a_region_is_off(world: World, policy_file: Path) -> None:
    image = world.make_image()
    world.promote(image, (WEST,))
    policy_file.write_text('[stable]\nregions = ["ap-east-1"]\n')

    found: Any = status(world.home)

    assert found.channels[0].ami_id == image
    assert "note: other regions are not shown: Region ap-east-1 does not know" in shown(found)
