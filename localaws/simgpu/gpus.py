"""The outside control of one machine's GPUs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from localaws.simgpu import state_files
from localaws.simgpu.errors import StateError, UnknownGpuError, UnknownValueError
from localaws.simgpu.gpu_values import check_fault, check_value, nvml_functions
from localaws.simgpu.instance_types import InstanceGpus, gpus_of

DRIVER_VERSION = "580.95.05"
CUDA_VERSION = 13000  # 13.0, as nvmlSystemGetCudaDriverVersion encodes it
_VOLATILE = ("ecc_corrected_volatile", "ecc_uncorrected_volatile")


class SimulatedGpus:
    """The GPUs of one machine, as state files that libnvidia-ml.so.1 and libcuda.so.1 on that machine read.

    Args:
        directory: the state directory, which the machine sees as /run/simgpu.
        clock_ns: CLOCK_MONOTONIC in nanoseconds, the clock of the energy counter.
    """

    def __init__(self, directory: Path, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._directory = directory
        self._clock_ns = clock_ns

    def install(self, instance_type: str, instance_id: str) -> int:
        """Give the machine the GPUs of an EC2 instance type, idle, with a loaded driver; an earlier state is replaced.

        UUIDs and serial numbers follow from the instance id: the same instance has the same GPUs after every call.

        Args:
            instance_type: an EC2 instance type, with or without GPUs.
            instance_id: an EC2 instance id.

        Returns:
            how many GPUs the instance type has; with 0, nothing is written.

        Raises:
            StateError: the directory cannot be written.
        """
        gpus = gpus_of(instance_type)
        if gpus is None:
            return 0
        self._make_directories()
        with state_files.locked(self._directory):
            self._remove_gpus_from(len(gpus.pci_bus_ids))
            for index in range(len(gpus.pci_bus_ids)):
                state_files.write(self._gpu_file(index), self._fresh_gpu(gpus, index, instance_id))
            # The driver's file comes last: with it the machine has a driver.
            driver = {"loaded": 1, "gpu_count": len(gpus.pci_bus_ids), "cuda_version": CUDA_VERSION}
            state_files.write(self._driver_file, driver | _versions(DRIVER_VERSION))
        return len(gpus.pci_bus_ids)

    @property
    def count(self) -> int:
        """How many GPUs the machine has.

        Raises:
            StateError: none were installed.
        """
        return int(state_files.read(self._driver_file)["gpu_count"])

    @property
    def driver_version(self) -> str:
        """The driver's version, as nvmlSystemGetDriverVersion reports it.

        Raises:
            StateError: no GPUs were installed.
        """
        return state_files.read(self._driver_file)["driver_version"]

    @driver_version.setter
    def driver_version(self, version: str) -> None:
        if not version or "\n" in version or len(version) >= 64:  # NVML's text buffer has 80 characters
            raise UnknownValueError(f"Use a driver version of 1 to 63 characters on one line, not {version!r}.")
        self._change_driver(_versions(version))

    def read(self, gpu_index: int | None) -> dict[str, str]:
        """Return the state of a GPU, or with None of the driver, as it stands in its file.

        Raises:
            UnknownGpuError: there is no GPU with that index.
            StateError: no GPUs were installed.
        """
        return state_files.read(self._file_of(gpu_index))

    def set(self, gpu_index: int, **values: int | None) -> None:
        """Set values of a GPU, all in one step; None makes NVML answer NOT_SUPPORTED for the value.

        Args:
            gpu_index: NVML index.
            **values: for instance temperature_celsius, power_milliwatts, utilization_gpu_percent, clock_sm_mhz, or
                memory_used_bytes (what is allocated besides what processes allocate through libcuda).

        Raises:
            UnknownGpuError: there is no GPU with that index.
            UnknownValueError: no GPU has such a value, or it is out of range.
            StateError: the state cannot be read or written.
        """
        for key, value in values.items():
            check_value(key, 0 if value is None else value)
        with self._changing(gpu_index) as state:
            if "energy_millijoules" in state:
                state.update(self._energy_until_now(state))
            state.update({key: str(value) for key, value in values.items()})
            for key in [key for key, value in values.items() if value is None]:
                del state[key]
            _check_memory(state)

    def fail(self, gpu_index: int | None, nvml_function: str, nvml_return_code: int) -> None:
        """Make an NVML function fail on a GPU.

        Args:
            gpu_index: NVML index; None for every GPU and for calls without one, such as nvmlInit_v2.
            nvml_function: the exported name, for instance nvmlDeviceGetMemoryInfo_v2.
            nvml_return_code: what it returns from now on (nvmlReturn_t).

        Raises:
            UnknownGpuError: there is no GPU with that index.
            UnknownValueError: the simulated driver has no such function, or NVML no such error.
            StateError: the state cannot be read or written.
        """
        code = check_fault(nvml_function, nvml_return_code)
        with self._changing(gpu_index) as state:
            state[f"fail.{nvml_function}"] = str(int(code))

    def heal(self, gpu_index: int | None, nvml_function: str | None = None) -> None:
        """Undo fail() for one NVML function, or for all of them; healing what did not fail does nothing.

        Raises:
            UnknownGpuError: there is no GPU with that index.
            UnknownValueError: the simulated driver has no such function.
            StateError: the state cannot be read or written.
        """
        if nvml_function is not None:
            check_fault(nvml_function, 1)
        names = nvml_functions() if nvml_function is None else {nvml_function}
        with self._changing(gpu_index) as state:
            for name in names:
                state.pop(f"fail.{name}", None)

    def lose(self, gpu_index: int) -> None:
        """Let a GPU fall off the bus: every NVML call about it returns GPU_IS_LOST, every CUDA call fails.

        Raises:
            UnknownGpuError: there is no GPU with that index.
            StateError: the state cannot be read or written.
        """
        with self._changing(gpu_index) as state:
            state["lost"] = "1"

    def restore(self, gpu_index: int) -> None:
        """Bring a lost GPU back.

        Raises:
            UnknownGpuError: there is no GPU with that index.
            StateError: the state cannot be read or written.
        """
        with self._changing(gpu_index) as state:
            state["lost"] = "0"

    def unload_driver(self) -> None:
        """Unload the driver: nvmlInit_v2 returns DRIVER_NOT_LOADED, cuInit CUDA_ERROR_NO_DEVICE.

        Raises:
            StateError: the state cannot be read or written.
        """
        self._change_driver({"loaded": 0})

    def load_driver(self) -> None:
        """Load the driver; counters that live as long as it (energy, volatile ECC errors) start at 0 if it was not.

        Raises:
            StateError: the state cannot be read or written.
        """
        if self.read(None)["loaded"] == "1":
            return
        for index in range(self.count):
            with self._changing(index) as state:
                fresh = {**dict.fromkeys(_VOLATILE, "0"), **self._fresh_energy()}
                state.update({key: value for key, value in fresh.items() if key in state})
        self._change_driver({"loaded": 1})

    @property
    def _driver_file(self) -> Path:
        return self._directory / "driver"

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

    def _change_driver(self, values: dict[str, object]) -> None:
        with self._changing(None) as state:
            state.update({key: str(value) for key, value in values.items()})

    def _make_directories(self) -> None:
        processes = self._directory / "processes"
        try:
            processes.mkdir(parents=True, exist_ok=True)
            self._directory.chmod(0o755)
            processes.chmod(0o1777)  # every user may allocate; nobody may remove another's record
        except OSError as error:
            raise StateError(f"Make {self._directory} writable: {error.strerror}.") from error

    def _remove_gpus_from(self, count: int) -> None:
        for path in self._directory.glob("gpu*"):
            if path.name[3:].isdigit() and int(path.name[3:]) >= count:
                path.unlink()

    def _fresh_gpu(self, gpus: InstanceGpus, index: int, instance_id: str) -> dict[str, object]:
        digest = hashlib.sha256(f"{instance_id}/{index}".encode()).hexdigest()
        uuid = "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))
        return {
            "name": gpus.name,
            "uuid": f"GPU-{uuid}",
            "serial": f"132{int(digest[32:48], 16) % 10**9:09d}{index}",  # 13 digits, as on the cards
            "pci_bus_id": gpus.pci_bus_ids[index],
            "minor_number": index,
            "lost": 0,
            **gpus.numbers,
            **self._fresh_energy(),
        }

    def _fresh_energy(self) -> dict[str, str]:
        return {"energy_millijoules": "0", "energy_since_nanoseconds": str(self._clock_ns())}

    def _energy_until_now(self, state: dict[str, str]) -> dict[str, str]:
        """Fold the energy drawn so far into the counter, before the power that it is computed with changes."""
        now = self._clock_ns()
        elapsed_ns = max(0, now - int(state["energy_since_nanoseconds"]))
        drawn = int(state.get("power_milliwatts", 0)) * elapsed_ns // 10**9
        return {
            "energy_millijoules": str(int(state["energy_millijoules"]) + drawn),
            "energy_since_nanoseconds": str(now),
        }


def _versions(driver_version: str) -> dict[str, object]:
    return {"driver_version": driver_version, "nvml_version": f"{CUDA_VERSION // 1000}.{driver_version}"}


def _check_memory(state: dict[str, str]) -> None:
    usable = int(state.get("memory_total_bytes", 0)) - int(state.get("memory_reserved_bytes", 0))
    used = int(state.get("memory_used_bytes", 0))
    if not 0 <= used <= usable:
        raise UnknownValueError(f"Leave {used} bytes of used memory within the {usable} that are not reserved.")
