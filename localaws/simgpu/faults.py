"""What can go wrong with the GPUs of one machine, from outside."""

from __future__ import annotations

from localaws.simgpu import state_files, xids
from localaws.simgpu.errors import UnknownValueError
from localaws.simgpu.gpu_values import Loss, check_code, check_field, check_function
from localaws.simgpu.state_directory import StateDirectory

_FAULTS = ("fail.", "fail_field.", "hang.")


class GpuFaults(StateDirectory):
    """Makes calls fail or hang, loses GPUs, lets Xid errors strike."""

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
        check_function(nvml_function)
        code = check_code(nvml_return_code)
        with self._changing(gpu_index) as state:
            state[f"fail.{nvml_function}"] = str(int(code))

    def fail_field(self, gpu_index: int, field_id: int, nvml_return_code: int) -> None:
        """Make one entry of nvmlDeviceGetFieldValues fail on a GPU, while the call itself succeeds.

        Args:
            gpu_index: NVML index.
            field_id: NVML_FI_DEV_*.
            nvml_return_code: what the entry's nvmlReturn is from now on.

        Raises:
            UnknownGpuError: there is no GPU with that index.
            UnknownValueError: no field can have that id, or NVML has no such error.
            StateError: the state cannot be read or written.
        """
        check_field(field_id)
        code = check_code(nvml_return_code)
        with self._changing(gpu_index) as state:
            state[f"fail_field.{field_id}"] = str(int(code))

    def hang(self, gpu_index: int | None, nvml_function: str) -> None:
        """Make an NVML function block until it is healed, as a call into a wedged driver does.

        Args:
            gpu_index: NVML index; None for every GPU and for calls without one.
            nvml_function: the exported name, for instance nvmlInitWithFlags, which is what pynvml's nvmlInit calls.

        Raises:
            UnknownGpuError: there is no GPU with that index.
            UnknownValueError: the simulated driver has no such function.
            StateError: the state cannot be read or written.
        """
        check_function(nvml_function)
        with self._changing(gpu_index) as state:
            state.pop(f"fail.{nvml_function}", None)
            state[f"hang.{nvml_function}"] = "1"

    def heal(self, gpu_index: int | None, nvml_function: str | None = None) -> None:
        """Undo fail() and hang() for one NVML function, or those and fail_field() for all.

        Healing what did not fail does nothing.

        Raises:
            UnknownGpuError: there is no GPU with that index.
            UnknownValueError: the simulated driver has no such function.
            StateError: the state cannot be read or written.
        """
        if nvml_function is not None:
            check_function(nvml_function)
        with self._changing(gpu_index) as state:
            for key in [key for key in state if key.startswith(_FAULTS)]:
                if nvml_function is None or key in {f"fail.{nvml_function}", f"hang.{nvml_function}"}:
                    del state[key]

    def lose(self, gpu_index: int, how: str = "lost") -> None:
        """Let a GPU fall off the bus: NVML calls about it return GPU_IS_LOST, CUDA calls fail.

        Args:
            gpu_index: NVML index.
            how: "lost": its handle can still be had by no call, each returns GPU_IS_LOST. "unknown": those return
                UNKNOWN. "vanished": NVML enumerates one GPU less, later ones move down by one, and there is none with
                its UUID or PCI address; here, GPUs keep their index.

        Raises:
            UnknownGpuError: there is no GPU with that index.
            UnknownValueError: there is no such way to be lost.
            StateError: the state cannot be read or written.
        """
        if how.upper() not in Loss.__members__:
            raise UnknownValueError(
                f"Lose a GPU as {', '.join(name.lower() for name in Loss.__members__)}, not {how!r}."
            )
        with self._changing(gpu_index) as state:
            state["lost"] = str(int(Loss[how.upper()]))

    def restore(self, gpu_index: int) -> None:
        """Bring a lost GPU back, however it was lost.

        Raises:
            UnknownGpuError: there is no GPU with that index.
            StateError: the state cannot be read or written.
        """
        with self._changing(gpu_index) as state:
            state["lost"] = "0"

    def xid(
        self,
        gpu_index: int,
        xid: int,
        *,
        gpu_instance_id: int = xids.NO_INSTANCE,
        compute_instance_id: int = xids.NO_INSTANCE,
        event: bool = True,
        log: bool = True,
    ) -> None:
        """Let an Xid error strike a GPU: an event for whoever registered for it, a line in the kernel log.

        Args:
            gpu_index: NVML index.
            xid: its number.
            gpu_instance_id: of the MIG device that it strikes; by default the whole GPU.
            compute_instance_id: as gpu_instance_id.
            event: whether NVML reports it.
            log: whether the kernel log (the file `kmsg`) has it.

        Raises:
            UnknownGpuError: there is no GPU with that index.
            UnknownValueError: there is no such Xid.
            StateError: the state cannot be read or written.
        """
        xids.check(xid)
        state = self.read(gpu_index)
        with state_files.locked(self._directory):
            if log:
                sequence = state_files.count_lines(self._kernel_log)
                now_us = self._clock_ns() // 1000
                record = xids.kernel_log_record(sequence, now_us, state["pci_bus_id"], xid, gpu_instance_id)
                state_files.append(self._kernel_log, record)
            if event:
                line = xids.event_line(gpu_index, xid, gpu_instance_id, compute_instance_id)
                state_files.append(self._events_file, line)
