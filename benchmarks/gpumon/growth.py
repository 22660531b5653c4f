"""Memory over many collections, calls per hour, and growth with the number of GPUs, on a clock that does not wait."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.gpumon.figures import Figure, at_most
from benchmarks.gpumon.machine import make_machine
from benchmarks.gpumon.pipeline import FIRST_RSS_AT, HOUR_SECONDS
from benchmarks.gpumon.processes import output_of

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.gpumon.machine import Machine
    from benchmarks.gpumon.stub import Stub

_AWS_CALLS = 8 * 6 * 60  # per hour, of AWS's gpumon.py: one per GPU every 10 seconds
LONG_COLLECTIONS = 20_000
SHORT_COLLECTIONS = 900
ROUNDS = 3
GPU_COUNTS = (1, 2, 4, 8, 16)
# What counts as linear: no number of GPUs lies above the line through the least and the greatest by more than this.
LINEAR_TOLERANCE = 0.15


def measure_memory(machine: Machine, stub: Stub) -> list[Figure]:
    """Return by how much resident memory grows from early on to the end."""
    run = _run(machine, stub, "long", LONG_COLLECTIONS)
    early, late = run["resident_mib"][str(FIRST_RSS_AT)], run["resident_mib"][str(LONG_COLLECTIONS)]
    note = f"{early:.1f} MiB at {FIRST_RSS_AT:,}, {late:.1f} MiB at {LONG_COLLECTIONS:,}"
    return [at_most(f"growth over {LONG_COLLECTIONS:,} collections", 1, late - early, "MiB", note)]


def measure_calls(machine: Machine, stub: Stub) -> list[Figure]:
    """Return the calls of a simulated hour: with the tiers that CloudWatch gets by default, and with all."""
    figures = []
    for name, tiers in (("core and health", "core,health"), ("all tiers", "core,health,extended")):
        before = len(stub.calls)
        run = _run(machine, stub, f"calls-{len(tiers)}", HOUR_SECONDS + 1, cloudwatch_tiers=tiers)
        calls = stub.calls[before:]
        mean_bytes = sum(call.body_bytes for call in calls) / len(calls)
        compressed = "gzip" if all(call.is_gzip for call in calls) else "not all compressed"
        note = f"{run['datums_per_period']} datums, {mean_bytes:.0f} bytes {compressed}; AWS's script {_AWS_CALLS:,}"
        figures.append(at_most(f"PutMetricData calls per hour, {name}", 60, run["calls_per_hour"], "calls", note))
    return figures


def measure_growth(scratch: Path, stub: Stub) -> tuple[list[Figure], str]:
    """Return whether processor time grows linearly with the GPUs, and the table."""
    rows = [
        "| GPUs | CPU ms per collection | resident MiB | datums per minute | bytes per scrape |",
        "|------|-----------------------|--------------|-------------------|------------------|",
    ]
    machines = {count: make_machine(scratch, count) for count in GPU_COUNTS}
    runs: dict[int, list[dict[str, Any]]] = {count: [] for count in GPU_COUNTS}
    for number in range(ROUNDS):  # in turns, and the least counts: other work on this machine can only add
        for count, machine in machines.items():
            runs[count].append(_run(machine, stub, f"growth-{count}-{number}", SHORT_COLLECTIONS))
    spent = {count: min(run["processor_ms_per_collection"] for run in found) for count, found in runs.items()}
    for count, found in runs.items():
        run = found[0]
        resident = run["resident_mib"][str(SHORT_COLLECTIONS)]
        rows.append(
            f"| {count:4} | {spent[count]:21.2f} | {resident:12.1f} |"
            f" {run['datums_per_period']:17} | {run['scrape_bytes']:16,} |"
        )
    share = max(above_the_line(spent))
    note = f"from {spent[1]:.2f} ms with 1 GPU to {spent[GPU_COUNTS[-1]]:.2f} ms with {GPU_COUNTS[-1]}"
    figure = at_most("growth with GPUs: above a line by", LINEAR_TOLERANCE, share, "of it", note)
    return [figure], "\n".join(rows)


def above_the_line(spent: dict[int, float]) -> list[float]:
    """Return by how much each value exceeds the line through the first and the last, as a share of the line."""
    (first, low), (last, high) = min(spent.items()), max(spent.items())
    slope = (high - low) / (last - first)
    return [value / (low + slope * (count - first)) - 1 for count, value in spent.items()]


def _run(machine: Machine, stub: Stub, name: str, collections: int, **settings: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.gpumon.pipeline", str(collections)]
    answer: dict[str, Any] = json.loads(output_of(command, machine.gpumon_environment(stub.url, name, **settings)))
    return answer
