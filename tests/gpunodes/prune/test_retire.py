"""The first stage of a prune, as a refresh does it, against the offline cloud's API."""

from __future__ import annotations

from datetime import UTC, datetime

from gpunodes.aws import Clients
from gpunodes.channel.parameter import ChannelParameter
from gpunodes.prune.own_images import own_images
from gpunodes.prune.retire import retire
from tests.gpunodes.channel.channel_images import make_image


def deprecated(clients: Clients) -> set[str]:
    return {image.ami_id for image in own_images(clients) if image.deprecated_at}


def test_what_a_channel_left_behind_is_deprecated_and_nothing_of_another_channel(
    offline_clients: Clients, clients: Clients
) -> None:
    images = [make_image(offline_clients) for _ in range(5)]
    for ami_id in images:
        ChannelParameter(clients, "stable").write(ami_id)

    nothing = retire(offline_clients, "canary")
    before = deprecated(offline_clients)
    retired = retire(offline_clients, "stable")

    assert (nothing.done, before) == ([], set())
    # Of the same second, or not: which is the older one is not said.
    assert {(done.ami_id, done.was_done) for done in retired.done} == {(ami_id, True) for ami_id in images[:2]}
    assert deprecated(offline_clients) == set(images[:2])
    assert retired.stopped == ""
    assert retire(offline_clients, "stable").done == []


def test_nothing_is_disabled_however_old(offline_clients: Clients, clients: Clients) -> None:
    images = [make_image(offline_clients) for _ in range(4)]
    for ami_id in images:
        ChannelParameter(clients, "stable").write(ami_id)
    retire(offline_clients, "stable")

    assert retire(offline_clients, "stable", lambda: datetime(2100, 1, 1, tzinfo=UTC)).done == []
    assert [image.ami_id for image in own_images(offline_clients) if image.is_disabled] == []
