from __future__ import annotations

import logging
from pathlib import Path

import pytest

from localaws.api import Ec2Call
from localaws.images import Image, ImageStore
from localaws.instance_sync import InstanceSync
from localaws.machines import InstanceSpec
from tests.localaws.fakes import FakeApi, FakeMachine


class World:
    """A sync with fakes around it; `events` is what happened to machines and images, in order."""

    def __init__(self, folder: Path) -> None:
        self.events: list[str] = []
        self.broken: set[str] = set()
        self.api = FakeApi(self.events)
        self.made: dict[str, FakeMachine] = {}
        self.base = Image("ami-base", (folder / "base",))
        self._folder = folder
        self.store = _TellingStore(folder / "images", self.base, self.events)
        self.sync = InstanceSync(self.api, self.store, self._make)

    def _make(self, spec: InstanceSpec, image: Image) -> FakeMachine:
        machine = FakeMachine(spec, image, self._folder / spec.instance_id, self.events, self.broken)
        self.made[spec.instance_id] = machine
        return machine

    def reconcile(self, *calls: Ec2Call) -> list[str]:
        """What one pass did."""
        self.events.clear()
        self.sync.reconcile(calls)
        return list(self.events)

    def states(self) -> dict[str, str]:
        return {row["instance_id"]: row["state"] for row in self.sync.machines()}


class _TellingStore(ImageStore):
    def __init__(self, folder: Path, base: Image, events: list[str]) -> None:
        super().__init__(folder, [base])
        self._events = events

    def capture(self, image_id: str, writes: Path, below: Image) -> Image:
        self._events.append(f"capture {image_id}")
        return super().capture(image_id, writes, below)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("state", ["pending", "running"])
def test_instance_that_should_run_is_started_once(world: World, state: str) -> None:
    world.api.put("i-1", state)

    assert world.reconcile() == ["start i-1"]
    assert world.reconcile() == []
    assert world.made["i-1"].spec == InstanceSpec("i-1", "g4dn.xlarge", "198.51.100.4", "02:00:00:00:00:01")
    assert world.made["i-1"].image == world.base
    assert world.sync.machines() == [
        {
            "instance_id": "i-1",
            "image_id": "ami-base",
            "instance_type": "g4dn.xlarge",
            "address": "198.51.100.4",
            "state": "running",
        }
    ]


@pytest.mark.parametrize("state", ["stopped", "stopping", "shutting-down", "terminated"])
def test_instance_that_should_not_run_gets_no_machine(world: World, state: str) -> None:
    world.api.put("i-1", state)

    assert world.reconcile() == []
    assert world.made == {}


def test_stopped_instance_keeps_its_disk_and_starts_from_it(world: World) -> None:
    world.api.put("i-1", "running")
    world.reconcile()
    (world.made["i-1"].writes / "file").write_text("kept")

    world.api.put("i-1", "stopped")
    assert world.reconcile() == ["request stop i-1", "stop i-1"]
    assert world.states() == {"i-1": "stopped"}

    world.api.put("i-1", "running")
    assert world.reconcile() == ["start i-1"]
    assert (world.made["i-1"].writes / "file").read_text() == "kept"


def test_machines_are_asked_to_stop_before_one_is_waited_for(world: World) -> None:
    for name in ("i-1", "i-2"):
        world.api.put(name, "running")
    world.reconcile()
    for name in ("i-1", "i-2"):
        world.api.put(name, "stopped")

    assert world.reconcile() == ["request stop i-1", "request stop i-2", "stop i-1", "stop i-2"]


@pytest.mark.parametrize("forgotten", [False, True])
def test_ended_instance_loses_its_disk(world: World, forgotten: bool) -> None:
    world.api.put("i-1", "running")
    world.reconcile()
    if forgotten:
        world.api.forget("i-1")
    else:
        world.api.put("i-1", "terminated")

    assert world.reconcile() == ["request stop i-1", "stop i-1", "destroy i-1"]
    assert world.sync.machines() == []
    assert world.reconcile() == []


