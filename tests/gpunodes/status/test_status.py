from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console

from gpunodes.aws import Clients
from gpunodes.channel.parameter import ChannelParameter
from gpunodes.plan.cost import SnapshotPrice
from gpunodes.status import status, status_report
from gpunodes.status.status import ChannelStatus, Status
from tests.gpunodes.channel.channel_images import make_image

DAY = timedelta(days=1)


def shown(found: Status, width: int = 200) -> str:
    out = StringIO()
    status_report.show(found, Console(file=out, width=width))
    return out.getvalue()


def line(found: Status, channel: str = "stable") -> ChannelStatus:
    [only] = [each for each in found.channels if each.channel == channel]
    return only


def test_channel_is_shown_with_its_image_and_what_is_old(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "snapshot_price", lambda _clients: SnapshotPrice(0.05, "price list"))
    old = [make_image(clients) for _ in range(3)]
    more = {"recipe": "source_ami=ami-0123456789abcdef0", "proven-at": "2026-11-20T10:00:00+00:00"}
    promoted = make_image(clients, **more)
    for ami_id in [*old, promoted]:
        ChannelParameter(clients, "stable").write(ami_id)
    make_image(clients, "candidate", channel="canary")
    now = datetime.now(UTC) + 3 * DAY

    found = status.status(clients, now)

    stable, canary = line(found), line(found, "canary")
    assert (stable.ami_id, stable.note, stable.base_ami) == (promoted, "", "ami-0123456789abcdef0")
    assert (stable.proven_at, stable.due, stable.candidates) == ("2026-11-20T10:00:00+00:00", 1, 0)
    assert stable.gib > 0
    assert stable.monthly_usd == pytest.approx(stable.gib * 0.05)
    assert (canary.ami_id, canary.note, canary.candidates) == ("", "names no image", 1)
    text = shown(found)
    assert promoted in text
    assert "3 d" in text
    assert "note: channel canary names no image" in text


def test_all_of_it_fits_into_80_columns(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "snapshot_price", lambda _clients: SnapshotPrice(0.05, "price list"))
    more = {"recipe": "source_ami=ami-0123456789abcdef0", "proven-at": "2026-11-20T10:00:00+00:00"}
    ChannelParameter(clients, "stable").write(promoted := make_image(clients, **more))

    text = shown(status.status(clients), width=80)

    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for word in ("stable", promoted, "ami-0123456789abcdef0", "2026-11-20", "disabled, due", "USD", "GiB"):
        assert word in text


@pytest.mark.parametrize(
    ("state", "note"),
    [
        ("proven", ""),
        ("candidate", "names an image that is candidate"),
        ("gone", "names an image that is gone, or was not baked here"),
    ],
)
def test_what_is_wrong_with_a_channel_is_said(clients: Clients, state: str, note: str) -> None:
    image = make_image(clients, "proven" if state == "gone" else state)
    ChannelParameter(clients, "stable").write(image)
    if state == "gone":
        clients.ec2.deregister_image(ImageId=image)

    found = status.status(clients)

    assert line(found).note == note
    assert (note in shown(found)) or not note


def test_account_without_images_says_how_to_begin(clients: Clients) -> None:
    found = status.status(clients)

    assert found.channels == []
    assert "begin with `invoke build-ami`" in shown(found)


def test_document_is_json_and_has_no_price_where_there_is_none(clients: Clients) -> None:
    make_image(clients)

    ChannelParameter(clients, "stable").write(promoted := make_image(clients))

    document = json.loads(json.dumps(status_report.document(status.status(clients), "stable")))

    assert (document["decision"], document["ami_id"], document["done"]) == ("nothing", promoted, [])
    assert document["reason"] == "channels looked at: 1"
    assert document["channels"][0]["monthly_usd"] is None
    assert "price" in document["price"]
    assert "no price" in shown(status.status(clients))
