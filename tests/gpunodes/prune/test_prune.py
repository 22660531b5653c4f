"""A plan carried out against the offline cloud's API, which knows disabled and protected images."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gpunodes.aws import Clients
from gpunodes.prune import prune
from gpunodes.prune.own_images import OwnImage, own_images
from gpunodes.prune.prune_plan import DEPRECATE, DEREGISTER, DISABLE, KEEP, Entry
from tests.gpunodes.channel.channel_images import make_image

NOW = datetime.now(UTC)


def entry(clients: Clients, ami_id: str, action: str) -> Entry:
    [found] = [image for image in own_images(clients) if image.ami_id == ami_id]
    return Entry(found, action, "because")


def found(clients: Clients, ami_id: str) -> OwnImage | None:
    return next((image for image in own_images(clients) if image.ami_id == ami_id), None)


def snapshots(clients: Clients, ids: tuple[str, ...]) -> list[str]:
    wanted = [{"Name": "snapshot-id", "Values": list(ids)}]
    return [each["SnapshotId"] for each in clients.ec2.describe_snapshots(Filters=wanted)["Snapshots"]]


def test_images_are_read_with_all_that_a_plan_needs(offline_clients: Clients) -> None:
    ami_id = make_image(offline_clients, keep="audit", **{"disabled-at": "2026-11-01T00:00:00+00:00"})
    make_image(offline_clients, channel="canary", **{"disabled-at": "yesterday"})
    offline_clients.ec2.enable_image_deprecation(ImageId=ami_id, DeprecateAt=NOW + timedelta(days=3))
    offline_clients.ec2.disable_image(ImageId=ami_id)

    images = {image.ami_id: image for image in own_images(offline_clients)}

    image = images.pop(ami_id)
    [other] = images.values()
    assert (image.channel, image.state, image.kept_because, image.is_disabled) == ("stable", "proven", "audit", True)
    assert image.disabled_at == datetime(2026, 11, 1, tzinfo=UTC)
    assert image.deprecated_at is not None
    assert abs(image.deprecated_at - NOW - timedelta(days=3)) < timedelta(minutes=2)
    assert image.snapshots
    assert (other.channel, other.disabled_at, other.is_disabled) == ("canary", None, False)


def test_an_image_goes_from_stage_to_stage_with_its_snapshots(offline_clients: Clients) -> None:
    ami_id = make_image(offline_clients)
    offline_clients.ec2.enable_image_deregistration_protection(ImageId=ami_id)
    image = found(offline_clients, ami_id)
    assert image is not None

    prune.carry_out(offline_clients, [entry(offline_clients, ami_id, DEPRECATE)])
    deprecated = found(offline_clients, ami_id)
    prune.carry_out(offline_clients, [entry(offline_clients, ami_id, DISABLE)], clock=lambda: NOW)
    disabled = found(offline_clients, ami_id)
    done = prune.carry_out(offline_clients, [entry(offline_clients, ami_id, DEREGISTER)])

    assert deprecated is not None
    assert deprecated.deprecated_at is not None
    assert disabled is not None
    assert (disabled.is_disabled, disabled.disabled_at) == (True, NOW.replace(microsecond=0))
    assert found(offline_clients, ami_id) is None
    assert snapshots(offline_clients, image.snapshots) == []
    assert done.stopped == ""
    assert (done.done[0].was_done, tuple(done.done[0].snapshots), done.done[0].left) == (True, image.snapshots, [])


def test_what_is_kept_is_left_alone(offline_clients: Clients) -> None:
    ami_id = make_image(offline_clients)

    assert prune.carry_out(offline_clients, [entry(offline_clients, ami_id, KEEP)]).done == []
    assert found(offline_clients, ami_id) is not None


def test_protection_with_a_cooldown_is_taken_off_and_the_image_goes_a_day_later(offline_clients: Clients) -> None:
    ami_id = make_image(offline_clients)
    offline_clients.ec2.enable_image_deregistration_protection(ImageId=ami_id, WithCooldown=True)

    [done] = prune.carry_out(offline_clients, [entry(offline_clients, ami_id, DEREGISTER)]).done

    assert not done.was_done
    assert done.reason.startswith("its protection was taken off just now")
    assert found(offline_clients, ami_id) is not None


def test_image_that_is_gone_meanwhile_stops_it_before_the_first_one_goes(offline_clients: Clients) -> None:
    first, gone, last = (make_image(offline_clients) for _ in range(3))
    entries = [entry(offline_clients, ami_id, DEREGISTER) for ami_id in (first, gone, last)]
    offline_clients.ec2.deregister_image(ImageId=gone)

    pruned = prune.carry_out(offline_clients, entries)

    assert pruned.done == []
    assert gone in pruned.stopped
    assert found(offline_clients, first) is not None
    assert found(offline_clients, last) is not None


def test_snapshot_that_aws_leaves_because_of_another_image_is_named(offline_clients: Clients) -> None:
    """moto gives each image snapshots of its own; of these two, only one goes with the image."""
    ami_id, other = make_image(offline_clients), found(offline_clients, make_image(offline_clients))
    planned = entry(offline_clients, ami_id, DEREGISTER)
    assert other is not None
    of_both = replace(planned.image, snapshots=(*planned.image.snapshots, *other.snapshots))

    [done] = prune.carry_out(offline_clients, [replace(planned, image=of_both)]).done

    assert (tuple(done.snapshots), tuple(done.left)) == (planned.image.snapshots, other.snapshots)
    assert snapshots(offline_clients, of_both.snapshots) == list(other.snapshots)


def test_protection_by_hand_is_read_and_that_of_a_bake_is_none(offline_clients: Clients) -> None:
    by_hand, by_bake = make_image(offline_clients), make_image(offline_clients)
    offline_clients.ec2.enable_image_deregistration_protection(ImageId=by_hand, WithCooldown=True)
    offline_clients.ec2.enable_image_deregistration_protection(ImageId=by_bake)

    protected = {image.ami_id: image.is_protected_by_hand for image in own_images(offline_clients)}

    assert protected == {by_hand: True, by_bake: False}