def test_image_is_captured_from_a_halted_machine_before_the_terminated_instances_disk_goes(world: World) -> None:
    world.api.put("i-1", "running")
    world.reconcile()
    (world.made["i-1"].writes / "file").write_text("baked")
    world.api.put_image("ami-1", SourceInstanceId="i-1")
    world.api.put("i-1", "terminated")

    assert world.reconcile() == ["request stop i-1", "stop i-1", "capture ami-1", "destroy i-1"]
    assert (world.store.get("ami-1").layers[0] / "file").read_text() == "baked"


def test_image_of_a_running_instance_halts_it_and_starts_it_again(world: World) -> None:
    world.api.put("i-1", "running")
    world.reconcile()
    world.api.put_image("ami-1", SourceInstanceId="i-1")

    assert world.reconcile(Ec2Call("CreateImage", {"InstanceId": "i-1"})) == ["stop i-1", "capture ami-1", "start i-1"]
    assert world.reconcile() == []


def test_image_without_reboot_lets_the_instance_run(world: World) -> None:
    world.api.put("i-1", "running")
    world.reconcile()
    world.api.put_image("ami-1", SourceInstanceId="i-1")

    call = Ec2Call("CreateImage", {"InstanceId": "i-1", "NoReboot": "true"})
    assert world.reconcile(call) == ["capture ami-1"]


def test_instance_of_a_captured_image_has_its_layers(world: World) -> None:
    world.api.put("i-1", "running")
    world.reconcile()
    world.api.put_image("ami-1", SourceInstanceId="i-1")
    world.api.put("i-2", "running", image_id="ami-1", address="198.51.100.5")

    world.reconcile()

    assert world.made["i-2"].image == world.store.get("ami-1")
    assert len(world.made["i-2"].image.layers) == 2


def test_image_that_cannot_be_captured_is_said_once_and_the_instance_runs_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.api.put("i-1", "running")
    world.reconcile()
    world.made["i-1"].writes.rmdir()
    world.api.put_image("ami-1", SourceInstanceId="i-1")

    assert world.reconcile() == ["stop i-1", "capture ami-1", "start i-1"]
    assert world.reconcile() == []
    assert [record.message.split(":")[0] for record in caplog.records if record.levelno == logging.ERROR] == [
        "ami-1 could not be captured from i-1"
    ]


def test_copied_image_has_the_disk_of_its_source(world: World) -> None:
    world.api.put_image("ami-copy", Name="copy")
    world.reconcile()
    assert "ami-copy" not in world.store

    world.reconcile(Ec2Call("CopyImage", {"Name": "copy", "SourceImageId": "ami-base"}))

    assert world.store.get("ami-copy").layers == world.base.layers


def test_image_may_be_deregistered_right_after_the_launch(world: World) -> None:
    world.api.put("i-1", "running")
    world.reconcile()
    world.api.put_image("ami-1", SourceInstanceId="i-1")
    world.reconcile()
    world.api.put("i-2", "running", image_id="ami-1", address="198.51.100.5")
    world.api.forget("ami-1")

    assert world.reconcile() == ["start i-2"]
    assert "ami-1" not in world.store
    assert world.made["i-2"].image.layers[0].is_dir()

    world.api.put("i-2", "terminated")
    world.reconcile()
    assert not world.made["i-2"].image.layers[0].exists()


def test_machine_that_cannot_start_does_not_keep_others_from_it_and_is_said_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.broken.add("start i-1")
    world.api.put("i-1", "running")
    world.api.put("i-2", "running", address="198.51.100.5")

    assert world.reconcile() == ["start i-1", "start i-2"]
    assert world.reconcile() == []
    assert world.states() == {
        "i-1": "failed: `start` failed (exit status 1): i-1 is broken",
        "i-2": "running",
    }
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 1


