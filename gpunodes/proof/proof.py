"""`test-instance`: launch a fresh instance from an image, look at it, say passed or failed and why, destroy it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gpunodes.aws import Clients
from gpunodes.errors import ToolError
from gpunodes.evidence import evidence
from gpunodes.operation import runs
from gpunodes.operation.steps import Progress, Step, Timing, run_steps
from gpunodes.proof import checks, clone, launch, terraform
from gpunodes.proof.checks import Check, Gpu
from gpunodes.proof.datapoints import DatapointReader, Readings, Series
from gpunodes.proof.gpu_load import GpuLoad
from gpunodes.proof.launch import TestInstance
from gpunodes.proof.promised_metrics import AGENT_NAMESPACE, GPU_NAMESPACE, name_of
from gpunodes.recipe import ami, flavors
from gpunodes.settings import Settings
from gpunodes.target import Target

_SAMPLES_SECONDS = 3.0  # gpumon samples each second: after this a level of memory is in its samples
_RESTART_SECONDS = 10.0
_CLOCK_MARGIN = timedelta(minutes=15)
_AGENT_METRICS = ("mem_used_percent", "swap_used_percent")
_SERVICES = {
    "gpumon.service": "the image publishes GPU metrics without anyone logging in",
    "amazon-cloudwatch-agent.service": "the image publishes memory, swap and filesystem metrics",
}


@dataclass(frozen=True)
class Verdict:
    """What `test-instance` found.

    Attributes:
        run_id: of the proof.
        ami_id: the image.
        instance_id: the test instance, destroyed unless it was kept.
        instance_type: of it.
        result: `passed` or `failed`.
        checks: in the order in which they were made.
        evidence: file with all of it.
        kept: how to log in to the instance and how to remove it; empty where it is destroyed.
        timings: seconds per step.
    """

    run_id: str
    ami_id: str
    instance_id: str
    instance_type: str
    result: str
    checks: list[Check]
    evidence: Path
    kept: dict[str, str]
    timings: list[Timing]


@dataclass
class _Proof:
    """A proof while it runs; each method is a step."""

    target: Target
    instance: TestInstance
    asked_ami: str | None
    instance_type: str
    ami_id: str = ""
    origin: clone.Origin = field(default_factory=clone.Origin)
    promised_gpus: int = 0
    allocated_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    checks: list[Check] = field(default_factory=list)
    gpus: list[Gpu] = field(default_factory=list)
    before: Readings = field(default_factory=dict)
    allocated: dict[Series, int] = field(default_factory=dict)
    rose: bool = False
    _load: GpuLoad | None = None

    @property
    def clients(self) -> Clients:
        return self.instance.clients

    @property
    def result(self) -> str:
        return "passed" if all(check.passed for check in self.checks) else "failed"

    @property
    def load(self) -> GpuLoad:
        if self._load is None:
            self._load = GpuLoad(self.instance.remote)
        return self._load

    @property
    def reader(self) -> DatapointReader:
        # The id of a fresh instance is in no older datapoint; the margin is for clocks that differ.
        return DatapointReader(self.clients, self.instance.started_at - _CLOCK_MARGIN)

    def preflight(self) -> None:
        terraform.version()
        launch.check_connection_tools(self.target)
        self.promised_gpus = ami.gpu_count(self.clients, self.instance_type)
        image = ami.describe(self.clients, self.asked_ami) if self.asked_ami else ami.newest_candidate(self.clients)
        self.ami_id = image["ImageId"]
        self.origin = clone.origin_of(self.instance.settings, image)
        flavor = ami.tags_of(image).get("gpunodes:flavor", self.target.flavor)
        self.instance.ssh_username = flavors.load(flavor).ssh_username

    def launch(self) -> None:
        self.instance.launch(self.ami_id, self.instance_type)

    def look_at_inheritance(self) -> None:
        found = clone.look_at(self.instance.remote, self.origin)
        self.checks.append(checks.nothing_is_inherited(found, self.origin.instance_id))

    def look_at_services(self) -> None:
        for unit, proves in _SERVICES.items():
            state = self.instance.remote.run(f"systemctl is-active {unit} || true").strip()
            self.checks.append(checks.service_is_active(unit, state, proves))

    def look_at_gpus(self) -> None:
        error = ""
        try:
            self.gpus = self.load.start()
        except ToolError as failure:
            error = str(failure)
        self.checks.append(checks.gpus_are_there(self.gpus, self.promised_gpus, self.instance_type, error))

    def wait_for_first_datapoints(self) -> None:
        series = [self._memory_series(gpu) for gpu in self.gpus]
        self.before = self.reader.wait_for(series, "Minimum", _all_arrived, self._patience("gpumon.service"))
        self.checks.append(
            checks.datapoints_arrived(
                "GPU memory of every GPU arrives in CloudWatch",
                "the metrics of this very instance reach the account, GPU by GPU",
                self.before,
            )
        )

    def allocate(self) -> None:
        if not self.gpus:
            self.checks.append(checks.memory_rose({}, {}, {}, self.instance.started_at))
            return
        sizes = checks.allocation_sizes(self.gpus)
        self.allocated = dict(zip((self._memory_series(gpu) for gpu in self.gpus), sizes, strict=True))
        self.allocated_at = self.load.allocate(sizes)
        readings = self.reader.wait_for(
            list(self.allocated), "Maximum", lambda now: self._rise(now).passed, self._patience("gpumon.service")
        )
        rise = self._rise(readings)
        self.rose = rise.passed
        self.checks.append(rise)

    def free(self) -> None:
        if not self.gpus:
            self.checks.append(checks.memory_fell({}, {}, {}, self.instance.started_at))
            return
        freed_at = self.load.free()
        since = checks.first_minute_after_free(self.allocated_at, freed_at)
        time.sleep(max(_SAMPLES_SECONDS, (since - freed_at).total_seconds() + _SAMPLES_SECONDS))
        self.load.stop()
        # What never rose will not fall: then look only as long as a restart takes to publish.
        patience = self._patience("gpumon.service") if self.rose else _RESTART_SECONDS
        # Stopping publishes what is held, so the fall is in CloudWatch without waiting for the minute to end.
        self.instance.remote.run("! systemctl is-active --quiet gpumon || sudo systemctl restart gpumon")
        readings = self.reader.wait_for(
            list(self.allocated), "Minimum", lambda now: self._fall(now, since).passed, patience
        )
        self.checks.append(self._fall(readings, since))

    def wait_for_agent(self) -> None:
        instance = {"InstanceId": self.instance.instance_id}
        root = self.instance.remote.run("findmnt --noheadings --output FSTYPE --target /").strip()
        series = [Series.of(AGENT_NAMESPACE, metric, instance) for metric in _AGENT_METRICS]
        series.append(Series.of(AGENT_NAMESPACE, "disk_used_percent", {**instance, "path": "/", "fstype": root}))
        readings = self.reader.wait_for(
            series, "Average", _all_arrived, self._patience("amazon-cloudwatch-agent.service")
        )
        self.checks.append(
            checks.datapoints_arrived(
                "memory, swap and filesystem arrive in CloudWatch",
                "the CloudWatch agent in the image is configured and may publish",
                readings,
            )
        )

    def _rise(self, maximum: Readings) -> Check:
        return checks.memory_rose(self.allocated, self.before, maximum, self.allocated_at)

    def _fall(self, minimum: Readings, since: datetime) -> Check:
        return checks.memory_fell(self.allocated, self.before, minimum, since)

    def _memory_series(self, gpu: Gpu) -> Series:
        return Series.of(
            GPU_NAMESPACE,
            name_of("memory_used_bytes"),
            {"InstanceId": self.instance.instance_id, "GpuIndex": str(gpu.index), "GpuUuid": gpu.uuid},
        )

    def _patience(self, unit: str) -> float:
        """No datapoint comes from a service that does not run: look once."""
        name = f"{unit} is active"
        is_active = any(check.passed for check in self.checks if check.name == name)
        return self.target.datapoint_patience_seconds if is_active else 0.0


def prove(
    target: Target,
    settings: Settings,
    progress: Progress,
    *,
    ami_id: str | None = None,
    instance_type: str | None = None,
    keep: bool = False,
) -> Verdict:
    """Prove an image on a fresh instance, and leave nothing behind.

    Args:
        target: where.
        settings: instance type and folders.
        progress: told about each step.
        ami_id: the image; the newest candidate without.
        instance_type: instead of the settings' one.
        keep: leave the instance running.

    Raises:
        GpunodesError: with the exit code for what went wrong; a check that fails is no error but in the verdict.
    """
    run = runs.start(settings, target.destination)
    instance = TestInstance(target, settings, run, Clients(target), progress)
    work = _Proof(target, instance, ami_id, instance_type or settings.test_instance_type)
    with runs.going_on(run):
        timings = run_steps(
            [
                Step("check tools, account and image", work.preflight),
                Step("import an SSH key", instance.import_key, instance.delete_key),
                Step("launch with Terraform", work.launch, instance.destroy),
                Step("connect by SSH", instance.connect, instance.disconnect),
                Step("look at what the clone inherited", work.look_at_inheritance),
                Step("look at services", work.look_at_services),
                Step("look at GPUs", work.look_at_gpus),
                Step("wait for first datapoints", work.wait_for_first_datapoints),
                Step("allocate GPU memory, see it rise", work.allocate),
                Step("free it, see it fall", work.free),
                Step("look for the CloudWatch agent's datapoints", work.wait_for_agent),
                # Now, and once more with every timing: a clean-up that fails must not cost what was seen.
                Step("write the evidence", lambda: _write_evidence(work, [])),
            ],
            progress,
            keep=keep,
        )
    return Verdict(
        run_id=run.run_id,
        ami_id=work.ami_id,
        instance_id=instance.instance_id,
        instance_type=work.instance_type,
        result=work.result,
        checks=work.checks,
        evidence=_write_evidence(work, timings),
        kept=_kept(work) if keep else {},
        timings=timings,
    )


def _kept(work: _Proof) -> dict[str, str]:
    option = "--offline " if work.target.name == "offline" else ""
    run_id = work.instance.run.run_id
    return {"ssh": work.instance.ssh_command, "destroy": f"invoke destroy {option}--run {run_id}"}


def _write_evidence(work: _Proof, timings: list[Timing]) -> Path:
    document = {
        "ami_id": work.ami_id,
        "run_id": work.instance.run.run_id,
        "target": work.target.name,
        "region": work.target.region,
        "instance_id": work.instance.instance_id,
        "instance_type": work.instance_type,
        "result": work.result,
        "checks": [vars(check) for check in work.checks],
        "timings": [vars(timing) for timing in timings],
        "proved_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return evidence.write_proof(work.instance.settings, work.instance.run, work.ami_id, document)


def _all_arrived(readings: Readings) -> bool:
    return all(readings.values())
