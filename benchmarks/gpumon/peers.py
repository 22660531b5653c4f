"""The peers that gpumon is measured beside, each in a virtual environment of its own."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.gpumon.machine import free_port
from benchmarks.gpumon.processes import output_of, running

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from benchmarks.gpumon.machine import Machine
    from benchmarks.gpumon.processes import Measured

NVITOP = "nvitop-exporter==1.7.2"
GCM = "gpucm==0.0.2"  # facebookresearch/gcm, under the name that its authors gave it on the package index
GCM_COLLECT_SECONDS = 1  # its least; its default is 10
GCM_NAME = "gcm-nvml_monitor"
_SUDO = """#include <unistd.h>
int main(int argc, char **argv) { return argc > 1 ? execvp(argv[1], argv + 1) : 1; }
"""


@dataclass(frozen=True)
class Peers:
    """Directories of the virtual environments; None: not to be had, and why."""

    nvitop: Path | None
    gcm: Path | None
    why_not: str = ""


def install(directory: Path, gcm_source: str = GCM) -> Peers:
    """Make the virtual environments that are not there yet.

    Args:
        directory: Where they go.
        gcm_source: What pip installs for gcm: a requirement, or the path of a checkout.
    """
    found: dict[str, Path | None] = {}
    reasons = []
    for name, requirement, program in (("nvitop", NVITOP, "nvitop-exporter"), ("gcm", gcm_source, "gcm")):
        home = directory / name
        try:
            _make(home, requirement, program)
        except RuntimeError as error:
            reasons.append(f"{requirement} cannot be installed: {str(error).splitlines()[-1]}")
        found[name] = home if (home / "bin" / program).exists() else None
    return Peers(found["nvitop"], found["gcm"], "; ".join(reasons))


def _make(home: Path, requirement: str, program: str) -> None:
    if not (home / "bin" / program).exists():
        output_of([sys.executable, "-m", "venv", str(home)], os.environ)
        output_of([str(home / "bin" / "pip"), "install", "--quiet", requirement], os.environ)


def nvitop_exporter(machine: Machine, home: Path) -> AbstractContextManager[Measured]:
    """Start nvitop-exporter with its own settings, but for the port: it reads once a second, as gpumon does."""
    port = free_port()
    command = [str(home / "bin" / "nvitop-exporter"), "--port", str(port)]
    url = f"http://127.0.0.1:{port}/metrics"
    return running("nvitop-exporter", command, machine.environment(), machine.scratch, url)


def gcm(machine: Machine, home: Path, name: str = GCM_NAME) -> AbstractContextManager[Measured]:
    """Start gcm's nvml_monitor with its sink on standard output, collecting once a second.

    At each collection it asks `sudo cat` for the environment of a process on each GPU. Where there is no sudo, a
    program stands in for it that does nothing but execute its arguments: the least that sudo could cost.
    """
    command = [
        *(str(home / "bin" / "gcm"), "nvml_monitor", "--sink", "stdout", "--log-folder", str(machine.scratch / name)),
        *("--collect-interval", str(GCM_COLLECT_SECONDS), "--push-interval", "60", "--interval", "60"),
    ]
    environment = machine.environment()
    if not has_sudo():
        environment["PATH"] = f"{_sudo_stand_in(machine.scratch).parent}:{environment['PATH']}"
    return running(name, command, environment, machine.scratch)


def has_sudo() -> bool:
    """Say whether gcm can be measured with the real one."""
    return shutil.which("sudo") is not None


def _sudo_stand_in(scratch: Path) -> Path:
    program = scratch / "stand-in" / "sudo"
    if not program.exists():
        program.parent.mkdir()
        source = program.with_suffix(".c")
        source.write_text(_SUDO, encoding="ascii")
        output_of(["gcc", "-O2", "-o", str(program), str(source)], os.environ)
    return program