def test_failed_instance_can_be_tried_again_and_is_forgotten_with_its_end(world: World) -> None:
    world.broken.add("start i-1")
    world.api.put("i-1", "running")
    world.reconcile()
    world.broken.clear()
    world.api.put("i-1", "stopped")
    world.reconcile()
    world.api.put("i-1", "running")

    assert world.reconcile() == ["start i-1"]
    assert world.states() == {"i-1": "running"}

    world.api.put("i-1", "terminated")
    world.reconcile()
    assert world.states() == {}


@pytest.mark.parametrize(
    ("image_id", "address", "reason"),
    [
        ("ami-base", "172.31.0.4", "failed: 172.31.0.4 is not an address of the offline subnet"),
        ("ami-unknown", "198.51.100.4", "failed: No disk is kept for image ami-unknown"),
    ],
)
def test_instance_that_can_have_no_machine_is_told_why(world: World, image_id: str, address: str, reason: str) -> None:
    world.api.put("i-1", "running", image_id=image_id, address=address)

    assert world.reconcile() == []
    assert world.states()["i-1"].startswith(reason)


@pytest.mark.parametrize("what", ["stop i-1", "destroy i-1"])
def test_machine_that_cannot_be_given_up_is_tried_again(world: World, what: str) -> None:
    for name, address in (("i-1", "198.51.100.4"), ("i-2", "198.51.100.5")):
        world.api.put(name, "running", address=address)
    world.reconcile()
    world.broken.add(what)
    for name in ("i-1", "i-2"):
        world.api.put(name, "terminated")

    assert "destroy i-2" in world.reconcile()
    assert world.states() == {"i-1": world.states()["i-1"]}
    world.broken.clear()
    assert world.reconcile()[-1] == "destroy i-1"
    assert world.states() == {}


def test_halt_from_inside_is_reported_and_the_machine_given_up(world: World) -> None:
    world.api.put("i-1", "running")
    world.reconcile()
    world.made["i-1"].ended = "halt"

    assert world.reconcile() == ["report i-1", "request stop i-1", "stop i-1"]
    assert world.states() == {"i-1": "stopped"}
    assert world.reconcile() == []


def test_reboot_from_inside_boots_again_and_the_api_is_not_told(world: World) -> None:
    world.api.put("i-1", "running")
    world.reconcile()
    world.made["i-1"].ended = "reboot"

    assert world.reconcile() == ["stop i-1", "start i-1"]
    assert world.reconcile() == []


def test_reboot_by_the_api_stops_and_starts_those_that_were_named(world: World) -> None:
    for name in ("i-1", "i-2", "i-3"):
        world.api.put(name, "running")
    world.reconcile()

    call = Ec2Call("RebootInstances", {"InstanceId.1": "i-1", "InstanceId.2": "i-3", "InstanceId.3": "i-unknown"})
    assert world.reconcile(call) == ["stop i-1", "start i-1", "stop i-3", "start i-3"]
    assert world.reconcile(Ec2Call("CreateTags", {"ResourceId.1": "i-1"})) == []


def test_instance_is_found_at_its_address_while_it_runs(world: World) -> None:
    world.api.put("i-1", "running")
    world.reconcile()
    found = world.sync.instance_at("198.51.100.4")
    assert found is not None
    assert found["InstanceId"] == "i-1"
    assert world.sync.instance_at("198.51.100.5") is None

    world.api.put("i-1", "stopped")
    world.reconcile()
    assert world.sync.instance_at("198.51.100.4") is None


def test_everything_is_stopped_and_deleted_at_the_end(world: World) -> None:
    for name in ("i-1", "i-2"):
        world.api.put(name, "running")
    world.reconcile()
    world.events.clear()

    world.sync.stop_all()

    assert world.events == [
        *("request stop i-1", "request stop i-2", "stop i-1", "stop i-2"),
        *("destroy i-1", "destroy i-2"),
    ]
    assert world.sync.machines() == []
