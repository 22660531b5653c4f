"""`test-instance`: launch a fresh instance from an image, look at it, say passed or failed and why, destroy it."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpunodes import ami, checks, evidence, leftovers, runs, terraform
from gpunodes.aws import Clients
from gpunodes.checks import Check, Gpu
from gpunodes.datapoints import DatapointReader, Readings, Series
from gpunodes.errors import PreflightError, ToolError
from gpunodes.gpu_load import GpuLoad
from gpunodes.key_pair import KeyPair
from gpunodes.remote import Remote
from gpunodes.runs import Run
from gpunodes.settings import REPOSITORY, Settings
from gpunodes.steps import Progress, Step, Timing, run_steps
from gpunodes.target import Target

STACK_FOLDER = REPOSITORY / "terraform" / "stacks" / "test-instance"
_SSH_SECONDS = 180.0
_SAMPLES_SECONDS = 3.0  # gpumon samples each second: after this the level of memory is in its samples
_AGENT_METRICS = ("mem_used_percent", "swap_used_percent")


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
        kept: whether the instance still runs.
        timings: seconds per step.
    """

    run_id: str
    ami_id: str
    instance_id: str
    instance_type: str
    result: str
    checks: list[Check]
    evidence: Path
    kept: bool
    timings: list[Timing]


