"""A process that loads the simulated driver as it would load NVIDIA's, and reads when asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpumon.readers import EVERYTHING, Due

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpumon.samples import Gpu

ROOT = Path(__file__).parents[4]
PROGRAM = Path(__file__).with_name("reading_program.py")
MIB = 2**20

# Of nvmlReturn_t.
INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, DRIVER_NOT_LOADED = 2, 3, 4, 6, 9
FUNCTION_NOT_FOUND, GPU_IS_LOST, RESET_REQUIRED, MISMATCH, NO_DATA, UNKNOWN = 13, 15, 16, 18, 21, 999
GPU_NOT_FOUND = 28

# What a reading of what is due each second consists of.
SAMPLE_CALLS = (
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetCurrentClocksEventReasons",
)


class Reading:
    """A process with the real pynvml and our reader.

    Args:
        libraries: where libnvidia-ml.so.1 is.
        state: the simulated machine.
        log: where the process logs to.
        known: GPUs that the reader is told of.
        with_processes: as of the reader.
        bindings: a Python file that runs before the reader is imported, to make the bindings older.
    """

    def __init__(
        self,
        libraries: Path,
        state: Path,
        log: Path,
        *,
        known: Sequence[Gpu] = (),
        with_processes: bool = False,
        bindings: Path | None = None,
    ) -> None:
        self._log = log
        self._log_file = log.open("w")
        path = [str(ROOT)] if bindings is None else [str(bindings), str(ROOT)]
        options = {"known": [asdict(gpu) for gpu in known], "with_processes": with_processes}
        self._process = subprocess.Popen(
            [sys.executable, PROGRAM, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log_file,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path),
                "SIMGPU_STATE": str(state),
                "LD_LIBRARY_PATH": str(libraries),
            },
            text=True,
        )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def read(
        self, due: Due = EVERYTHING, *, after_seconds: float = 1.0, unix_offset_seconds: float = 0, repeat: int = 0
    ) -> Any:
        """Return a reading (or the CPU seconds of one, on average of `repeat`), or the error."""
        request = {
            "due": due.value,
            "after_seconds": after_seconds,
            "unix_offset_seconds": unix_offset_seconds,
            "repeat": repeat,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(request)}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self.log
        return json.loads(line)

    def gpus(self, due: Due = EVERYTHING, *, after_seconds: float = 1.0) -> list[dict[str, Any]]:
        """Return the GPUs of a reading that succeeds."""
        answer = self.read(due, after_seconds=after_seconds)
        assert "error" not in answer, answer
        gpus: list[dict[str, Any]] = answer["gpus"]
        return gpus

    def values(self, gpu: int = 0, due: Due = EVERYTHING, *, after_seconds: float = 1.0) -> dict[str, Any]:
        """Return the values of one GPU of a reading that succeeds."""
        values: dict[str, Any] = self.gpus(due, after_seconds=after_seconds)[gpu]["values"]
        return values

    def close(self) -> None:
        self._process.communicate(timeout=10)
        self._log_file.close()
        assert self._process.returncode == 0, self.log


def up(gpus: list[dict[str, Any]]) -> list[float]:
    return [gpu["values"]["gpu_up"] for gpu in gpus]
