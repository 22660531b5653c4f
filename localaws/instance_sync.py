"""Makes the machines match what the API reports, the way a kubelet makes containers match pods."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from localaws.api import Ec2Call
from localaws.errors import LocalAwsError
from localaws.images import Image, ImageStore
from localaws.machines import InstanceSpec
from localaws.network import on_subnet

_LOG = logging.getLogger(__name__)
_WANTED_RUNNING = frozenset({"pending", "running"})
_BOOT_AGAIN = frozenset({"RebootInstances", "StopInstances"})
_ENDED = frozenset({"shutting-down", "terminated"})


class Api(Protocol):
    """What the sync asks of the API."""

    def instances(self) -> list[dict[str, Any]]:
        """Every instance, as in DescribeInstances."""

    def images(self) -> list[dict[str, Any]]:
        """Every image of the account, as in DescribeImages."""

    def report_stopped(self, instance_id: str) -> None:
        """Tell that an instance halted from inside."""


class Machine(Protocol):
    """What the sync does with an instance's machine; `machines.Machine` is the real one."""

    @property
    def spec(self) -> InstanceSpec:
        """The instance."""

    @property
    def image(self) -> Image:
        """What its disk was made from."""

    @property
    def writes(self) -> Path:
        """All that the instance changed on its disk."""

    @property
    def is_started(self) -> bool:
        """Whether it was started and not stopped from outside since."""

    @property
    def has_halted(self) -> bool:
        """Whether it was started and halted by itself."""

    @property
    def has_rebooted(self) -> bool:
        """Whether it was started and wants to be started again by itself."""

    def start(self) -> None:
        """Boot it."""

    def request_stop(self) -> None:
        """Ask it to halt."""

    def finish_stop(self) -> None:
        """Wait for the halt that was asked for."""

    def stop(self) -> None:
        """Halt it and wait."""

    def destroy(self) -> None:
        """Stop it and delete its disk."""


