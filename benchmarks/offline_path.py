"""How long the offline path takes, step by step: `python -m benchmarks.offline_path [--runs N]` as root.

Everything is measured in one go on warm caches, so figures can be compared with each other; absolute seconds depend on
the machine. The cold figure is `scripts/demo` on a fresh machine, which prints its own steps.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpunodes import offline_target
from gpunodes.aws import Clients
from gpunodes.bake.bake import bake
from gpunodes.errors import GpunodesError
from gpunodes.operation.progress import TerminalProgress
from gpunodes.operation.steps import Timing
from gpunodes.proof.proof import prove
from gpunodes.settings import Settings, load
from gpunodes.target import Target

IDLE_SECONDS = 20.0
GOALS = {
    "build-ami --offline, warm": ("s", 20.0),
    "build-ami, our own share": ("% of it", 20.0),
    "launch to first datapoint": ("s", 5.0),
    "test-instance --offline, warm": ("s", 120.0),
    "idle emulator, memory": ("MiB", 400.0),
    "idle emulator, processor": ("% of a core", 2.0),
}


def main() -> int:
    """Measure and print; exit code 0 whatever the figures are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="how often each part is measured (default 3)")
    runs = parser.parse_args().runs
    progress = TerminalProgress()
    figures: dict[str, list[float]] = defaultdict(list)
    steps: dict[str, list[float]] = defaultdict(list)
    if offline_target.is_up():
        progress.say("error: The offline cloud is up; take it down first with `invoke offline.down`.")
        return 2
    try:
        target = _timed(figures, "offline.up, warm", lambda: offline_target.offline_target(progress.say))
        memory, processor = _idle()
        figures["idle emulator, memory"].append(memory)
        figures["idle emulator, processor"].append(processor)
        settings = load()
        ami_id = bake(target, settings, progress).ami_id  # warms the wheelhouse
        for _ in range(runs):
            _measure_once(target, settings, progress, ami_id, figures, steps)
    except GpunodesError as error:
        progress.say(f"error: {error}")
        return error.exit_code
    finally:
        offline_target.down()
    _print(figures, steps)
    return 0


def _measure_once(  # noqa: PLR0917 - what is measured, and where it goes
    target: Target,
    settings: Settings,
    progress: TerminalProgress,
    ami_id: str,
    figures: dict[str, list[float]],
    steps: dict[str, list[float]],
) -> None:
    baked = _timed(figures, "build-ami --offline, warm", lambda: bake(target, settings, progress))
    figures["build-ami, Packer's part"].append(baked.packer_seconds)
    figures["build-ami, our own share"].append(baked.own_seconds / (baked.packer_seconds + baked.own_seconds) * 100)
    _note(steps, "build-ami", baked.timings)
    figures["launch to first datapoint"].append(_launch_to_first_datapoint(target, ami_id))
    verdict = _timed(figures, "test-instance --offline, warm", lambda: prove(target, settings, progress, ami_id=ami_id))
    _note(steps, f"test-instance ({verdict.result})", verdict.timings)


def _launch_to_first_datapoint(target: Target, ami_id: str) -> float:
    """Seconds from RunInstances to the first datapoint of the instance in CloudWatch; the instance is terminated."""
    clients = Clients(target)
    _ensure_profile(target)
    begin = time.monotonic()
    instance = clients.ec2.run_instances(
        ImageId=ami_id,
        InstanceType="g4dn.xlarge",
        MinCount=1,
        MaxCount=1,
        SubnetId=target.subnet_id,
        IamInstanceProfile={"Name": "benchmark"},
    )["Instances"][0]
    dimensions = [{"Name": "InstanceId", "Value": instance["InstanceId"]}]
    while not clients.cloudwatch.list_metrics(Namespace="GPU", MetricName="MemoryUsed", Dimensions=dimensions)[
        "Metrics"
    ]:
        if time.monotonic() - begin > 60:
            raise GpunodesError("No datapoint came within a minute; look at the machine's console.log.")
        time.sleep(0.05)
    seconds = time.monotonic() - begin
    clients.ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    return seconds


def _ensure_profile(target: Target) -> None:
    iam = Clients(target).client("iam")
    if any(found["InstanceProfileName"] == "benchmark" for found in iam.list_instance_profiles()["InstanceProfiles"]):
        return
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    iam.create_role(RoleName="benchmark", AssumeRolePolicyDocument=policy)
    iam.create_instance_profile(InstanceProfileName="benchmark")
    iam.add_role_to_instance_profile(InstanceProfileName="benchmark", RoleName="benchmark")


def _idle() -> tuple[float, float]:
    """Memory (MiB, proportional set size) and processor time (% of a core) of the emulator while nothing is asked."""
    ids = _emulator_process_ids()
    before = sum(map(_processor_seconds, ids))
    time.sleep(IDLE_SECONDS)
    used = sum(map(_processor_seconds, ids)) - before
    return sum(map(_memory_mib, ids)), used / IDLE_SECONDS * 100


def _emulator_process_ids() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"localaws.daemon" in path.read_bytes():
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _memory_mib(process_id: int) -> float:
    lines = Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _processor_seconds(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _timed(figures: dict[str, list[float]], name: str, work: Callable[[], Any]) -> Any:
    begin = time.monotonic()
    result = work()
    figures[name].append(time.monotonic() - begin)
    return result


def _note(steps: dict[str, list[float]], task: str, timings: list[Timing]) -> None:
    for timing in timings:
        steps[f"{task}: {timing.name}"].append(timing.seconds)
        for phase in timing.phases:
            steps[f"{task}:   {phase.name}"].append(phase.seconds)


def _print(figures: dict[str, list[float]], steps: dict[str, list[float]]) -> None:
    print(f"\n{'figure':<34}{'median':>9}{'min':>9}{'max':>9}  goal")
    for name, values in figures.items():
        unit, goal = GOALS.get(name, ("s", None))
        said = (
            "" if goal is None else f"<= {goal:g} {unit}: {'met' if statistics.median(values) <= goal else 'NOT MET'}"
        )
        print(f"{name:<34}{statistics.median(values):>9.1f}{min(values):>9.1f}{max(values):>9.1f}  {said}")
    print(f"\n{'step':<64}{'median s':>9}")
    for name, values in steps.items():
        print(f"{name:<64}{statistics.median(values):>9.1f}")


if __name__ == "__main__":
    sys.exit(main())
