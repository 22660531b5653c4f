"""Reads GPUs through NVML. The only module that imports pynvml.

One session for the life of the process, because opening one may re-initialise every GPU. Each call stands alone: what
it cannot give is None, and whatever else works is still read. A value that a GPU does not have is remembered and
asked for again only rarely.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pynvml

from gpumon.errors import DriverMismatchError, DriverUnavailableError
from gpumon.samples import Gpu, GpuSample

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Values = Mapping[str, float]
    Way = Callable[[Any], Values]

RESCAN_SECONDS = 60.0  # how soon a lost or new GPU is looked for
REPROBE_SECONDS = (
    3600.0  # how soon a value that was not supported is asked for again (a change of MIG mode brings it back)
)

_UNSUPPORTED = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        pynvml.NVML_ERROR_DEPRECATED,
    }
)
_LOST = frozenset({pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_GPU_NOT_FOUND})
_DRIVER_GONE = frozenset(
    {pynvml.NVML_ERROR_UNINITIALIZED, pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH}
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Probe:
    """Values that one call gives, and the ways to make that call, best first.

    The next way is taken only where the driver or the GPU does not know the one before it.
    """

    values: tuple[str, ...]
    ways: tuple[Way, ...]


def _memory_v2(handle: Any) -> Values:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    return {
        "memory_used_bytes": memory.used,
        "memory_free_bytes": memory.free,
        "memory_total_bytes": memory.total,
        "memory_reserved_bytes": memory.reserved,
        **_share(memory.used, memory.total - memory.reserved),
    }


def _memory_v1(handle: Any) -> Values:
    """Version 1 counts the reserved memory as used, and does not say how much that is."""
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return {
        "memory_used_bytes": memory.used,
        "memory_free_bytes": memory.free,
        "memory_total_bytes": memory.total,
        **_share(memory.used, memory.total),
    }


def _share(used_bytes: int, allocatable_bytes: int) -> Values:
    return {"memory_utilization_percent": 100 * used_bytes / allocatable_bytes} if allocatable_bytes > 0 else {}


def _utilization(handle: Any) -> Values:
    rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
    # rates.memory is the share of time in which the memory was accessed, not the share of it that is allocated.
    return {"gpu_utilization_percent": rates.gpu, "memory_bandwidth_utilization_percent": rates.memory}


def _temperature_v(handle: Any) -> Values:
    return {"temperature_celsius": pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU)}


def _temperature(handle: Any) -> Values:
    return {"temperature_celsius": pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)}


def _power(handle: Any) -> Values:
    return {"power_watts": pynvml.nvmlDeviceGetPowerUsage(handle) / 1000}


def _sm_clock(handle: Any) -> Values:
    return {"sm_clock_megahertz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)}


def _processes_v3(handle: Any) -> Values:
    # The name without a version is not used: it raises an error outside of NVMLError where the driver is older.
    return {"process_count": len(pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle))}


def _processes_v2(handle: Any) -> Values:
    return {"process_count": len(pynvml.nvmlDeviceGetComputeRunningProcesses_v2(handle))}


_TEMPERATURE_WAYS: tuple[Way, ...] = (
    # Bindings before version 12.570 do not have the newer call.
    (_temperature_v, _temperature) if hasattr(pynvml, "nvmlDeviceGetTemperatureV") else (_temperature,)
)
PROBES = (
    Probe(
        (
            "memory_used_bytes",
            "memory_free_bytes",
            "memory_total_bytes",
            "memory_reserved_bytes",
            "memory_utilization_percent",
        ),
        (_memory_v2, _memory_v1),
    ),
    Probe(("gpu_utilization_percent", "memory_bandwidth_utilization_percent"), (_utilization,)),
    Probe(("temperature_celsius",), _TEMPERATURE_WAYS),
    Probe(("power_watts",), (_power,)),
    Probe(("sm_clock_megahertz",), (_sm_clock,)),
    Probe(("process_count",), (_processes_v3, _processes_v2)),
)
VALUE_NAMES = tuple(name for probe in PROBES for name in probe.values)


@dataclass
class _Device:
    gpu: Gpu
    handle: Any | None
    unsupported: dict[Way, float] = field(default_factory=dict)  # way -> monotonic time at which to try it again


class NvmlReader:
    """A `GpuReader` that holds one NVML session."""

    def __init__(self, monotonic_seconds: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_seconds = monotonic_seconds
        self._is_open = False
        self._next_scan = 0.0
        self._devices: dict[str, _Device] = {}
        self._codes: set[int] = set()  # of the current reading; 0 is success

    def read(self) -> tuple[GpuSample, ...]:
        """Read every known GPU once.

        Raises:
            DriverUnavailableError: No driver or library answers; the next call tries anew.
            DriverMismatchError: The library in memory does not belong to the loaded driver.
        """
        try:
            if not self._is_open:
                pynvml.nvmlInit()
                self._is_open = True
                self._next_scan = self._monotonic_seconds()
            if self._monotonic_seconds() >= self._next_scan:
                self._scan()
                self._next_scan = self._monotonic_seconds() + RESCAN_SECONDS
        except pynvml.NVMLError as error:
            self.close()
            raise _driver_error(error) from error
        self._codes = set()
        samples = tuple(self._read_device(device) for device in self._devices.values())
        self._require_driver()
        return samples

    def _require_driver(self) -> None:
        """Start over where no call worked: a driver that is reloaded under us makes all of them fail in some way."""
        if pynvml.NVML_SUCCESS in self._codes:
            return
        reasons = self._codes - _UNSUPPORTED
        if reasons:
            self.close()
            gone = reasons & _DRIVER_GONE
            raise _driver_error(pynvml.NVMLError(max(gone or reasons)))

    def close(self) -> None:
        """End the session; GPUs keep their identity for the next one."""
        for device in self._devices.values():
            device.handle = None
            device.unsupported.clear()
        if self._is_open:
            self._is_open = False
            try:
                pynvml.nvmlShutdown()
            except pynvml.NVMLError as error:
                log.debug("nvmlShutdown: %s", error)

    def _scan(self) -> None:
        """Find GPUs that are new, and take lost ones up again."""
        count = pynvml.nvmlDeviceGetCount()
        held = sum(device.handle is not None for device in self._devices.values())
        if count == held and count:
            return
        for index in range(count):
            self._take_up(index)
        if not self._devices:
            log.warning("the driver answers and shows no GPU that can be opened (it counts %d)", count)

    def _take_up(self, index: int) -> None:
        """Open the GPU that has this index now, unless it is open already; a GPU that fails costs only itself."""
        try:
            uuid = _text(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index)))
            known = self._devices.get(uuid)
            if known is not None and known.handle is not None:
                return
            # Indices move when a GPU drops out; the UUID does not.
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid.encode())
            gpu = Gpu(uuid, index, _text(pynvml.nvmlDeviceGetName(handle)))
        except pynvml.NVMLError as error:
            log.warning("GPU with index %s cannot be opened: %s", str(index), error)
            return
        self._devices[uuid] = _Device(gpu, handle)
        log.info("reading GPU %d: %s, %s", index, gpu.name, uuid)

    def _read_device(self, device: _Device) -> GpuSample:
        values: dict[str, float | None] = dict.fromkeys(VALUE_NAMES)
        if device.handle is not None:
            codes = set()
            for probe in PROBES:
                found, code = self._read_probe(device, probe)
                values.update(found)
                codes.add(code)
            self._codes |= codes
            if codes & _LOST and pynvml.NVML_SUCCESS not in codes:
                device.handle = None  # using the handle of a lost GPU can crash the library
                log.error("GPU %s is lost; looking for it every %.0f s", device.gpu.uuid, RESCAN_SECONDS)
        return GpuSample(device.gpu, values)

    def _read_probe(self, device: _Device, probe: Probe) -> tuple[Values, int]:
        """Return what the probe gives, and NVML's code for it."""
        code = int(pynvml.NVML_ERROR_NOT_SUPPORTED)
        for way in probe.ways:
            now = self._monotonic_seconds()
            if now < device.unsupported.get(way, now):
                continue
            try:
                return way(device.handle), int(pynvml.NVML_SUCCESS)
            except pynvml.NVMLError as error:
                code = int(error.value)
                if code not in _UNSUPPORTED:
                    log.warning("%s of GPU %s: %s", probe.values[0], device.gpu.uuid, error)
                    break
                if way not in device.unsupported:
                    log.info("GPU %s does not support %s: %s", device.gpu.uuid, way.__name__.strip("_"), error)
                device.unsupported[way] = now + REPROBE_SECONDS
        return {}, code


def _driver_error(error: pynvml.NVMLError) -> DriverUnavailableError:
    if error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return DriverMismatchError(
            "Restart gpumon (or the host) so that it loads the library of the driver that is loaded now."
        )
    if error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        return DriverUnavailableError(
            "Install the NVIDIA driver's libnvidia-ml.so.1, or ignore this on a host without a GPU."
        )
    if error.value in _LOST:
        return DriverUnavailableError(f"Reset the GPUs or replace the instance: NVML says of every one {error}.")
    return DriverUnavailableError(f"Load the NVIDIA driver, or ignore this on a host without a GPU: NVML says {error}.")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value  # bytes before nvidia-ml-py 11.5
