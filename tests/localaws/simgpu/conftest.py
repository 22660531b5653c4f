"""A simulated machine: compiled libraries, state files, and real programs that use both."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localaws.simgpu import driver
from localaws.simgpu.gpus import SimulatedGpus

_CUDA_CLIENT = Path(__file__).with_name("cuda_client.py")
_PRELUDE = """
import json
import os
import pynvml as n

def call(function, *arguments, **options):
    try:
        return function(*arguments, **options)
    except n.NVMLError as error:
        return f"error {error.value}"

def text(value):
    return value.decode() if isinstance(value, bytes) else value
"""


class CudaProcess:
    """A process that uses libcuda, told what to do step by step."""

    def __init__(self, environment: dict[str, str], user_id: int | None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-c", _CUDA_CLIENT.read_text(), *([] if user_id is None else [str(user_id)])],
            env=environment,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def answer(self) -> int:
        assert self.process.stdout is not None
        return int(json.loads(self.process.stdout.readline()))

    def do(self, command: str) -> int:
        self.send(command)
        return self.answer()

    def exit(self) -> int:
        self.process.communicate(timeout=30)
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


class Machine:
    """One simulated machine.

    Args:
        libraries: directory of the compiled libraries.
        state: its state directory.
    """

    def __init__(self, libraries: Path, state: Path) -> None:
        self.state = state
        self.gpus = SimulatedGpus(state)
        self.environment = {"LD_LIBRARY_PATH": str(libraries), "SIMGPU_STATE": str(state)}
        self._processes: list[CudaProcess] = []

    def nvml(self, code: str, *, user_id: int | None = None) -> Any:
        """Run code with the real pynvml as `n` in a process of its own and return its `result`."""
        become = "" if user_id is None else f"os.setgroups([]); os.setgid({user_id}); os.setuid({user_id})"
        script = f"{_PRELUDE}\n{become}\n{code}\nprint(json.dumps(result))"
        done = subprocess.run(
            [sys.executable, "-B", "-c", script],
            env=self.environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def nvml_of(self, index: int, expression: str, *, user_id: int | None = None) -> Any:
        """Return the value of an expression about the GPU `h`; NVML errors within call(...) are "error CODE"."""
        handle = f"n.nvmlInit()\nh = n.nvmlDeviceGetHandleByIndex({index})"
        return self.nvml(f"{handle}\nresult = {expression}", user_id=user_id)

    def memory_used_bytes(self, index: int = 0) -> int:
        return int(self.nvml_of(index, "n.nvmlDeviceGetMemoryInfo(h, version=n.nvmlMemory_v2).used"))

    def cuda(self, *, gpu_index: int | None = 0, user_id: int | None = None) -> CudaProcess:
        """Start a process that uses libcuda, with a context on a GPU unless that is None."""
        started = CudaProcess(self.environment, user_id)
        self._processes.append(started)
        if gpu_index is not None:
            assert started.do(f"context {gpu_index}") == 0
        return started

    def close(self) -> None:
        for started in self._processes:
            started.kill()


@pytest.fixture(scope="session")
def libraries() -> Iterator[Path]:
    """The libraries, compiled once, where every user may read them."""
    directory = Path(tempfile.mkdtemp(prefix="simgpu-libraries-"))
    directory.chmod(0o755)
    driver.build(directory)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def bare_machine(libraries: Path) -> Iterator[Machine]:
    """A machine without a driver; its state directory does not exist yet."""
    directory = Path(tempfile.mkdtemp(prefix="simgpu-state-"))
    directory.chmod(0o755)
    machine = Machine(libraries, directory / "state")
    yield machine
    machine.close()
    shutil.rmtree(directory)


@pytest.fixture
def machine(bare_machine: Machine) -> Machine:
    """A g5.12xlarge: four A10G."""
    assert bare_machine.gpus.install("g5.12xlarge", "i-0123456789abcdef0") == 4
    return bare_machine


@pytest.fixture
def unprivileged_user_id() -> int:
    """The user id of nobody, which a program that was started as root can become."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    return pwd.getpwnam("nobody").pw_uid
