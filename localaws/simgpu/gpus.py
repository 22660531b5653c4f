"""The outside control of one machine's GPUs."""

from __future__ import annotations

from collections.abc import Sequence

from localaws.simgpu import fresh_state, mig, state_files
from localaws.simgpu.errors import StateError, UnknownValueError
from localaws.simgpu.faults import GpuFaults
from localaws.simgpu.gpu_values import NvmlReturn, check_code, check_pattern, check_value
from localaws.simgpu.instance_types import gpus_of

DRIVER_VERSION = "580.95.05"
CUDA_VERSION = 13000  # 13.0, as nvmlSystemGetCudaDriverVersion encodes it
# Power as other calls report it, which follows the power that is set.
_SAME_POWER = ("power_average_milliwatts", "power_instant_milliwatts")
_UINT64 = 2**64


class SimulatedGpus(GpuFaults):
    """The GPUs of one machine, as state files that libnvidia-ml.so.1 and libcuda.so.1 on that machine read."""

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
                state_files.write(self._gpu_file(index), fresh_state.gpu(gpus, index, instance_id, self._clock_ns()))
            fresh_state.write_pci_devices(self._directory / "pci", gpus)
            for log in (self._events_file, self._kernel_log):
                state_files.write(log, {})
            # The driver's file comes last: with it the machine has a driver.
            driver = {"loaded": 1, "gpu_count": len(gpus.pci_bus_ids), "cuda_version": CUDA_VERSION}
            state_files.write(self._driver_file, driver | fresh_state.versions(DRIVER_VERSION, CUDA_VERSION))
        return len(gpus.pci_bus_ids)

    @property
    def driver_version(self) -> str:
        """The driver's version, as nvmlSystemGetDriverVersion reports it.

        Raises:
            StateError: no GPUs were installed.
        """
        return state_files.read(self._driver_file)["driver_version"]

    def upgrade_driver(self, version: str) -> None:
        """Replace the driver: whoever loaded the library before gets LIB_RM_VERSION_MISMATCH until it is loaded anew.

        Raises:
            UnknownValueError: NVML could not report such a version.
            StateError: the state cannot be read or written.
        """
        if not version or "\n" in version or len(version) >= 64:  # NVML's text buffer has 80 characters
            raise UnknownValueError(f"Use a driver version of 1 to 63 characters on one line, not {version!r}.")
        self._change_driver(fresh_state.versions(version, CUDA_VERSION))

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
            if values.get("power_milliwatts") is not None:
                state.update({key: str(values["power_milliwatts"]) for key in _SAME_POWER if key in state})
            state.update({key: str(value) for key, value in values.items()})
            for key in [key for key, value in values.items() if value is None]:
                del state[key]
            _check_memory(state)

    def set_samples(self, gpu_index: int, **patterns: Sequence[int] | None) -> None:
        """Set the buffered samples of nvmlDeviceGetSamples, six a second: a pattern that repeats.

        Args:
            gpu_index: NVML index.
            **patterns: utilization_gpu_percent, utilization_memory_percent; None: samples are the value that is set.

        Raises:
            UnknownGpuError: there is no GPU with that index.
            UnknownValueError: there are no samples of that, or these are no percentages.
            StateError: the state cannot be read or written.
        """
        for key, pattern in patterns.items():
            if key not in {"utilization_gpu_percent", "utilization_memory_percent"}:
                raise UnknownValueError(f"Choose utilization_gpu_percent or utilization_memory_percent, not {key!r}.")
            check_pattern([0] if pattern is None else pattern)
        with self._changing(gpu_index) as state:
            for key, pattern in patterns.items():
                state.pop(row := key.replace("_percent", "_pattern"), None)
                if pattern is not None:
                    state[row] = ",".join(map(str, pattern))

    def set_mig(self, gpu_index: int, devices: Sequence[tuple[str, int] | None] | None) -> None:
        """Turn MIG mode on and make these MIG devices the only ones, or turn it off.

        Args:
            gpu_index: NVML index.
            devices: per slot a profile such as "1g.5gb" and the bytes used, None for an empty slot; None: MIG mode off.

        Raises:
            UnknownGpuError: there is no GPU with that index.
            UnknownValueError: the GPU has no MIG or no such profile, or the devices do not fit.
            StateError: the state cannot be read or written.
        """
        with self._changing(gpu_index) as state:
            changed = mig.without_devices(state) if devices is None else mig.with_devices(state, devices)
            _check_memory(changed)
            state.clear()
            state.update(changed)

    def unload_driver(self, nvml_return_code: int = NvmlReturn.UNKNOWN) -> None:
        """Unload the driver: nvmlInit_v2 returns DRIVER_NOT_LOADED, cuInit CUDA_ERROR_NO_DEVICE.

        Args:
            nvml_return_code: what clients get that were initialised before.

        Raises:
            UnknownValueError: NVML has no such error.
            StateError: the state cannot be read or written.
        """
        self._change_driver({"loaded": 0, "unloaded_code": int(check_code(nvml_return_code))})

    def load_driver(self) -> None:
        """Load the driver; counters that live as long as it (energy, volatile ECC, ...) start at 0 if it was not.

        Raises:
            StateError: the state cannot be read or written.
        """
        if self.read(None)["loaded"] == "1":
            return
        for index in range(self.count):
            with self._changing(index) as state:
                state.update(fresh_state.counters_at_driver_load(state, self._clock_ns()))
        self._change_driver({"loaded": 1})

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

    def _energy_until_now(self, state: dict[str, str]) -> dict[str, str]:
        """Fold the energy drawn so far into the counter, before the power that it is computed with changes."""
        now_ns = self._clock_ns()
        elapsed_ns = max(0, now_ns - int(state["energy_since_nanoseconds"]))
        drawn = int(state.get("power_milliwatts", 0)) * elapsed_ns // 10**9
        return fresh_state.energy_from(now_ns, (int(state["energy_millijoules"]) + drawn) % _UINT64)


def _check_memory(state: dict[str, str]) -> None:
    usable = int(state.get("memory_total_bytes", 0)) - int(state.get("memory_reserved_bytes", 0))
    used = int(state.get("memory_used_bytes", 0)) + mig.used_bytes(state)
    if not 0 <= used <= usable:
        raise UnknownValueError(f"Leave {used} bytes of used memory within the {usable} that are not reserved.")
