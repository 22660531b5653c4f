"""Processor time and memory of `gpumon run`, nvitop-exporter and gcm's nvml_monitor on one host at the same time."""

from __future__ import annotations

import math
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.gpumon import moods
from benchmarks.gpumon import peers as peers_module
from benchmarks.gpumon.figures import Figure, at_most, not_measured, printed
from benchmarks.gpumon.machine import free_port, gpumon_command
from benchmarks.gpumon.processes import Measured, running

if TYPE_CHECKING:
    from benchmarks.gpumon.machine import Machine
    from benchmarks.gpumon.peers import Peers
    from benchmarks.gpumon.stub import Stub

SCRAPE_SECONDS = 15.0
WARM_UP_SECONDS = 20.0  # imports, the first reading of everything, the first call to CloudWatch
NVITOP_SHARE = GCM_SHARE = 1 / 5
GCM_IDLE = "gcm-on-idle-gpus"
_COLLECT_ALONE = [sys.executable, "-m", "benchmarks.gpumon.collect_alone"]


@dataclass(frozen=True)
class Use:
    """What one process used while all were measured."""

    processor_seconds: float
    resident_mib_before: float
    resident_mib_after: float
    scrape_bytes: int

    def percent_of_core(self, seconds: float) -> float:
        """Return its processor time as a share of one core."""
        return 100 * self.processor_seconds / seconds


def measure(machine: Machine, idle: Machine, stub: Stub, peers: Peers, seconds: float) -> list[Figure]:
    """Run all at once and return their figures.

    Args:
        machine: The host; here it gets a process on each GPU.
        idle: Another one, on whose GPUs no process is, for a second gcm.
        stub: In the place of CloudWatch.
        peers: Those that could be installed.
        seconds: How long, after a warm-up.
    """
    port = free_port()
    environment = machine.gpumon_environment(stub.url, "side-by-side", prometheus_listen=f"127.0.0.1:{port}")
    url = f"http://127.0.0.1:{port}/metrics"
    with ExitStack() as stack:
        start = stack.enter_context
        for one in (machine, idle):
            start(moods.changing(one.state))
        for index in range(8):
            job = [sys.executable, "-m", "benchmarks.gpumon.job", str(index)]
            start(running(f"job-{index}", job, machine.environment() | {"SLURM_JOB_ID": "42"}, machine.scratch))
        all_of_them = [start(running("gpumon", gpumon_command(), environment, machine.scratch, url))]
        all_of_them.append(start(running("collection", _COLLECT_ALONE, machine.environment(), machine.scratch)))
        if peers.nvitop is not None:
            all_of_them.append(start(peers_module.nvitop_exporter(machine, peers.nvitop)))
        if peers.gcm is not None:
            all_of_them.append(start(peers_module.gcm(machine, peers.gcm)))
            all_of_them.append(start(peers_module.gcm(idle, peers.gcm, GCM_IDLE)))
        _sit_through(WARM_UP_SECONDS, all_of_them)
        begin = time.monotonic()
        before = [(one.processor_seconds(), one.resident_mib()) for one in all_of_them]
        _sit_through(seconds, all_of_them)
        uses = {one.name: _use(one, *start) for one, start in zip(all_of_them, before, strict=True)}
        end = time.monotonic()
    for record in (machine.state / "processes").iterdir():  # else the simulated driver looks at them for ever
        record.unlink()
    return _figures(uses, peers, end - begin, stub, (begin, end))


def _sit_through(seconds: float, all_of_them: list[Measured]) -> None:
    """Wait, with a scrape of everybody every 15 seconds; complain about whoever died."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(SCRAPE_SECONDS, left))
        for one in all_of_them:
            if not one.is_running:
                raise RuntimeError(f"{one.name} ended: {one.last_words()}")
            one.scrape()


def _use(one: Measured, processor_seconds: float, resident_mib: float) -> Use:
    return Use(
        one.processor_seconds() - processor_seconds,
        resident_mib,
        one.resident_mib(),
        one.scrape_bytes[-1] if one.scrape_bytes else 0,
    )


def _figures(
    uses: dict[str, Use], peers: Peers, seconds: float, stub: Stub, window: tuple[float, float]
) -> list[Figure]:
    mine = uses["gpumon"]
    percent = mine.percent_of_core(seconds)
    figures = [
        at_most("CPU at 1 s sampling, all tiers, both sinks", 0.5, percent, "% of a core", f"over {seconds:.0f} s"),
        _against_nvitop(uses.get("nvitop-exporter"), mine, seconds, peers.why_not),
        *_against_gcm(uses, seconds, peers.why_not),
        at_most("resident memory", 60, mine.resident_mib_after, "MiB", f"after start {mine.resident_mib_before:.1f}"),
    ]
    figures += [
        printed(f"resident memory of {name}", use.resident_mib_after, "MiB")
        for name, use in uses.items()
        if name not in {"gpumon", "collection", GCM_IDLE}
    ]
    calls = stub.calls_between(*window)
    periods = f"{math.floor(seconds / 60)} to {math.ceil(seconds / 60)} periods ended"
    figures.append(printed("PutMetricData calls while these ran", len(calls), "calls", periods))
    if calls:
        mean_bytes = sum(call.body_bytes for call in calls) / len(calls)
        compressed = "gzip" if all(call.is_gzip for call in calls) else "not compressed"
        figures.append(printed("bytes per PutMetricData call", mean_bytes, "bytes", compressed))
    figures.append(printed("bytes per scrape", mine.scrape_bytes, "bytes"))
    return figures


def _against_nvitop(theirs: Use | None, mine: Use, seconds: float, why_not: str) -> Figure:
    name, must = "CPU against nvitop-exporter", f"<= {NVITOP_SHARE:g} of it"
    if theirs is None:
        return not_measured(name, must, why_not)
    share = mine.processor_seconds / theirs.processor_seconds
    note = f"it takes {theirs.percent_of_core(seconds):.2f} % of a core"
    return at_most(name, NVITOP_SHARE, share, "of it", note)


def _against_gcm(uses: dict[str, Use], seconds: float, why_not: str) -> list[Figure]:
    """Compare one collection of gcm with one of gpumon: what reading takes, and what the whole service takes."""
    name, must = "CPU of a collection against gcm nvml_monitor", f"<= {GCM_SHARE:g} of it"
    if peers_module.GCM_NAME not in uses:
        return [not_measured(name, must, why_not)]
    theirs = _gcm_collection_ms(uses[peers_module.GCM_NAME], seconds)
    idle = _gcm_collection_ms(uses[GCM_IDLE], seconds)
    collection, service = (10 * uses[one].percent_of_core(seconds) for one in ("collection", "gpumon"))
    sudo = "sudo cat per GPU" if peers_module.has_sudo() else "no sudo here, so its sudo cat per GPU costs an exec"
    return [
        at_most(name, GCM_SHARE, collection / theirs, "of it", f"{collection:.2f} ms against {theirs:.2f} ms; {sudo}"),
        printed("the same, no process on any GPU", collection / idle, "of it", f"against {idle:.2f} ms"),
        printed("whole service against gcm", service / theirs, "of it", f"{service:.2f} ms against {theirs:.2f} ms"),
    ]


def _gcm_collection_ms(theirs: Use, seconds: float) -> float:
    # It sleeps a whole interval after each collection, so what is not spent on collecting counts the collections.
    return 1000 * theirs.processor_seconds * peers_module.GCM_COLLECT_SECONDS / (seconds - theirs.processor_seconds)
