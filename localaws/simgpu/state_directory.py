"""The state directory of a machine and the files in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from localaws.simgpu import state_files
from localaws.simgpu.errors import UnknownGpuError


class StateDirectory:
    """The state files that libnvidia-ml.so.1 and libcuda.so.1 on one machine read.

    Args:
        directory: the state directory, which the machine sees as /run/simgpu.
        clock_ns: CLOCK_MONOTONIC in nanoseconds, the clock of the energy counter and the kernel log.
    """

    def __init__(self, directory: Path, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._directory = directory
        self._clock_ns = clock_ns

    @property
    def count(self) -> int:
        """How many GPUs the machine has.

        Raises:
            StateError: none were installed.
        """
        return int(state_files.read(self._driver_file)["gpu_count"])

    def read(self, gpu_index: int | None) -> dict[str, str]:
        """Return the state of a GPU, or with None of the driver, as it stands in its file.

        Raises:
            UnknownGpuError: there is no GPU with that index.
            StateError: no GPUs were installed.
        """
        return state_files.read(self._file_of(gpu_index))

    @property
    def _driver_file(self) -> Path:
        return self._directory / "driver"

    @property
    def _events_file(self) -> Path:
        return self._directory / "events"

    @property
    def _kernel_log(self) -> Path:
        return self._directory / "kmsg"

    def _gpu_file(self, index: int) -> Path:
        return self._directory / f"gpu{index}"

    def _file_of(self, gpu_index: int | None) -> Path:
        if gpu_index is None:
            return self._driver_file
        if not 0 <= gpu_index < self.count:
            raise UnknownGpuError(f"Choose a GPU from 0 to {self.count - 1}, not {gpu_index}.")
        return self._gpu_file(gpu_index)

    def _changing(self, gpu_index: int | None) -> AbstractContextManager[dict[str, str]]:
        return state_files.changing(self._directory, self._file_of(gpu_index))
