"""Reads every GPU through NVML once a second, for what gpumon publishes to be compared with; the host beside them.

Runs on the instance with any Python 3.9 or newer that has pynvml, gpumon's own for one; shares no code with gpumon, and
asks plain calls where gpumon asks for batches of fields. Names and units of the values are those of readers in
`gpumon/metrics.toml`. Appends one JSON document a line to FOLDER/readings:

    {"gpus": {UUID: index}, "unsupported": {UUID: [reader, ...]}}   at first: what NVML says that a GPU does not have
    {"time": Unix time, "values": {UUID: {reader: number}}}         every second; what failed is not in it. Under the
                                                                    UUID "" what the CloudWatch agent measures
    {"error": text}                                                 NVML cannot be used; that is the end

Arguments: FOLDER SECONDS. It ends by itself after SECONDS, or when FOLDER/stop exists.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import pynvml as nvml

INTERVAL_SECONDS = 1.0
HOST = ""  # among UUIDs
_WATTS = 1e-3  # NVML has milliwatts
_NO_NUMBERS = frozenset({2**32 - 1, 2**64 - 1})  # what drivers say instead of an error
_NVLINK_ERRORS = (38, 45, 52, 59)  # NVML_FI_DEV_NVLINK_{CRC_FLIT,CRC_DATA,REPLAY,RECOVERY}_ERROR_COUNT_TOTAL
_RECOVERY_ACTION = 230  # NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
# Bits of nvmlClocksEventReasons.
_THROTTLED = {
    "throttled_power_percent": 0x4,
    "throttled_hw_slowdown_percent": 0x8,
    "throttled_thermal_percent": 0x20 | 0x40,
    "throttled_power_brake_percent": 0x80,
}
_UNION_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by nvmlValueType_t
_LACKS = frozenset(
    {
        nvml.NVML_ERROR_NOT_SUPPORTED,
        nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        nvml.NVML_ERROR_INVALID_ARGUMENT,  # an older driver, of a field that it does not know
        nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    }
)


class UnsupportedError(Exception):
    """This GPU, or its driver, does not have it."""


def call(name: str, *arguments: Any) -> Any:
    """Make a call of NVML.

    Raises:
        UnsupportedError: pynvml, the driver or the GPU does not have it.
        NVMLError: it failed.
    """
    function = getattr(nvml, name, None)
    if function is None:
        raise UnsupportedError(name)
    try:
        return function(*arguments)
    except nvml.NVMLError as error:
        if error.value in _LACKS:
            raise UnsupportedError(name) from error
        raise


def field(handle: Any, number: int) -> float:
    """The value of a field, `NVML_FI_...`."""
    entry = call("nvmlDeviceGetFieldValues", handle, [number])[0]
    if entry.nvmlReturn in _LACKS:
        raise UnsupportedError(str(number))
    if entry.nvmlReturn != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(entry.nvmlReturn)
    value: float = getattr(entry.value, _UNION_MEMBERS[entry.valueType])
    return value


def memory(handle: Any) -> dict[str, float]:
    """Version 1, all that older drivers have, counts what the driver reserves as used."""
    try:
        seen = call("nvmlDeviceGetMemoryInfo", handle, getattr(nvml, "nvmlMemory_v2", None))
        reserved = getattr(seen, "reserved", 0)
    except UnsupportedError:
        seen, reserved = call("nvmlDeviceGetMemoryInfo", handle), 0
    values = {
        "memory_used_bytes": seen.used,
        "memory_free_bytes": seen.free,
        "memory_total_bytes": seen.total,
    }
    if seen.total > reserved:
        values["memory_utilization_percent"] = 100 * seen.used / (seen.total - reserved)
    return values


def utilization(handle: Any) -> dict[str, float]:
    """Of the driver's last sampling interval."""
    rates = call("nvmlDeviceGetUtilizationRates", handle)
    return {"gpu_utilization_percent": rates.gpu, "memory_bandwidth_utilization_percent": rates.memory}


