"""A prune as a scheduler runs it, against the offline cloud's API: no machines, and a clock that is moved by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gpunodes.aws import Clients
from gpunodes.channel.channel_lock import ChannelLock, LockOwner
from gpunodes.channel.parameter import ChannelParameter
from gpunodes.errors import AwsError, GpunodesError, UsageError
from gpunodes.prune import account, prune_report
from gpunodes.prune.own_images import own_images
from gpunodes.prune.prune_run import Prune, prune_region
from gpunodes.prune.references import Source
from gpunodes.settings import Settings
from tests.gpunodes.channel.channel_images import make_image
from tests.gpunodes.fakes import RecordingProgress

DAY = timedelta(days=1)


class Account:
    """An account with a channel, three images deep, and older ones."""

    def __init__(self, clients: Clients, direct: Clients, folder: Path) -> None:
        """The same account through the offline cloud's API, and directly: there a parameter is not validated late."""
        self.clients = clients
        self.settings = Settings(work_folder=folder)
        self.now = datetime.now(UTC)
        self.images = [make_image(clients) for _ in range(5)]
        for ami_id in self.images:
            ChannelParameter(direct, "stable").write(ami_id)

    def prune(self, *, apply: bool = True, most: str = "") -> Prune:
        progress = RecordingProgress()
        return prune_region(
            self.clients.target, self.settings, progress, apply=apply, most=most, clock=lambda: self.now
        )

    def actions(self, pruned: Prune) -> dict[str, str]:
        planned = {entry.image.ami_id: entry.action for entry in pruned.entries}
        return {ami_id: planned.get(ami_id, "gone") for ami_id in self.images}


@pytest.fixture
def stable(offline_clients: Clients, clients: Clients, tmp_path: Path) -> Account:
    return Account(offline_clients, clients, tmp_path)


def test_old_images_go_in_three_steps_with_time_between_and_the_way_back_stays(stable: Account) -> None:
    first, second, *kept = stable.images
    seen = []
    for days in (0, 1, 14, 1, 30, 0):
        stable.now += days * DAY + timedelta(minutes=2)
        seen.append(stable.actions(stable.prune()))

    assert [row[first] for row in seen] == ["deprecate", "keep", "disable", "keep", "deregister", "gone"]
    assert all(row[second] == row[first] for row in seen)
    assert all(row[ami_id] == "keep" for row in seen for ami_id in kept)
    assert {image.ami_id for image in own_images(stable.clients)} == set(kept)


def test_without_apply_nothing_changes(stable: Account) -> None:
    before = [vars(image) for image in own_images(stable.clients)]

    planned = stable.prune(apply=False)

    assert planned.counts["deprecate"] == 2
    assert (planned.was_applied, planned.done, planned.exit_code) == (False, (), 0)
    assert [vars(image) for image in own_images(stable.clients)] == before


def test_an_instance_keeps_its_image(stable: Account) -> None:
    first = stable.images[0]
    stable.prune()
    launched = stable.clients.ec2.run_instances(ImageId=first, MinCount=1, MaxCount=1)["Instances"][0]
    stable.clients.ec2.stop_instances(InstanceIds=[launched["InstanceId"]])
    stable.now += 15 * DAY

    pruned = stable.prune()

    [entry] = [entry for entry in pruned.entries if entry.image.ami_id == first]
    assert (entry.action, entry.reason) == ("keep", f"in use by instance {launched['InstanceId']} (stopped)")


def test_one_source_without_permission_stops_all_deletion_and_is_named(
    stable: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_permission(_clients: Clients) -> Any:
        raise AwsError("AWS refused while looking for launch templates (UnauthorizedOperation: no).")

    stable.prune()
    stable.now += 15 * DAY
    monkeypatch.setattr(account, "SOURCES", (Source("launch templates", no_permission),))

    pruned = stable.prune()

    assert pruned.exit_code == 3
    assert pruned.counts.keys() == {"keep"}
    assert list(pruned.failed) == ["launch templates"]
    shown = StringIO()
    prune_report.show(pruned, Console(file=shown, width=200))
    assert "error: launch templates did not answer, so nothing is disabled or deleted" in shown.getvalue()


def test_no_more_than_asked_for_go(stable: Account) -> None:
    stable.prune()
    stable.now += 15 * DAY

    pruned = stable.prune(most="1")

    assert pruned.counts["disable"] == 1
    assert sum(image.is_disabled for image in own_images(stable.clients)) == 1


@pytest.mark.parametrize("most", ["0", "-1", "many", "1.5"])
def test_number_that_is_none_is_a_usage_error(stable: Account, most: str) -> None:
    with pytest.raises(UsageError, match=f"`--most {most}` must be a whole number from 1"):
        stable.prune(most=most)


def test_a_channel_that_is_being_changed_is_waited_for_by_whoever_comes_later(stable: Account) -> None:
    owner = LockOwner("20260101-000000-0000", "who", "host")
    lock = ChannelLock(stable.clients, "stable", owner, datetime(2100, 1, 1, tzinfo=UTC), print)
    lock.acquire()

    with pytest.raises(GpunodesError, match="run 20260101-000000-0000"):
        stable.prune()
    stable.prune(apply=False)
    lock.release()

    assert stable.prune().stopped == ""


def test_document_says_what_was_decided_and_why(stable: Account) -> None:
    planned = prune_report.document(stable.prune(apply=False), "stable")
    pruned = prune_report.document(stable.prune(), "stable")
    again = prune_report.document(stable.prune(), "canary")

    assert (planned["ami_id"], pruned["ami_id"], again["ami_id"]) == (stable.images[-1], stable.images[-1], "")
    assert (len(planned["done"]), len(pruned["done"]), len(again["done"])) == (0, 2, 0)
    assert json.dumps([planned, pruned, again])
    assert (planned["decision"], planned["reason"]) == (
        "planned",
        "deprecate 2 of 5 images; nothing was changed, --apply does it",
    )
    assert (pruned["decision"], pruned["reason"]) == ("pruned", "2 of 2 done: deprecate 2")
    assert (again["decision"], again["reason"]) == ("nothing", "none of 5 images is due")
    assert [row["action"] for row in planned["images"]].count("deprecate") == 2
