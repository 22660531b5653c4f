"""Processes that hold a compute context on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpumon.readers.nvml.codes import binding
from gpumon.readers.nvml.probes import Probe, ProbeSet
from gpumon.samples import GpuProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpumon.readers.nvml.codes import Outcome
    from gpumon.readers.nvml.probes import Values, Way

COUNT = "process_count"


class Processes:
    """The processes of one GPU: their number, and on demand who they are.

    Args:
        proc: Where the kernel shows processes.
        with_names: Whether to list them one by one.
    """

    def __init__(self, proc: Path, *, with_names: bool) -> None:
        self._proc = proc
        self._with_names = with_names
        self._running: list[Any] = []
        # The name without a version is not used: it raises an error outside of NVMLError where the driver is older.
        names = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
        self._probes = ProbeSet((Probe((COUNT,), tuple(self._way(binding(name)) for name in names)),))

    def forget_unsupported(self) -> None:
        """Ask for everything again at the next reading."""
        self._probes.forget_unsupported()

    def read(self, handle: Any, values: Values, outcome: Outcome) -> tuple[GpuProcess, ...] | None:
        """Write their number into `values`, and return them if that was asked for and can be read.

        Raises:
            pynvml.NVMLError: The GPU is lost.
        """
        self._probes.read(handle, values, outcome)
        if not self._with_names or values[COUNT] is None:
            return None
        return tuple(self._describe(process) for process in self._running)

    def _way(self, function: Callable[..., list[Any]]) -> Way:
        def way(handle: Any, values: Values) -> None:
            self._running = function(handle)
            values[COUNT] = len(self._running)

        return way

    def _describe(self, process: Any) -> GpuProcess:
        # pynvml makes None of NVML_VALUE_NOT_AVAILABLE.
        return GpuProcess(process.pid, self._name(process.pid), process.usedGpuMemory)

    def _name(self, pid: int) -> str:
        try:
            return (self._proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
        except OSError:  # it ended, or is in a container whose numbers differ
            return ""
