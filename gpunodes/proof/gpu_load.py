"""A load on the instance's GPUs: `on_instance/hold_gpu_memory.py`, started and steered over SSH."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpunodes.errors import ToolError
from gpunodes.proof.gpu_checks import Gpu
from gpunodes.proof.remote import Remote

_PROGRAM = Path(__file__).parent / "on_instance" / "hold_gpu_memory.py"
_FOLDER = "/run/gpunodes-load"
_UNIT = "gpunodes-load"
_LONGEST_SECONDS = 900
_ANSWER_SECONDS = 30.0
_POLL_SECONDS = 0.2


class GpuLoad:
    """Memory held on every GPU of an instance; it ends by itself after a quarter of an hour."""

    def __init__(self, remote: Remote, clock: Callable[[], float] = time.monotonic) -> None:
        self._remote = remote
        self._clock = clock
        self._lines_read = 0
        self._steps = 0

    def start(self) -> list[Gpu]:
        """Open a CUDA context on every GPU and say which there are.

        Raises:
            ToolError: the program does not run on the instance, or CUDA fails; the message says how.
        """
        self._remote.run(f"sudo install -d -m 0755 -o $(id -un) {_FOLDER}")
        self._remote.write(f"{_FOLDER}/program.py", _PROGRAM.read_text())
        # A transient unit: it outlives this connection, and its end is systemd's to see to.
        self._remote.run(
            f"sudo systemd-run --quiet --collect --unit={_UNIT} --property=RuntimeMaxSec={_LONGEST_SECONDS}"
            f" python3 {_FOLDER}/program.py {_FOLDER} {_LONGEST_SECONDS}"
        )
        gpus = self._answer()["gpus"]
        return [Gpu(**gpu) for gpu in gpus]

    def allocate(self, sizes_bytes: list[int]) -> datetime:
        """Let each GPU hold an amount, more than before; return when it did, UTC, by the instance's clock."""
        self._steps += 1
        self._remote.write(f"{_FOLDER}/allocate-{self._steps}", json.dumps(sizes_bytes))
        return datetime.fromtimestamp(self._answer()["time"], UTC)

    def free(self) -> datetime:
        """Free what was allocated, and with the process its contexts; return when, as `allocate` does."""
        self._remote.write(f"{_FOLDER}/free", "")
        return datetime.fromtimestamp(self._answer()["time"], UTC)

    def stop(self) -> None:
        """End the program, whatever it is doing, and remove it from the instance."""
        self._remote.run(f"sudo systemctl stop {_UNIT} 2>/dev/null; sudo rm -rf {_FOLDER}")

    def _answer(self) -> dict[str, Any]:
        deadline = self._clock() + _ANSWER_SECONDS
        while True:
            lines = self._remote.run(f"cat {_FOLDER}/status 2>/dev/null || true").splitlines()
            if len(lines) > self._lines_read:
                answer: dict[str, Any] = json.loads(lines[self._lines_read])
                self._lines_read += 1
                if "error" in answer:
                    raise ToolError(f"The GPUs of the instance cannot be used: {answer['error']}.")
                return answer
            if self._clock() > deadline:
                raise ToolError(f"The GPU load gives no answer; look at `journalctl -u {_UNIT}` on the instance.")
            time.sleep(_POLL_SECONDS)