class InstanceSync:
    """Holds the machines. Only its own thread starts and stops them, so their order is the order of the calls.

    What fails for one machine is logged once and shown by `machines`; the others go on.

    Args:
        api: tells what should exist.
        store: the images' disks.
        make_machine: an instance's machine, not started yet, for its description and its image.
    """

    def __init__(self, api: Api, store: ImageStore, make_machine: Callable[[InstanceSpec, Image], Machine]) -> None:
        self._api = api
        self._store = store
        self._make_machine = make_machine
        self._machines: dict[str, Machine] = {}
        self._failures: dict[str, str] = {}
        self._lost_images: set[str] = set()
        self._by_address: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def reconcile(self, calls: Iterable[Ec2Call] = ()) -> None:
        """One pass: stop, capture images, delete, start, reboot.

        An image is made of an instance before that instance is deleted whatever the caller did meanwhile: CreateImage
        cannot follow TerminateInstances, and images are asked for after instances.

        Args:
            calls: what was asked of the API since the last pass; RebootInstances, StopInstances, CreateImage and
                CopyImage matter.
        """
        calls = list(calls)
        instances = {instance["InstanceId"]: instance for instance in self._api.instances()}
        images = self._api.images()
        self._remember_addresses(instances)
        self._forget_failures(instances)
        self._report_halted(instances)
        self._stop_unwanted(instances)
        self._capture(images, {call.parameters.get("InstanceId", "") for call in calls if _is_no_reboot(call)})
        self._alias_copies(images, calls)
        self._delete_ended(instances)
        boot_again = self._asked_to_boot_again(calls)
        self._start_wanted(instances)
        self._reboot(boot_again)
        # Last: an image may be deregistered right after RunInstances, whose instance still needs the disk.
        self._store.keep_only({image["ImageId"] for image in images}, self._layers_in_use())

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
            if machine.spec.instance_id not in failures
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

    def _forget_failures(self, instances: dict[str, dict[str, Any]]) -> None:
        """Once the caller stopped or terminated an instance that failed, a new start is a new attempt."""
        with self._lock:
            self._failures = {
                name: reason
                for name, reason in self._failures.items()
                if instances.get(name, {}).get("State", {}).get("Name") in _WANTED_RUNNING
            }

    @contextmanager
    def _guarded(self, machine_id: str, what: str) -> Iterator[None]:
        """Let a failure cost this machine only, and say it once."""
        try:
            yield
        except (LocalAwsError, OSError) as error:
            if machine_id not in self._failures:
                _LOG.error("%s could not be %s: %s", machine_id, what, error)
            with self._lock:
                self._failures[machine_id] = str(error)
        else:
            _LOG.info("%s %s", machine_id, what)
            with self._lock:
                self._failures.pop(machine_id, None)

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
            with self._guarded(machine.spec.instance_id, "stopped"):
                machine.finish_stop()

    def _capture(self, images: list[dict[str, Any]], without_reboot: set[str]) -> None:
        for image in images:
            image_id = image["ImageId"]
            if image_id in self._store or image_id in self._lost_images:
                continue
            machine = self._machines.get(image.get("SourceInstanceId", ""))
            if machine is None:
                continue
            halt = machine.is_started and machine.spec.instance_id not in without_reboot
            if halt:
                with self._guarded(machine.spec.instance_id, f"halted for {image_id}"):
                    machine.stop()
            self._capture_one(image_id, machine)
            if halt:
                with self._guarded(machine.spec.instance_id, f"started after {image_id}"):
                    machine.start()

    def _capture_one(self, image_id: str, machine: Machine) -> None:
        try:
            self._store.capture(image_id, machine.writes, machine.image)
        except (LocalAwsError, OSError) as error:
            self._lost_images.add(image_id)  # the disk has changed when the next attempt could be made
            _LOG.error("%s could not be captured from %s: %s", image_id, machine.spec.instance_id, error)
        else:
            _LOG.info("%s captured from %s", image_id, machine.spec.instance_id)

    def _alias_copies(self, images: list[dict[str, Any]], calls: list[Ec2Call]) -> None:
        # moto's DescribeImages does not tell what an image was copied from; names are unique within an account.
        copied = [call.parameters for call in calls if call.action == "CopyImage"]
        source_of = {parameters.get("Name"): parameters.get("SourceImageId", "") for parameters in copied}
        for image in images:
            source = source_of.get(image.get("Name"), "")
            if image["ImageId"] not in self._store and source in self._store:
                self._store.alias(image["ImageId"], source)

    def _delete_ended(self, instances: dict[str, dict[str, Any]]) -> None:
        for name, machine in list(self._machines.items()):
            if instances.get(name, {}).get("State", {}).get("Name", "terminated") in _ENDED:
                with self._guarded(name, "deleted"):
                    machine.destroy()
                    with self._lock:
                        del self._machines[name]

    def _layers_in_use(self) -> set[Path]:
        return {layer for machine in self._machines.values() for layer in machine.image.layers}

    def _start_wanted(self, instances: dict[str, dict[str, Any]]) -> None:
        for name, instance in instances.items():
            if instance["State"]["Name"] not in _WANTED_RUNNING or name in self._failures:
                continue
            machine = self._machines.get(name)
            if machine is not None and machine.is_started and not machine.has_rebooted:
                continue
            with self._guarded(name, "started"):
                machine = machine or self._create(instance)
                machine.stop()  # what a reboot from inside left
                machine.start()

    def _create(self, instance: dict[str, Any]) -> Machine:
        name, address = instance["InstanceId"], instance["PrivateIpAddress"]
        if not on_subnet(address):
            raise LocalAwsError(f"{address} is not an address of the offline subnet; launch with its SubnetId.")
        spec = InstanceSpec(name, instance["InstanceType"], address, instance["NetworkInterfaces"][0]["MacAddress"])
        machine = self._make_machine(spec, self._store.get(instance["ImageId"]))
        with self._lock:
            self._machines[name] = machine
        return machine

    def _asked_to_boot_again(self, calls: list[Ec2Call]) -> list[Machine]:
        """Machines that run and shall boot anew: after RebootInstances, or a stop that a start has overtaken."""
        asked = {
            value
            for call in calls
            if call.action in _BOOT_AGAIN
            for key, value in call.parameters.items()
            if key.startswith("InstanceId")
        }
        return [machine for name, machine in self._machines.items() if name in asked and machine.is_started]

    def _reboot(self, machines: list[Machine]) -> None:
        for machine in machines:
            with self._guarded(machine.spec.instance_id, "rebooted"):
                machine.stop()
                machine.start()


def _is_no_reboot(call: Ec2Call) -> bool:
    return call.action == "CreateImage" and call.parameters.get("NoReboot") == "true"
