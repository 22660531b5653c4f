"""Time per collection against a C program that makes the same NVML calls with the same arguments."""

from __future__ import annotations

import importlib.metadata
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.gpumon.figures import Figure, printed
from benchmarks.gpumon.machine import ROOT
from benchmarks.gpumon.processes import output_of
from benchmarks.gpumon.reader_speed import PAUSE_SECONDS

if TYPE_CHECKING:
    from benchmarks.gpumon.machine import Machine

COLLECTIONS = {"sample": 1000, "buffer": 500, "everything": 30}
HOW_OFTEN = {
    "sample": "every second",
    "buffer": "every 10 s",
    "everything": "every 60 s",
}
ROUNDS = 5


class Round(NamedTuple):
    """One measurement of all three, in microseconds of processor time per collection."""

    reader: float
    bare: float
    c: float


def measure(machine: Machine) -> list[Figure]:
    """Trace the reader, compile its calls, and measure the three side by side.

    Raises:
        RuntimeError: The C program cannot be compiled or got other answers than the reader.
    """
    figures = []
    for due in COLLECTIONS:
        rounds, calls, values = rounds_of(machine, due)
        reader, bare, c = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(one.reader / one.c for one in rounds)
        note = (
            f"{HOW_OFTEN[due]}: {reader:.0f} us against {c:.0f} us for {calls} calls; what remains: ctypes"
            f" {max(0.0, bare - c):.0f} us, pynvml and the objects of {values} values {reader - max(bare, c):.0f} us"
        )
        figures.append(printed(f"time per collection ({due}) against C", ratio, "times", note))
    return figures


def rounds_of(machine: Machine, due: str) -> tuple[list[Round], int, int]:
    """Measure in turns, so that what else the machine does meets all of them alike.

    Args:
        machine: With the GPUs.
        due: Key of `COLLECTIONS`.

    Returns:
        The rounds, calls per collection, values per collection.
    """
    calls_file = machine.scratch / f"{due}.inc"
    program = machine.scratch / f"same-calls-{due}"
    rounds, calls, values = [], 0, 0
    for number in range(ROUNDS):
        reader, bare, values = _of_reader(machine, due, calls_file)
        if number == 0:
            _compile(machine, calls_file, program)
        c, calls = _of_c(machine, due, program)
        rounds.append(Round(reader / 1000, bare / 1000, c / 1000))
    return rounds, calls, values


def _of_reader(machine: Machine, due: str, calls_file: Path) -> tuple[int, int, int]:
    command = [sys.executable, "-m", "benchmarks.gpumon.reader_speed", due, str(COLLECTIONS[due]), str(calls_file)]
    reader, bare, values = map(int, output_of(command, machine.environment()).split())
    return reader, bare, values


def _of_c(machine: Machine, due: str, program: Path) -> tuple[int, int]:
    pause_microseconds = int(PAUSE_SECONDS[due] * 1e6)
    command = [str(program), str(COLLECTIONS[due]), str(pause_microseconds)]
    nanoseconds, calls, differences = map(int, output_of(command, machine.environment()).split())
    if differences:
        raise RuntimeError(f"{differences} calls of the C program returned something else than they did to the reader.")
    return nanoseconds, calls


def _compile(machine: Machine, calls_file: Path, program: Path) -> None:
    command = [
        *("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-isystem", str(_nvml_header().parent)),
        *(f'-DCALLS="{calls_file}"', "-o", str(program), str(ROOT / "benchmarks/gpumon/same_calls.c")),
        *("-L", str(machine.libraries), "-l:libnvidia-ml.so.1"),
    ]
    output_of(command, machine.environment())


def _nvml_header() -> Path:
    files = importlib.metadata.files("nvidia-nvml-dev") or []
    return next(Path(str(file.locate())) for file in files if file.name == "nvml.h")
