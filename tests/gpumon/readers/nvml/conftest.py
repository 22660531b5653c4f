"""Simulated machines, and processes that read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from localaws.simgpu.gpus import SimulatedGpus
from tests.gpumon.readers.nvml.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Start = Callable[..., Reading]


@pytest.fixture
def gpus(tmp_path: Path) -> SimulatedGpus:
    """Four A10G."""
    gpus = SimulatedGpus(tmp_path / "state")
    gpus.install("g5.12xlarge", "i-0123456789abcdef0")
    return gpus


@pytest.fixture
def start(driver_directory: Path, tmp_path: Path) -> Iterator[Start]:
    """Start processes that read the machine."""
    started: list[Reading] = []

    def start(libraries: Path = driver_directory, **options: Any) -> Reading:
        started.append(Reading(libraries, tmp_path / "state", tmp_path / f"log{len(started)}", **options))
        return started[-1]

    yield start
    for reading in started:
        reading.close()


@pytest.fixture
def reading(start: Start, gpus: SimulatedGpus) -> Reading:  # noqa: ARG001 - the machine first
    return start()