def throttling(handle: Any) -> dict[str, float]:
    """100 for what holds the clocks down at the moment."""
    try:
        mask = call("nvmlDeviceGetCurrentClocksEventReasons", handle)
    except UnsupportedError:
        mask = call("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    return {reader: 100.0 if mask & bits else 0.0 for reader, bits in _THROTTLED.items()}


def nvlink_errors(handle: Any) -> dict[str, float]:
    """Of all links; kinds that the GPU does not count are left out of the sum."""
    counts = []
    for number in _NVLINK_ERRORS:
        try:
            counts.append(field(handle, number))
        except UnsupportedError:
            continue
    if not counts:
        raise UnsupportedError("NVLink")
    return {"nvlink_error_count": sum(counts)}


def remapped_rows(handle: Any) -> dict[str, float]:
    """Rows of memory that were, or will be, replaced."""
    _, _, is_pending, has_failed = call("nvmlDeviceGetRemappedRows", handle)
    return {"row_remap_pending": is_pending, "row_remap_failure": has_failed}


def pcie_link(handle: Any) -> dict[str, float]:
    """What `pcie_link_degraded` is made of; without one of them there is no such value."""
    call("nvmlDeviceGetMaxPcieLinkGeneration", handle)
    return {
        "pcie_link_generation": call("nvmlDeviceGetCurrPcieLinkGeneration", handle),
        "pcie_link_width": call("nvmlDeviceGetCurrPcieLinkWidth", handle),
    }


def number(reader: str, name: str, *arguments: Any, scale: float = 1) -> Callable[[Any], dict[str, float]]:
    """A call that gives one number."""

    def ask(handle: Any) -> dict[str, float]:
        value = call(name, handle, *arguments)
        return {} if value in _NO_NUMBERS else {reader: value * scale}

    return ask


def processes(handle: Any) -> dict[str, float]:
    """Processes with a compute context."""
    return {"process_count": len(call("nvmlDeviceGetComputeRunningProcesses", handle))}


def encoder(handle: Any) -> dict[str, float]:
    """The call gives its sampling period, too."""
    return {"encoder_utilization_percent": call("nvmlDeviceGetEncoderUtilization", handle)[0]}


def decoder(handle: Any) -> dict[str, float]:
    """As of the encoder."""
    return {"decoder_utilization_percent": call("nvmlDeviceGetDecoderUtilization", handle)[0]}


# Each with the values that are absent where it is not supported.
CALLS: list[tuple[list[str], Callable[[Any], dict[str, float]]]] = [
    (["memory_used_bytes", "memory_free_bytes", "memory_total_bytes", "memory_utilization_percent"], memory),
    (["gpu_utilization_percent", "memory_bandwidth_utilization_percent"], utilization),
    (["temperature_celsius"], number("temperature_celsius", "nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU)),
    (["power_watts"], number("power_watts", "nvmlDeviceGetPowerUsage", scale=_WATTS)),
    (["power_limit_watts"], number("power_limit_watts", "nvmlDeviceGetEnforcedPowerLimit", scale=_WATTS)),
    (["energy_millijoules"], number("energy_millijoules", "nvmlDeviceGetTotalEnergyConsumption")),
    (["sm_clock_megahertz"], number("sm_clock_megahertz", "nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM)),
    (["memory_clock_megahertz"], number("memory_clock_megahertz", "nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM)),
    (["process_count"], processes),
    (["recovery_action"], lambda handle: {"recovery_action": field(handle, _RECOVERY_ACTION)}),
    (
        ["ecc_correctable_count"],
        number(
            "ecc_correctable_count",
            "nvmlDeviceGetTotalEccErrors",
            nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED,
            nvml.NVML_VOLATILE_ECC,
        ),
    ),
    (
        ["ecc_uncorrectable_count"],
        number(
            "ecc_uncorrectable_count",
            "nvmlDeviceGetTotalEccErrors",
            nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            nvml.NVML_VOLATILE_ECC,
        ),
    ),
    (["row_remap_pending", "row_remap_failure"], remapped_rows),
    (list(_THROTTLED), throttling),
    (["pcie_link_degraded"], pcie_link),
    (["nvlink_error_count"], nvlink_errors),
    (["fan_speed_percent"], number("fan_speed_percent", "nvmlDeviceGetFanSpeed")),
    (["performance_state"], number("performance_state", "nvmlDeviceGetPerformanceState")),
    (["encoder_utilization_percent"], encoder),
    (["decoder_utilization_percent"], decoder),
]


def host(meminfo: pathlib.Path = pathlib.Path("/proc/meminfo"), root: str = "/") -> dict[str, float]:
    """Memory, swap and root file system under the CloudWatch agent's names; a host without swap uses 0 % of it."""
    kibibytes = {line.split(":")[0]: int(line.split()[1]) for line in meminfo.read_text().splitlines()}
    reclaimable = sum(kibibytes.get(name, 0) for name in ("MemFree", "Buffers", "Cached", "SReclaimable"))
    swap, disk = kibibytes["SwapTotal"], os.statvfs(root)
    used_blocks = disk.f_blocks - disk.f_bfree
    return {
        "mem_used_percent": 100 * (1 - reclaimable / kibibytes["MemTotal"]),
        "swap_used_percent": 100 * (1 - kibibytes["SwapFree"] / swap) if swap else 0.0,
        "disk_used_percent": 100 * used_blocks / (used_blocks + disk.f_bavail),
    }


def read(handle: Any) -> tuple[dict[str, float], list[str]]:
    """What a GPU says of itself, and which values it does not have."""
    values: dict[str, float] = {}
    unsupported: list[str] = []
    for readers, ask in CALLS:
        try:
            found = ask(handle)
        except UnsupportedError:
            unsupported += readers
        except nvml.NVMLError:
            continue
        else:
            values.update({reader: value for reader, value in found.items() if value not in _NO_NUMBERS})
    if values:
        values["gpu_up"] = 1
    return values, unsupported


def main(folder: pathlib.Path, seconds: float) -> None:
    """Read until somebody says stop, or nobody does for too long."""
    with (folder / "readings").open("a", encoding="utf-8", buffering=1) as readings:
        try:
            nvml.nvmlInit()
            gpus = opened()
        except nvml.NVMLError as error:
            readings.write(json.dumps({"error": str(error)}) + "\n")
            sys.exit(1)
        began, slot = time.monotonic(), 0
        first = {uuid: read(handle)[1] for uuid, (_, handle) in gpus.items()}
        indices = {uuid: index for uuid, (index, _) in gpus.items()}
        readings.write(json.dumps({"gpus": indices, "unsupported": first}) + "\n")
        while time.monotonic() < began + seconds and not (folder / "stop").exists():
            now = time.time()
            values = {uuid: read(handle)[0] for uuid, (_, handle) in gpus.items()}
            readings.write(json.dumps({"time": now, "values": {**values, HOST: host()}}) + "\n")
            # What a stall swallowed is not caught up on.
            slot = max(slot, int((time.monotonic() - began) / INTERVAL_SECONDS)) + 1
            time.sleep(max(0.0, began + slot * INTERVAL_SECONDS - time.monotonic()))


def opened() -> dict[str, tuple[int, Any]]:
    """Every GPU: by its UUID, its index and handle."""
    gpus = {}
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = nvml.nvmlDeviceGetUUID(handle)
        gpus[uuid.decode() if isinstance(uuid, bytes) else uuid] = (index, handle)
    return gpus


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), float(sys.argv[2]))
