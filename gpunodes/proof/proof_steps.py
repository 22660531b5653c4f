"""The steps of `test-instance`: each looks at the instance, or does something to it, and adds checks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from gpunodes.aws import Clients
from gpunodes.errors import ToolError
from gpunodes.evidence.explain import explain
from gpunodes.proof import (
    boot_checks,
    clone,
    gpu_checks,
    image_checks,
    launch,
    memory_checks,
    service_checks,
    terraform,
)
from gpunodes.proof.before_launch import promised_gpus
from gpunodes.proof.check import Check, check
from gpunodes.proof.datapoints import DatapointReader, Readings, Series
from gpunodes.proof.gpu_checks import Gpu, PromisedGpus
from gpunodes.proof.gpu_load import GpuLoad
from gpunodes.proof.instance_facts import InstanceFacts, look_around
from gpunodes.proof.launch import TestInstance
from gpunodes.proof.memory_checks import Level
from gpunodes.proof.promised_metrics import AGENT_NAMESPACE, GPU_NAMESPACE, name_of
from gpunodes.proof.service_checks import AGENT, GPUMON, Killed
from gpunodes.recipe import ami, flavors
from gpunodes.target import Target

_SAMPLES_SECONDS = 3.0  # gpumon samples each second: after this a level of memory is in its samples
_RESTART_SECONDS = 10.0
_CLOCK_MARGIN = timedelta(minutes=15)
_AGENT_METRICS = ("mem_used_percent", "swap_used_percent")
# Stopping publishes what is held, so that nobody waits for the minute to end.
_PUBLISH_NOW = f"! systemctl is-active --quiet {GPUMON} || sudo systemctl restart {GPUMON}"


@dataclass
class ProofSteps:
    """A proof while it runs; each method without arguments is a step.

    Attributes:
        target: where.
        instance: the test instance.
        asked_ami: the image; None for the newest candidate.
        instance_type: of the test instance.
        image: as in DescribeImages, once it is known.
        checks: made so far.
    """

    target: Target
    instance: TestInstance
    asked_ami: str | None
    instance_type: str
    image: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    freed_at: datetime | None = None
    _origin: clone.Origin = field(default_factory=clone.Origin)
    _promised: PromisedGpus = field(default_factory=lambda: PromisedGpus("", 0, "", 0))
    _facts: InstanceFacts | None = None
    _gpus: list[Gpu] = field(default_factory=list)
    _before: Readings = field(default_factory=dict)
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _load: GpuLoad | None = None
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
        terraform.version()
        launch.check_connection_tools(self.target)
        self.image = ami.describe(self.clients, self.asked_ami) if self.asked_ami else ami.newest_to_prove(self.clients)
        self._promised = promised_gpus(self.clients, self.image, self.instance_type)
        settings = self.instance.settings
        self._origin = clone.origin_of(settings, self.image)
        flavor = ami.tags_of(self.image).get("gpunodes:flavor", self.target.flavor)
        self.instance.ssh_username = flavors.load(flavor).ssh_username
        explained = explain(self.clients, settings, self.ami_id)
        tolerates = self.target.tolerates_missing_calls
        self.checks.append(image_checks.image_is_sealed(explained.aws, tolerates_missing=tolerates))
        self.checks.append(image_checks.image_is_recorded(explained.digest))

    def launch(self) -> None:
        """Terraform."""
        self.instance.launch(self.ami_id, self.instance_type)

    def look_at_the_boot(self) -> None:
        """What the instance is like, and what it inherited."""
        self._facts = look_around(self.instance.remote)
        self.checks += self._boot_checks(self._facts)
        found = clone.look_at(self.instance.remote, self._origin)
        self.checks.append(boot_checks.nothing_is_inherited(found, self._origin.instance_id))

    def look_at_services(self) -> None:
        """Whether both run; and kill one of them, which takes a minute to come back."""
        self.checks += [
            service_checks.is_active(unit, service_checks.state_of(self.instance.remote, unit))
            for unit in (GPUMON, AGENT)
        ]
        self._killed_agent = service_checks.kill(self.instance.remote, AGENT)

    def look_at_gpus(self) -> None:
        """Open a CUDA context on each."""
        error = ""
        try:
            self._gpus = self._gpu_load.start()
        except ToolError as failure:
            error = str(failure)
        self.checks.append(gpu_checks.gpus_are_there(self._gpus, self._promised, error))
        self.checks.append(gpu_checks.gpus_are_the_model(self._gpus, self._promised))

    def wait_for_first_datapoints(self) -> None:
        """Every GPU's memory, published as in everyday life."""
        series = [self._memory_series(gpu) for gpu in self._gpus]
        self._before = self._reader.wait_for(series, "Maximum", _all_arrived, self._patience(GPUMON))
        self.checks.append(memory_checks.memory_arrives(self._before))

    def climb(self) -> None:
        """The staircase: allocate, publish, read back; three times."""
        for share in memory_checks.SHARES if self._gpus else ():
            sizes = memory_checks.level_sizes(self._gpus, share)
            held = dict(zip((self._memory_series(gpu) for gpu in self._gpus), sizes, strict=True))
            level = Level(share, self._gpu_load.allocate(sizes), held)
            self.levels.append(level)
            time.sleep(_SAMPLES_SECONDS)
            self._rows += self._see(level)
        self.checks.append(memory_checks.memory_rises(self._rows))

    def free(self) -> None:
        """Give the memory back."""
        if self._gpus:
            self.freed_at = self._gpu_load.free()
            self._gpu_load.stop()

    def kill_gpumon(self) -> None:
        """`kill -9`; it must come back by itself. What it had published stays."""
        killed = service_checks.kill(self.instance.remote, GPUMON)
        self.checks.append(service_checks.comes_back(self.instance.remote, killed))

    def see_memory_fall(self) -> None:
        """In a minute that began after the allocation."""
        since = self.instance.started_at
        minimum: Readings = {}
        if self.freed_at and self.levels:
            since = memory_checks.first_minute_after_free(self.levels[-1].at, self.freed_at)
            self._wait_until(since + timedelta(seconds=_SAMPLES_SECONDS))
            # What never rose will not fall: then look only as long as a restart takes to publish.
            has_risen = bool(self._rows) and all(row["fits"] for row in self._rows)
            patience = self._patience(GPUMON) if has_risen else min(_RESTART_SECONDS, self._patience(GPUMON))
            self._publish_now()
            minimum = self._reader.wait_for(
                list(self._before), "Minimum", lambda now: self._fall(now, since).passed is True, patience
            )
        self.checks.append(self._fall(minimum, since))

    def wait_for_agent(self) -> None:
        """That it is back, and memory, swap and filesystem."""
        if self._killed_agent:
            self.checks.append(service_checks.comes_back(self.instance.remote, self._killed_agent))
        instance = {"InstanceId": self.instance.instance_id}
        root = self.instance.remote.run("findmnt --noheadings --output FSTYPE --target /").strip()
        series = [Series.of(AGENT_NAMESPACE, metric, instance) for metric in _AGENT_METRICS]
        series.append(Series.of(AGENT_NAMESPACE, "disk_used_percent", {**instance, "path": "/", "fstype": root}))
        readings = self._reader.wait_for(series, "Average", _all_arrived, self._patience(AGENT))
        missing = [str(entry) for entry, points in readings.items() if not points]
        reason = f"{len(readings) - len(missing)} of {len(readings)} series have datapoints"
        reason += f"; missing: {'; '.join(missing)}" if missing else ""
        self.checks.append(check("agent_metrics_arrive", not missing, reason, {"missing": missing}))

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

    def load_document(self) -> list[dict[str, Any]]:
        """What was held when, for each GPU, as the record of a proof has it."""
        freed_at = self.freed_at.isoformat() if self.freed_at else None
        return [
            {
                "gpu_index": gpu.index,
                "gpu_uuid": gpu.uuid,
                "steps": [
                    {
                        "at": level.at.isoformat(),
                        "bytes": level.held_bytes[self._memory_series(gpu)],
                        "share": level.share,
                    }
                    for level in self.levels
                ],
                "freed_at": freed_at,
            }
            for gpu in self._gpus
        ]

    @property
    def _gpu_load(self) -> GpuLoad:
        if self._load is None:
            self._load = GpuLoad(self.instance.remote)
        return self._load

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

    def _see(self, level: Level) -> list[dict[str, Any]]:
        """Publish and read a step back until it is what was allocated, or patience ends."""
        first = [row for row in self._rows if row["share"] == self.levels[0].share]

        def rows(maximum: Readings) -> list[dict[str, Any]]:
            return memory_checks.level_rows(level, first, self._before, maximum)

        has_fitted = all(row["fits"] for row in self._rows)
        patience = self._patience(GPUMON) if has_fitted else min(_RESTART_SECONDS, self._patience(GPUMON))
        self._publish_now()
        readings = self._reader.wait_for(
            list(level.held_bytes), "Maximum", lambda now: all(row["fits"] for row in rows(now)), patience
        )
        return rows(readings)

    def _fall(self, minimum: Readings, since: datetime) -> Check:
        return memory_checks.memory_falls(self.levels[0] if self.levels else None, self._before, minimum, since)

    def _publish_now(self) -> None:
        self.instance.remote.run(_PUBLISH_NOW)

    def _wait_until(self, moment: datetime) -> None:
        time.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()))

    def _memory_series(self, gpu: Gpu) -> Series:
        return Series.of(
            GPU_NAMESPACE,
            name_of("memory_used_bytes"),
            {"InstanceId": self.instance.instance_id, "GpuIndex": str(gpu.index), "GpuUuid": gpu.uuid},
        )

    def _patience(self, unit: str) -> float:
        """No datapoint comes from a service that does not run: look once."""
        is_active = any(made.passed for made in self.checks if made.check_id == service_checks.ACTIVE[unit])
        return self.target.datapoint_patience_seconds if is_active else 0.0


def _all_arrived(readings: Readings) -> bool:
    return all(readings.values())
