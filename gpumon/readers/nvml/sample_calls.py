"""The calls that are made every second: cheap ones, each with a fallback where an older driver lacks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pynvml

from gpumon.readers.nvml.codes import SENTINELS, binding
from gpumon.readers.nvml.probes import Probe, number

if TYPE_CHECKING:
    from gpumon.readers.nvml.probes import Values, Way

UTILIZATION_NOW = "gpu_utilization_now_percent"

_NEVER = 2**64 - 1


def _memory_v2(handle: Any, values: Values) -> None:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    total, used, reserved = memory.total, memory.used, memory.reserved
    if _NEVER in (total, used, reserved):
        return
    values["memory_used_bytes"] = used
    values["memory_free_bytes"] = memory.free
    values["memory_total_bytes"] = total
    values["memory_reserved_bytes"] = reserved
    if total > reserved:
        values["memory_utilization_percent"] = 100 * used / (total - reserved)


def _memory_v1(handle: Any, values: Values) -> None:
    """Version 1 counts the reserved memory as used, and does not say how much that is."""
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    total, used = memory.total, memory.used
    if _NEVER in (total, used):
        return
    values["memory_used_bytes"] = used
    values["memory_free_bytes"] = memory.free
    values["memory_total_bytes"] = total
    if total > 0:
        values["memory_utilization_percent"] = 100 * used / total


def _utilization(handle: Any, values: Values) -> None:
    rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
    gpu, memory = rates.gpu, rates.memory
    # rates.memory is the share of time in which the memory was accessed, not the share of it that is allocated.
    if gpu not in SENTINELS:
        values[UTILIZATION_NOW] = gpu
    if memory not in SENTINELS:
        values["memory_bandwidth_utilization_percent"] = memory


# Bits of nvmlClocksEventReasons. An idle GPU (1), clocks that somebody chose (2, 0x100) and sync boost (0x10) are no
# throttling.
_THROTTLED = {
    "throttled_power_percent": 0x4,
    "throttled_thermal_percent": 0x20 | 0x40,
    "throttled_hw_slowdown_percent": 0x8,
    "throttled_power_brake_percent": 0x80,
}
_NOT_THROTTLED = {"clock_event_reasons": 0, **dict.fromkeys(_THROTTLED, 0)}
_ANY_THROTTLE = 0x4 | 0x8 | 0x20 | 0x40 | 0x80


def _clock_event_reasons(function_name: str) -> Way:
    function = binding(function_name)

    def way(handle: Any, values: Values) -> None:
        mask = function(handle)
        if mask in SENTINELS:
            return
        values.update(_NOT_THROTTLED)
        values["clock_event_reasons"] = mask
        if mask & _ANY_THROTTLE:
            for name, bits in _THROTTLED.items():
                values[name] = 100 if mask & bits else 0

    return way


MEMORY = Probe(
    (
        "memory_used_bytes",
        "memory_free_bytes",
        "memory_total_bytes",
        "memory_reserved_bytes",
        "memory_utilization_percent",
    ),
    (_memory_v2, _memory_v1),
)
UTILIZATION = Probe((UTILIZATION_NOW, "memory_bandwidth_utilization_percent"), (_utilization,))
SAMPLE_PROBES = (
    MEMORY,
    UTILIZATION,
    Probe(
        ("temperature_celsius",),
        (
            number("temperature_celsius", "nvmlDeviceGetTemperatureV", pynvml.NVML_TEMPERATURE_GPU),
            number("temperature_celsius", "nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU),
        ),
    ),
    Probe(("power_watts",), (number("power_watts", "nvmlDeviceGetPowerUsage", divisor=1000),)),
    Probe(("sm_clock_megahertz",), (number("sm_clock_megahertz", "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM),)),
    Probe(
        tuple(_NOT_THROTTLED),
        (
            _clock_event_reasons("nvmlDeviceGetCurrentClocksEventReasons"),
            _clock_event_reasons("nvmlDeviceGetCurrentClocksThrottleReasons"),
        ),
    ),
)
