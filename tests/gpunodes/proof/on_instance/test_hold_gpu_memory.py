"""The program that runs on the instance, with the simulated driver's libcuda."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpunodes.proof.on_instance import hold_gpu_memory
from localaws.simgpu import driver
from localaws.simgpu.gpus import SimulatedGpus

GIB = 2**30
PATIENCE_SECONDS = 30


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("driver")
    driver.build(folder)
    return folder


class Program:
    """The program as the instance runs it, in a process of its own."""

    def __init__(self, folder: Path, state: Path, libraries: Path | None, seconds: float) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-B", hold_gpu_memory.__file__, str(folder), str(seconds)],
            env={"SIMGPU_STATE": str(state)} | ({"LD_LIBRARY_PATH": str(libraries)} if libraries else {}),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def tell(self, name: str, content: str) -> None:
        """Write a file whole or not at all, as `Remote.write` does."""
        unfinished = self.folder / f"{name}.unfinished"
        unfinished.write_text(content)
        unfinished.rename(self.folder / name)

    def answers(self, count: int) -> list[dict[str, Any]]:
        status, deadline = self.folder / "status", time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            text = status.read_text() if status.exists() else ""
            if text.count("\n") >= count:
                return [json.loads(line) for line in text.splitlines()]
            os.sched_yield()
        pytest.fail(f"the program gave no {count} answers")

    def end(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, errors


class Machine:
    """A machine with simulated GPUs."""

    def __init__(self, folder: Path, libraries: Path) -> None:
        self._folder, self._libraries = folder, libraries
        self.state = folder / "state"
        self.gpus = SimulatedGpus(self.state)
        self.programs: list[Program] = []

    def start(self, seconds: float = PATIENCE_SECONDS, *, libraries: Path | None = None) -> Program:
        folder = self._folder / "load"
        folder.mkdir()
        self.programs.append(Program(folder, self.state, libraries or self._libraries, seconds))
        return self.programs[-1]

    def held_bytes(self) -> list[int]:
        """What NVML sees as used on each GPU, read by a process of its own."""
        script = (
            "import json, pynvml as n\nn.nvmlInit()\n"
            "handles = [n.nvmlDeviceGetHandleByIndex(i) for i in range(n.nvmlDeviceGetCount())]\n"
            "print(json.dumps([n.nvmlDeviceGetMemoryInfo(h, version=n.nvmlMemory_v2).used for h in handles]))"
        )
        printed = subprocess.run(
            [sys.executable, "-B", "-c", script],
            env={"SIMGPU_STATE": str(self.state), "LD_LIBRARY_PATH": str(self._libraries)},
            cwd="/",
            capture_output=True,
            check=True,
        ).stdout
        held: list[int] = json.loads(printed)
        return held


@pytest.fixture
def machine(tmp_path: Path, libraries: Path) -> Iterator[Machine]:
    """A g5.12xlarge: four A10G."""
    made = Machine(tmp_path, libraries)
    assert made.gpus.install("g5.12xlarge", "i-0123456789abcdef0") == 4
    yield made
    for program in made.programs:
        program.process.kill()
        program.process.communicate()


def test_every_gpu_is_described_as_nvml_knows_it(machine: Machine) -> None:
    described = machine.start().answers(1)[0]["gpus"]

    known = [machine.gpus.read(index) for index in range(4)]
    assert [gpu["index"] for gpu in described] == [0, 1, 2, 3]
    assert [gpu["uuid"] for gpu in described] == [gpu["uuid"] for gpu in known]
    assert [gpu["name"] for gpu in described] == [gpu["name"] for gpu in known]
    assert all(20 * GIB < gpu["free_bytes"] <= gpu["total_bytes"] for gpu in described)


def test_memory_is_held_step_by_step_until_it_is_freed(machine: Machine) -> None:
    sizes = [GIB, 2 * GIB, 3 * GIB, 4 * GIB]
    program = machine.start()
    program.answers(1)
    before = machine.held_bytes()

    for step in (1, 2):
        wanted = [step * size for size in sizes]
        program.tell(f"allocate-{step}", json.dumps(wanted))
        assert program.answers(1 + step)[step]["allocated_bytes"] == wanted
        held = machine.held_bytes()
        assert [after - base for after, base in zip(held, before, strict=True)] == wanted

    program.tell("free", "")
    assert program.answers(4)[3]["freed"] is True
    assert program.end() == (0, "")
    assert all(after <= base for after, base in zip(machine.held_bytes(), before, strict=True))


def test_program_that_nobody_steers_ends_by_itself(machine: Machine) -> None:
    program = machine.start(seconds=0.2)

    assert program.end() == (1, "")
    assert program.answers(2)[1] == {"error": "nobody wrote allocate-1 in time"}


def test_memory_that_does_not_fit_is_an_error(machine: Machine) -> None:
    program = machine.start()
    program.tell("allocate-1", json.dumps([10_000 * GIB, 1, 1, 1]))

    assert program.end() == (1, "")
    assert program.answers(2)[1] == {"error": "cuMemAlloc_v2 returned 2"}


def test_driver_that_is_not_loaded_is_an_error(machine: Machine) -> None:
    machine.gpus.unload_driver()
    program = machine.start()

    assert program.end() == (1, "")
    assert program.answers(1) == [{"error": "cuInit returned 100"}]


def test_lost_gpu_is_an_error(machine: Machine) -> None:
    machine.gpus.lose(2)
    program = machine.start()

    assert program.end() == (1, "")
    assert list(program.answers(1)[-1]) == ["error"]


def test_machine_without_the_library_is_an_error(machine: Machine, tmp_path: Path) -> None:
    program = machine.start(libraries=tmp_path)

    assert program.end() == (1, "")
    assert program.answers(1)[0]["error"].startswith("libcuda.so.1 cannot be loaded: ")
