"""The steps of `test-instance`: each looks at the instance, or does something to it, and adds checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from gpunodes.aws import Clients
from gpunodes.errors import ToolError
from gpunodes.evidence.explain import explain
from gpunodes.plan.cost import HourlyPrice, hourly_price
from gpunodes.proof import (
    boot_checks,
    clone,
    gpu_checks,
    image_checks,
    launch,
    second_clone,
    service_checks,
    terraform,
)
from gpunodes.proof.before_launch import promised_gpus, require_choice_of_zone, require_quota_of_second_clone
from gpunodes.proof.check import Check
from gpunodes.proof.datapoint_steps import DatapointLook
from gpunodes.proof.datapoints import DatapointReader, Readings
from gpunodes.proof.gpu_checks import PromisedGpus
from gpunodes.proof.gpu_load import GpuLoad
from gpunodes.proof.instance_facts import InstanceFacts, look_around
from gpunodes.proof.launch import TestInstance, Wish
from gpunodes.proof.memory_staircase import Staircase
from gpunodes.proof.service_checks import AGENT, GPUMON, Killed
from gpunodes.recipe import ami, flavors
from gpunodes.target import Target

_CLOCK_MARGIN = timedelta(minutes=15)


@dataclass
class ProofSteps:
    """A proof while it runs; each method without arguments is a step.

    Attributes:
        target: where.
        instance: the test instance.
        asked_ami: the image; None for the newest candidate.
        instance_type: of the test instance.
        wish: how it is launched.
        image: as in DescribeImages, once it is known.
        checks: made so far.
        price: of the instance.
    """

    target: Target
    instance: TestInstance
    asked_ami: str | None
    instance_type: str
    wish: Wish
    image: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    price: HourlyPrice = field(default_factory=lambda: HourlyPrice(None, "nobody asked"))
    _origin: clone.Origin = field(default_factory=clone.Origin)
    _promised: PromisedGpus = field(default_factory=lambda: PromisedGpus("", 0, "", 0))
    _facts: InstanceFacts | None = None
    _second: TestInstance | None = None
    _staircase: Staircase | None = None
    _datapoints: DatapointLook | None = None
    _killed_agent: Killed | None = None

    @property
    def clients(self) -> Clients:
        """Of the target."""
        return self.instance.clients

    @property
    def ami_id(self) -> str:
        """The image; empty before it was looked up."""
        return str(self.image.get("ImageId", ""))

    def preflight(self) -> None:
        """Tools, the type's GPUs, the image and what AWS says of it."""
        require_choice_of_zone(self.target, self.wish.zone)
        terraform.version()
        launch.check_connection_tools(self.target)
        self.image = ami.describe(self.clients, self.asked_ami) if self.asked_ami else ami.newest_to_prove(self.clients)
        self._promised = promised_gpus(self.clients, self.image, self.instance_type, spot=self.wish.spot)
        require_quota_of_second_clone(self.clients, self.image)
        settings = self.instance.settings
        self._origin = clone.origin_of(settings, self.image)
        flavor = ami.tags_of(self.image).get("gpunodes:flavor", self.target.flavor)
        self.instance.ssh_username = flavors.load(flavor).ssh_username
        self.price = hourly_price(self.clients, self.instance_type, spot=self.wish.spot)
        explained = explain(self.clients, settings, self.ami_id)
        tolerates = self.target.tolerates_missing_calls
        self.checks.append(image_checks.image_is_sealed(explained.aws, tolerates_missing=tolerates))
        self.checks.append(image_checks.image_is_recorded(explained.digest))

    def launch(self) -> None:
        """Terraform."""
        self.instance.launch(self.ami_id, self.instance_type, self.wish)
        self._second = second_clone.launch(self.instance, self.image)

    def look_at_the_boot(self) -> None:
        """What the instance is like, what it inherited, and whether another one is somebody else."""
        self._facts = look_around(self.instance.remote)
        self.checks += self._boot_checks(self._facts)
        found = clone.look_at(self.instance.remote, self._origin)
        self.checks.append(boot_checks.nothing_is_inherited(found, self._origin.instance_id))
        if self._second is not None:
            other = second_clone.look_at(self._second, self._origin)
            self.checks.append(boot_checks.clones_differ(found, other))

    def look_at_services(self) -> None:
        """Whether both run; and kill one of them, which takes a minute to come back."""
        self.checks += [
            service_checks.is_active(unit, service_checks.state_of(self.instance.remote, unit))
            for unit in (GPUMON, AGENT)
        ]
        self._killed_agent = service_checks.kill(self.instance.remote, AGENT)

    def look_at_gpus(self) -> None:
        """Read NVML from now on, and open a CUDA context on each."""
        self._datapoints = DatapointLook(
            instance_id=self.instance.instance_id,
            builder_id=self._origin.instance_id,
            shell=self.instance.remote,
            reader=self._reader,
            gpu_count=self._promised.count,
        )
        self._datapoints.begin()
        load, error, gpus = GpuLoad(self.instance.remote), "", []
        try:
            gpus = load.start()
        except ToolError as failure:
            error = str(failure)
        self.checks.append(gpu_checks.gpus_are_there(gpus, self._promised, error))
        self.checks.append(gpu_checks.gpus_are_the_model(gpus, self._promised))
        self._datapoints.gpus = gpus
        self._staircase = Staircase(
            self.instance.instance_id, self.instance.remote, self._reader, gpus, load, lambda: self._patience(GPUMON)
        )

    def wait_for_first_datapoints(self) -> None:
        """Every GPU's memory, published as in everyday life."""
        self.checks.append(self.staircase.wait_for_first_datapoints())

    def climb(self) -> None:
        """All steps of the staircase but the last."""
        self.staircase.climb()

    def climb_in_an_outage(self) -> None:
        """The last step of the staircase while the role may not publish."""
        self.checks += self.staircase.climb_in_an_outage(self.clients, self.instance.outputs["role_name"])

    def free(self) -> None:
        """Give the memory back."""
        self.staircase.free()

    def see_memory_fall(self) -> None:
        """In a minute that began after the allocation."""
        self.checks.append(self.staircase.see_memory_fall())

    @property
    def datapoints(self) -> DatapointLook:
        """What CloudWatch has.

        Raises:
            ToolError: nobody has looked at the GPUs yet.
        """
        if self._datapoints is None:
            raise ToolError("The datapoints were asked for before the GPUs; run the steps in their order.")
        return self._datapoints

    @property
    def staircase(self) -> Staircase:
        """The memory of the GPUs.

        Raises:
            ToolError: nobody has looked at them yet.
        """
        if self._staircase is None:
            raise ToolError("The memory was asked for before the GPUs; run the steps in their order.")
        return self._staircase

    def kill_gpumon(self) -> None:
        """`kill -9`; it must come back by itself. What it had published stays."""
        killed = service_checks.kill(self.instance.remote, GPUMON)
        self.checks.append(service_checks.comes_back(self.instance.remote, killed))

    def look_at_datapoints(self) -> None:
        """All that is promised, beside NVML; first the agent must be back, which was killed."""
        outages = []
        if self._killed_agent:
            self.checks.append(service_checks.comes_back(self.instance.remote, self._killed_agent))
            outages.append((self._killed_agent.killed_at, datetime.now(UTC)))
        self.checks += self.datapoints.look(
            gpumon_patience_seconds=self._patience(GPUMON),
            agent_patience_seconds=self._patience(AGENT),
            changes=self.staircase.changes,
            agent_outages=outages,
        )
        self.datapoints.end()

    def reboot(self) -> None:
        """Boot once more and make every check of the boot and the services again."""
        if self._facts is None:
            raise ToolError("The instance was rebooted before it was looked at; run the steps in their order.")
        self.instance.reboot()
        after = look_around(self.instance.remote)
        again = self._boot_checks(after)
        for unit in (GPUMON, AGENT):
            again.append(service_checks.is_active(unit, service_checks.wait_until_active(self.instance.remote, unit)))
        self.checks.append(boot_checks.survives_a_reboot(self._facts, after, again))

    def look_for_the_image(self) -> str:
        """Its state by now: nobody can launch, and nobody can tag, what was deregistered meanwhile."""
        state = ami.state_now(self.clients, self.ami_id)
        found = image_checks.image_is_still_there(self.ami_id, state)
        self.checks = [made for made in self.checks if made.check_id != found.check_id] + [found]
        return state

    def series_document(self) -> list[dict[str, Any]]:
        """What CloudWatch has of each series; empty before anybody looked."""
        return self._datapoints.series if self._datapoints else []

    def load_document(self) -> list[dict[str, Any]]:
        """What was held when, for each GPU; empty before anybody looked at the GPUs."""
        return self._staircase.document() if self._staircase else []

    @property
    def _reader(self) -> DatapointReader:
        # The id of a fresh instance is in no older datapoint; the margin is for clocks that differ.
        return DatapointReader(self.clients, self.instance.started_at - _CLOCK_MARGIN)

    def _boot_checks(self, facts: InstanceFacts) -> list[Check]:
        settings = self.instance.settings
        return boot_checks.of_boot(
            facts,
            boot_budget_seconds=settings.boot_budget_seconds,
            allowed=settings.allowed_listeners.split(),
        )

    def _patience(self, unit: str) -> float:
        """No datapoint comes from a service that does not run: look once."""
        is_active = any(made.passed for made in self.checks if made.check_id == service_checks.ACTIVE[unit])
        return self.target.datapoint_patience_seconds if is_active else 0.0


def _all_arrived(readings: Readings) -> bool:
    return all(readings.values())
