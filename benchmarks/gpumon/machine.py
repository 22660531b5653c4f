"""A simulated GPU host, and the environment in which processes see it."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpumon import moods
from localaws.simgpu import driver
from localaws.simgpu.gpus import SimulatedGpus
from localaws.simgpu.state_files import read, write

ROOT = Path(__file__).resolve().parents[2]
INSTANCE_TYPE = "p5.48xlarge"  # the GPUs with the most to read: GPM, PCIe counters, 18 NVLinks each
INSTANCE_ID = "i-0123456789abcdef0"
_PATTERN = (93, 71, 100, 88, 97, 64)  # of the driver's own utilization samples, percent


@dataclass(frozen=True)
class Machine:
    """A host with simulated GPUs.

    Attributes:
        libraries: Directory of the simulated driver's libraries.
        state: Directory of the GPUs' state files: a link to one of `moods.COUNT` that stand beside it.
        scratch: Where processes of the benchmark may write.
    """

    libraries: Path
    state: Path
    scratch: Path

    def environment(self) -> dict[str, str]:
        """Return what a process needs to see the GPUs; nothing else of this benchmark's environment but PATH."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.scratch),
            "LD_LIBRARY_PATH": str(self.libraries),
            "SIMGPU_STATE": str(self.state),
        }

    def gpumon_environment(self, stub_url: str, name: str, **settings: str) -> dict[str, str]:
        """Return what `gpumon run` needs besides: every tier to both sinks, which are on loopback.

        Args:
            stub_url: In the place of CloudWatch and of the metadata service.
            name: Of this process's own state directory.
            **settings: Keys of gpumon's default.toml.
        """
        for directory in ("state", "runtime"):
            (self.scratch / name / directory).mkdir(parents=True, exist_ok=True)
        mine = {
            "cloudwatch_tiers": "core,health,extended",
            "prometheus_tiers": "core,health,extended",
            "metadata_endpoint": stub_url,
            "kernel_log": str(self.state / "kmsg"),
            "state_directory": str(self.scratch / name / "state"),
            "runtime_directory": str(self.scratch / name / "runtime"),
            **settings,
        }
        return {
            **self.environment(),
            **{f"GPUMON_{key.upper()}": value for key, value in mine.items()},
            "AWS_ENDPOINT_URL_CLOUDWATCH": stub_url,
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_EC2_METADATA_DISABLED": "false",
        }


def make_machine(scratch: Path, gpu_count: int = 8, name: str = "gpus") -> Machine:
    """Build the driver's libraries, unless `scratch` has them, and give a new machine that many busy H100s.

    Args:
        scratch: A directory that is removed afterwards.
        gpu_count: 1 to 16; beyond 8 the instance type has no such size, and GPUs are made alike the others.
        name: Of the machine; machines of one name are the same one.

    Raises:
        SimgpuError: The libraries cannot be built or the state not be written.
    """
    libraries = scratch / "libraries"
    if not libraries.exists():
        driver.build(libraries)
    home = scratch / f"{name}-{gpu_count}"
    if not home.exists():
        _install(home / "0", gpu_count)
        for mood in range(1, moods.COUNT):
            shutil.copytree(home / "0", home / str(mood))
            _set(home / str(mood), gpu_count, mood)
            (home / str(mood) / "processes").rmdir()
            (home / str(mood) / "processes").symlink_to(home / "0" / "processes")  # the same jobs in every mood
    (home / "now").unlink(missing_ok=True)
    (home / "now").symlink_to("0")
    return Machine(libraries, home / "now", scratch)


def gpumon_command() -> list[str]:
    """Return how `gpumon run` is started from the checkout (working directory: `ROOT`)."""
    return [sys.executable, "-m", "gpumon", "run"]


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _install(state: Path, gpu_count: int) -> None:
    gpus = SimulatedGpus(state)
    installed = gpus.install(INSTANCE_TYPE, INSTANCE_ID)
    for index in range(installed, gpu_count):
        _add_gpu(state, index, index % installed)
    if gpu_count != installed:
        write(state / "driver", read(state / "driver") | {"gpu_count": str(gpu_count)})
    for index in range(gpu_count):
        gpus.set(index, power_milliwatts=500_000 + 1000 * index)
        gpus.set_samples(index, utilization_gpu_percent=_PATTERN)
    _set(state, gpu_count, 0)


def _set(state: Path, gpu_count: int, mood: int) -> None:
    """Give each GPU values of its own for a mood. Power stays: the energy counter of one mood must fit the next's."""
    gpus = SimulatedGpus(state)
    for index in range(gpu_count):
        swing = (7 * mood + 3 * index) % moods.COUNT
        gpus.set(
            index,
            utilization_gpu_percent=40 + swing,
            utilization_memory_percent=20 + swing,
            memory_used_bytes=40 * 2**30 + swing * 123_456_789,
            temperature_celsius=30 + swing,
            clock_sm_mhz=1200 + 12 * swing,
        )


def _add_gpu(state: Path, index: int, like: int) -> None:
    """Write a GPU that differs from another one in what identifies it."""
    values = read(state / f"gpu{like}")
    values |= {
        "uuid": f"GPU-{index:08x}-0000-4000-8000-{index:012x}",
        "serial": f"132{index:010d}",
        "minor_number": str(index),
        "pci_bus_id": f"0001:{0x50 + index:02x}:00.0",
    }
    write(state / f"gpu{index}", values)
