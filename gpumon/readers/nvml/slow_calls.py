"""The calls that are made once a minute, each giving one value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pynvml

from gpumon.readers.nvml.codes import binding
from gpumon.readers.nvml.probes import Probe, number
from gpumon.readers.nvml.sample_calls import UTILIZATION_NOW

if TYPE_CHECKING:
    from gpumon.readers.nvml.probes import Values

_WORKING_STATE_MAX = 2  # P0 to P2: a GPU that works, or is about to


_LINK = ("pcie_link_width", "pcie_link_generation")


def pcie_link() -> Probe:
    """Return a probe of one GPU's link, which needs its width, generation and performance state read just before.

    Lanes are compared with the most that this GPU had: instance types give some GPUs fewer than their board has.
    """
    widest = 0

    def way(handle: Any, values: Values) -> None:
        nonlocal widest
        width, generation = (int(values[name] or 0) for name in _LINK)
        widest = max(widest, width)
        # An idle GPU lowers the generation to save power; the width stays.
        slow = _works(values) and generation < pynvml.nvmlDeviceGetMaxPcieLinkGeneration(handle)
        values["pcie_link_degraded"] = int(width < widest or slow)

    return Probe(("pcie_link_degraded",), (way,), needs=_LINK)


def _works(values: Values) -> bool:
    state = values["performance_state"]
    return (state is not None and state <= _WORKING_STATE_MAX) or (values.get(UTILIZATION_NOW) or 0) > 0


def _utilization_and_period(name: str, function_name: str) -> Probe:
    """Encoder and decoder: the call gives the share and the length of its sampling period."""
    function = binding(function_name)

    def way(handle: Any, values: Values) -> None:
        values[name] = function(handle)[0]

    return Probe((name,), (way,))


def _probe(name: str, function_name: str, *arguments: int, divisor: int = 1) -> Probe:
    return Probe((name,), (number(name, function_name, *arguments, divisor=divisor),))


SLOW_PROBES = (
    _probe("temperature_margin_celsius", "nvmlDeviceGetMarginTemperature"),
    _probe("power_limit_watts", "nvmlDeviceGetEnforcedPowerLimit", divisor=1000),
    _probe("memory_clock_megahertz", "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM),
    _probe("video_clock_megahertz", "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_VIDEO),
    _probe("sm_clock_max_megahertz", "nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM),
    _utilization_and_period("encoder_utilization_percent", "nvmlDeviceGetEncoderUtilization"),
    _utilization_and_period("decoder_utilization_percent", "nvmlDeviceGetDecoderUtilization"),
    _probe("fan_speed_percent", "nvmlDeviceGetFanSpeed"),
    _probe("persistence_mode", "nvmlDeviceGetPersistenceMode"),
    _probe("performance_state", "nvmlDeviceGetPerformanceState"),
    _probe("pcie_link_generation", "nvmlDeviceGetCurrPcieLinkGeneration"),
    _probe("pcie_link_width", "nvmlDeviceGetCurrPcieLinkWidth"),
)

# Asked only where the GPU or the driver does not have the field of the same value.
_CORRECTED, _UNCORRECTED = pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
_ECC = "nvmlDeviceGetTotalEccErrors"
FIELD_FALLBACKS = {
    probe.values[0]: probe
    for probe in (
        _probe("ecc_correctable_count", _ECC, _CORRECTED, pynvml.NVML_VOLATILE_ECC),
        _probe("ecc_uncorrectable_count", _ECC, _UNCORRECTED, pynvml.NVML_VOLATILE_ECC),
        _probe("ecc_correctable_aggregate_count", _ECC, _CORRECTED, pynvml.NVML_AGGREGATE_ECC),
        _probe("ecc_uncorrectable_aggregate_count", _ECC, _UNCORRECTED, pynvml.NVML_AGGREGATE_ECC),
        _probe("pcie_replay_count", "nvmlDeviceGetPcieReplayCounter"),
    )
}
