"""Makes the machines match what the API reports, the way a kubelet makes containers match pods."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from localaws.api import Ec2Call
from localaws.cgroups import ControlGroups
from localaws.errors import LocalAwsError
from localaws.images import ImageStore
from localaws.machines import InstanceSpec, Machine
from localaws.network import on_subnet

_LOG = logging.getLogger(__name__)
_WANTED_RUNNING = frozenset({"pending", "running"})
_ENDED = frozenset({"shutting-down", "terminated"})


class Api(Protocol):
    """What the sync asks of the API."""

    def instances(self) -> list[dict[str, Any]]:
        """Every instance, as in DescribeInstances."""

    def images(self) -> list[dict[str, Any]]:
        """Every image of the account, as in DescribeImages."""

    def report_stopped(self, instance_id: str) -> None:
        """Tell that an instance halted from inside."""


class InstanceSync:
    """Holds the machines. Only its own thread starts and stops them, so their order is the order of the calls."""

    def __init__(self, api: Api, store: ImageStore, folder: Path, groups: ControlGroups) -> None:
        self._api = api
        self._groups = groups
        self._store = store
        self._folder = folder
        self._machines: dict[str, Machine] = {}
        self._failures: dict[str, str] = {}
        self._by_address: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def reconcile(self, calls: Iterable[Ec2Call] = ()) -> None:
        """One pass: stop, capture images, delete, start, reboot.

        An image is made of an instance before that instance is deleted whatever the caller did meanwhile: CreateImage
        cannot follow TerminateInstances, and images are asked for after instances.

        Args:
            calls: what was asked of the API since the last pass; only RebootInstances and CreateImage matter.
        """
        calls = list(calls)
        instances = {instance["InstanceId"]: instance for instance in self._api.instances()}
        images = self._api.images()
        self._remember_addresses(instances)
        self._report_halted(instances)
        self._stop_unwanted(instances)
        self._capture(images, {call.parameters.get("InstanceId", "") for call in calls if _is_no_reboot(call)})
        self._delete_ended(instances)
        self._store.keep_only({image["ImageId"] for image in images}, self._layers_in_use())
        self._start_wanted(instances)
        self._reboot(calls)

    def instance_at(self, address: str) -> dict[str, Any] | None:
        """The running instance with this private address, as in DescribeInstances."""
        with self._lock:
            return self._by_address.get(address)

    def machines(self) -> list[dict[str, str]]:
        """Id, image, address and state of every machine, for `status`."""
        with self._lock:
            machines = list(self._machines.values())
            failures = dict(self._failures)
        rows = [
            {
                "instance_id": machine.spec.instance_id,
                "image_id": machine.image.image_id,
                "instance_type": machine.spec.instance_type,
                "address": machine.spec.private_address,
                "state": "running" if machine.is_started else "stopped",
            }
            for machine in machines
        ]
        return rows + [{"instance_id": name, "state": f"failed: {reason}"} for name, reason in failures.items()]

    def stop_all(self) -> None:
        """Halt every machine at once and delete their disks; for `down`."""
        self._stop(list(self._machines.values()))
        for machine in list(self._machines.values()):
            machine.destroy()
        self._machines.clear()

    def _remember_addresses(self, instances: dict[str, dict[str, Any]]) -> None:
        running = {i["PrivateIpAddress"]: i for i in instances.values() if i["State"]["Name"] in _WANTED_RUNNING}
        with self._lock:
            self._by_address = running

    def _report_halted(self, instances: dict[str, dict[str, Any]]) -> None:
        for name, machine in self._machines.items():
            if machine.has_halted and instances.get(name, {}).get("State", {}).get("Name") == "running":
                _LOG.info("%s halted from inside", name)
                self._api.report_stopped(name)
                instances[name]["State"]["Name"] = "stopped"

    def _stop_unwanted(self, instances: dict[str, dict[str, Any]]) -> None:
        self._stop(
            [
                machine
                for name, machine in self._machines.items()
                if machine.is_started and instances.get(name, {}).get("State", {}).get("Name") not in _WANTED_RUNNING
            ]
        )

    def _stop(self, machines: list[Machine]) -> None:
        for machine in machines:
            machine.request_stop()
        for machine in machines:
            machine.finish_stop()
            _LOG.info("%s stopped", machine.spec.instance_id)

    def _capture(self, images: list[dict[str, Any]], without_reboot: set[str]) -> None:
        for image in images:
            image_id = image["ImageId"]
            machine = self._machines.get(image.get("SourceInstanceId", ""))
            if image_id in self._store:
                continue
            if machine is None:
                self._alias_copy(image)
                continue
            was_running = machine.is_started
            halt = was_running and machine.spec.instance_id not in without_reboot
            if halt:
                machine.stop()
            self._store.capture(image_id, machine.writes, machine.image)
            _LOG.info("%s captured from %s", image_id, machine.spec.instance_id)
            if halt:
                machine.start()

    def _alias_copy(self, image: dict[str, Any]) -> None:
        source = image.get("SourceImageId", "")
        if source in self._store:
            self._store.alias(image["ImageId"], source)

    def _delete_ended(self, instances: dict[str, dict[str, Any]]) -> None:
        for name, machine in list(self._machines.items()):
            if instances.get(name, {}).get("State", {}).get("Name", "terminated") in _ENDED:
                machine.destroy()
                with self._lock:
                    del self._machines[name]
                _LOG.info("%s deleted", name)

    def _layers_in_use(self) -> set[Path]:
        return {layer for machine in self._machines.values() for layer in machine.image.layers}

    def _start_wanted(self, instances: dict[str, dict[str, Any]]) -> None:
        for name, instance in instances.items():
            if instance["State"]["Name"] not in _WANTED_RUNNING or name in self._failures:
                continue
            machine = self._machines.get(name)
            if machine is not None and machine.is_started:
                continue
            try:
                (machine or self._create(instance)).start()
                _LOG.info("%s started", name)
            except LocalAwsError as error:
                _LOG.error("%s has no machine: %s", name, error)
                with self._lock:
                    self._failures[name] = str(error)

    def _create(self, instance: dict[str, Any]) -> Machine:
        name, address = instance["InstanceId"], instance["PrivateIpAddress"]
        if not on_subnet(address):
            raise LocalAwsError(f"{address} is not an address of the offline subnet; launch with its SubnetId.")
        spec = InstanceSpec(name, instance["InstanceType"], address, instance["NetworkInterfaces"][0]["MacAddress"])
        machine = Machine(spec, self._store.get(instance["ImageId"]), self._folder / name, self._groups)
        with self._lock:
            self._machines[name] = machine
        return machine

    def _reboot(self, calls: list[Ec2Call]) -> None:
        asked = {
            value
            for call in calls
            if call.action == "RebootInstances"
            for key, value in call.parameters.items()
            if key.startswith("InstanceId")
        }
        for machine in [self._machines[name] for name in asked if name in self._machines]:
            if machine.is_started:
                machine.stop()
                machine.start()
                _LOG.info("%s rebooted", machine.spec.instance_id)


def _is_no_reboot(call: Ec2Call) -> bool:
    return call.action == "CreateImage" and call.parameters.get("NoReboot") == "true"
