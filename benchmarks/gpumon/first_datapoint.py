"""Time from the start of `gpumon run` to the first datapoint that CloudWatch accepts."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from benchmarks.gpumon.figures import Figure, at_most
from benchmarks.gpumon.machine import gpumon_command
from benchmarks.gpumon.processes import running

if TYPE_CHECKING:
    from benchmarks.gpumon.machine import Machine
    from benchmarks.gpumon.stub import Stub

RUNS = 5
_PATIENCE_SECONDS = 30.0


def measure(machine: Machine, stub: Stub) -> list[Figure]:
    """Start gpumon several times, each time without a state of its own from before; the slowest start counts."""
    seconds = [_one(machine, stub, f"start-{number}") for number in range(RUNS)]
    note = f"median {statistics.median(seconds):.2f}, least {min(seconds):.2f} of {RUNS} runs"
    return [at_most("start to first datapoint accepted", 3, max(seconds), "s", note)]


def _one(machine: Machine, stub: Stub, name: str) -> float:
    environment = machine.gpumon_environment(stub.url, name, prometheus_listen="127.0.0.1:0")
    stub.arrived.clear()
    begin = time.monotonic()
    with running(name, gpumon_command(), environment, machine.scratch) as started:
        if not stub.arrived.wait(_PATIENCE_SECONDS):
            raise RuntimeError(f"No datapoint within {_PATIENCE_SECONDS:.0f} s: {started.last_words()}")
        accepted = next(call for call in stub.calls if call.monotonic_seconds >= begin)
        return accepted.monotonic_seconds - begin
