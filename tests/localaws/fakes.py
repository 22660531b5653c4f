"""Stand-ins for what the instance sync talks to; each writes what happened into one list, in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from localaws.errors import CommandFailed
from localaws.images import Image
from localaws.machines import InstanceSpec


class FakeApi:
    """The API's answers, changed by the test."""

    def __init__(self, events: list[str]) -> None:
        self._events = events
        self._instances: dict[str, dict[str, Any]] = {}
        self._images: dict[str, dict[str, Any]] = {}

    def put(self, instance_id: str, state: str, *, image_id: str = "ami-base", address: str = "198.51.100.4") -> None:
        self._instances[instance_id] = {
            "InstanceId": instance_id,
            "ImageId": image_id,
            "InstanceType": "g4dn.xlarge",
            "PrivateIpAddress": address,
            "NetworkInterfaces": [{"MacAddress": "02:00:00:00:00:01"}],
            "State": {"Name": state},
        }

    def put_image(self, image_id: str, **described: str) -> None:
        self._images[image_id] = {"ImageId": image_id, "Name": f"name of {image_id}", **described}

    def forget(self, name: str) -> None:
        self._instances.pop(name, None)
        self._images.pop(name, None)

    def instances(self) -> list[dict[str, Any]]:
        return [{**instance, "State": dict(instance["State"])} for instance in self._instances.values()]

    def images(self) -> list[dict[str, Any]]:
        return list(self._images.values())

    def report_stopped(self, instance_id: str) -> None:
        self._events.append(f"report {instance_id}")
        self._instances[instance_id]["State"]["Name"] = "stopped"


class FakeMachine:
    """A machine without a container: `writes` is a real folder, `ended` is how it ended from inside."""

    def __init__(self, spec: InstanceSpec, image: Image, folder: Path, events: list[str], broken: set[str]) -> None:
        self.spec = spec
        self.image = image
        self.ended = ""
        self.writes = folder / "writes"
        self.is_started = False
        self._events = events
        self._broken = broken

    @property
    def has_halted(self) -> bool:
        return self.is_started and self.ended == "halt"

    @property
    def has_rebooted(self) -> bool:
        return self.is_started and self.ended == "reboot"

    def start(self) -> None:
        self._do("start")
        assert not self.is_started
        self.writes.mkdir(parents=True, exist_ok=True)
        self.ended = ""
        self.is_started = True

    def request_stop(self) -> None:
        if self.is_started:
            self._do("request stop")

    def finish_stop(self) -> None:
        if self.is_started:
            self._do("stop")
            self.is_started = False

    def stop(self) -> None:
        self.finish_stop()

    def destroy(self) -> None:
        self.stop()
        self._do("destroy")
        self.writes.rename(self.writes.with_name("gone"))

    def _do(self, what: str) -> None:
        self._events.append(f"{what} {self.spec.instance_id}")
        if f"{what} {self.spec.instance_id}" in self._broken:
            raise CommandFailed([what], 1, f"{self.spec.instance_id} is broken")