@dataclass
class _Proof:
    """A proof while it runs; each method is a step."""

    target: Target
    settings: Settings
    run: Run
    clients: Clients
    progress: Progress
    asked_ami: str | None
    instance_type: str
    ami_id: str = ""
    promised_gpus: int = 0
    instance: dict[str, Any] = field(default_factory=dict)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    allocated_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    checks: list[Check] = field(default_factory=list)
    gpus: list[Gpu] = field(default_factory=list)
    before: Readings = field(default_factory=dict)
    allocated: dict[Series, int] = field(default_factory=dict)
    _remote: Remote | None = None
    _load: GpuLoad | None = None

    @property
    def key_pair(self) -> KeyPair:
        return KeyPair.of(self.run)

    @property
    def remote(self) -> Remote:
        if self._remote is None:
            raise ToolError("The instance was asked before the connection was there; run the steps in order.")
        return self._remote

    @property
    def load(self) -> GpuLoad:
        if self._load is None:
            self._load = GpuLoad(self.remote)
        return self._load

    @property
    def stack(self) -> terraform.Stack:
        return stack_of(self.target, self.settings, self.run, self.progress)

    @property
    def reader(self) -> DatapointReader:
        return DatapointReader(self.clients, self.started_at)

    def preflight(self) -> None:
        terraform.version()
        _check_session_manager(self.target)
        self.promised_gpus = ami.gpu_count(self.clients, self.instance_type)
        image = ami.describe(self.clients, self.asked_ami) if self.asked_ami else ami.newest_candidate(self.clients)
        self.ami_id = image["ImageId"]

    def import_key(self) -> None:
        self.key_pair.import_into(self.clients, self.run)

    def delete_key(self) -> None:
        self.key_pair.delete_from(self.clients)

    def launch(self) -> None:
        self.started_at = datetime.now(UTC)
        self.instance = self.stack.apply(
            {
                "region": self.target.region,
                "run_id": self.run.run_id,
                "ami_id": self.ami_id,
                "instance_type": self.instance_type,
                "key_name": self.key_pair.name,
                "subnet_id": self.target.subnet_id or None,
                **self.target.terraform_variables,
            }
        )

    def destroy(self) -> None:
        destroy_run(self.target, self.settings, self.clients, self.run, self.progress)

    def connect(self) -> None:
        host, proxy_command = self.instance["private_ip"], ""
        if self.target.ssh_proxy_command:
            proxy_command = self.target.ssh_proxy_command.format(instance_id=self.instance["instance_id"])
        self._remote = Remote(host, self.target.ssh_username, self.key_pair.private_key, proxy_command)
        self._remote.connect(_SSH_SECONDS)
        self.progress.detail("waiting for cloud-init")
        self._remote.run("cloud-init status --wait >/dev/null || true")

    def disconnect(self) -> None:
        if self._remote is not None:
            self._remote.close()

    def look_at_services(self) -> None:
        for unit, proves in (
            ("gpumon.service", "the image publishes GPU metrics without anyone logging in"),
            ("amazon-cloudwatch-agent.service", "the image publishes memory, swap and filesystem metrics"),
        ):
            state = self.remote.run(f"systemctl is-active {unit} || true").strip()
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
            self.checks.append(checks.memory_rose({}, {}, {}, self.started_at))
            return
        sizes = checks.allocation_sizes(self.gpus)
        self.allocated = dict(zip((self._memory_series(gpu) for gpu in self.gpus), sizes, strict=True))
        self.load.allocate(sizes)
        self.allocated_at = datetime.now(UTC)
        readings = self.reader.wait_for(
            list(self.allocated), "Maximum", lambda now: self._rise(now).passed, self._patience("gpumon.service")
        )
        self.checks.append(self._rise(readings))

    def free(self) -> None:
        if not self.gpus:
            self.checks.append(checks.memory_fell({}, {}, {}, self.started_at))
            return
        self.load.free()
        freed_at = datetime.now(UTC)
        since = checks.first_minute_after_free(self.allocated_at, freed_at)
        time.sleep(max(_SAMPLES_SECONDS, (since - freed_at).total_seconds() + _SAMPLES_SECONDS))
        # Stopping publishes what is held, so the fall is in CloudWatch without waiting for the minute to end.
        self.remote.run("sudo systemctl try-restart gpumon.service")
        readings = self.reader.wait_for(
            list(self.allocated), "Minimum", lambda now: self._fall(now, since).passed, self._patience("gpumon.service")
        )
        self.checks.append(self._fall(readings, since))

    def wait_for_agent(self) -> None:
        instance = {"InstanceId": self.instance["instance_id"]}
        root = self.remote.run("findmnt --noheadings --output FSTYPE --target /").strip()
        series = [Series.of("CWAgent", metric, instance) for metric in _AGENT_METRICS]
        series.append(Series.of("CWAgent", "disk_used_percent", {**instance, "path": "/", "fstype": root}))
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
            "GPU",
            "MemoryUsed",
            {"InstanceId": self.instance["instance_id"], "GpuIndex": str(gpu.index), "GpuUuid": gpu.uuid},
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
    run = runs.start(settings)
    work = _Proof(
        target, settings, run, Clients(target), progress, ami_id, instance_type or settings.test_instance_type
    )
    timings = run_steps(
        [
            Step("check tools, account and image", work.preflight),
            Step("import an SSH key", work.import_key, work.delete_key),
            Step("launch with Terraform", work.launch, work.destroy),
            Step("connect by SSH", work.connect, work.disconnect),
            Step("look at services", work.look_at_services),
            Step("look at GPUs", work.look_at_gpus),
            Step("wait for first datapoints", work.wait_for_first_datapoints),
            Step("allocate GPU memory, see it rise", work.allocate),
            Step("free it, see it fall", work.free),
            Step("look for the CloudWatch agent's datapoints", work.wait_for_agent),
        ],
        progress,
        keep=keep,
    )
    result = "passed" if all(check.passed for check in work.checks) else "failed"
    document = {
        "ami_id": work.ami_id,
        "run_id": run.run_id,
        "target": target.name,
        "region": target.region,
        "instance_id": work.instance["instance_id"],
        "instance_type": work.instance_type,
        "result": result,
        "checks": [vars(check) for check in work.checks],
        "timings": [vars(timing) for timing in timings],
        "proved_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return Verdict(
        run_id=run.run_id,
        ami_id=work.ami_id,
        instance_id=work.instance["instance_id"],
        instance_type=work.instance_type,
        result=result,
        checks=work.checks,
        evidence=evidence.write_proof(settings, run, work.ami_id, document),
        kept=keep,
        timings=timings,
    )


def stack_of(target: Target, settings: Settings, run: Run, progress: Progress) -> terraform.Stack:
    """The test instance's stack of a run."""
    environment = {**target.environment, **terraform.cli_environment(settings.cache_folder / "terraform")}
    return terraform.Stack(STACK_FOLDER, run.folder / "terraform", environment, progress.detail)


def destroy_run(target: Target, settings: Settings, clients: Clients, run: Run, progress: Progress) -> None:
    """Destroy what a run launched, then ask the API what still carries its id and remove that, too."""
    stack_of(target, settings, run, progress).destroy()
    leftovers.remove_instances(clients, run.run_id)
    leftovers.remove_key_pairs(clients, run.run_id)
    shutil.rmtree(run.folder / "terraform" / ".terraform", ignore_errors=True)


def _check_session_manager(target: Target) -> None:
    if not target.ssh_proxy_command:
        return
    for tool in ("aws", "session-manager-plugin"):
        if shutil.which(tool) is None:
            raise PreflightError(f"`{tool}` is not installed; test instances have no ingress and are reached with it.")


def _all_arrived(readings: Readings) -> bool:
    return all(readings.values())
