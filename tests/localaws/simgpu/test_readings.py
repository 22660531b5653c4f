from __future__ import annotations

import time
from typing import Any

import pytest

SET = {
    "utilization_gpu_percent": 87,
    "utilization_memory_percent": 41,
    "utilization_encoder_percent": 5,
    "utilization_decoder_percent": 6,
    "temperature_celsius": 71,
    "power_milliwatts": 251500,
    "power_limit_milliwatts": 280000,
    "power_limit_enforced_milliwatts": 275000,
    "clock_graphics_mhz": 1690,
    "clock_sm_mhz": 1695,
    "clock_memory_mhz": 6251,
    "clock_video_mhz": 1400,
    "clocks_event_reasons": 0x44,
    "performance_state": 2,
    "fan_speed_percent": 55,
    "persistence_mode": 1,
    "ecc_corrected_volatile": 11,
    "ecc_corrected_aggregate": 12,
    "ecc_uncorrected_volatile": 13,
    "ecc_uncorrected_aggregate": 2**40,
    "pcie_generation": 3,
    "pcie_width": 4,
    "pcie_replay_count": 9,
    "mig_mode": 0,
    "mig_mode_pending": 1,
}

READ = [
    ("[n.nvmlDeviceGetUtilizationRates(h).gpu, n.nvmlDeviceGetUtilizationRates(h).memory]", [87, 41]),
    ("n.nvmlDeviceGetEncoderUtilization(h)", [5, 167000]),
    ("n.nvmlDeviceGetDecoderUtilization(h)", [6, 167000]),
    ("[n.nvmlDeviceGetTemperature(h, 0), n.nvmlDeviceGetTemperatureV(h, 0)]", [71, 71]),
    ("n.nvmlDeviceGetPowerUsage(h)", 251500),
    ("n.nvmlDeviceGetPowerManagementLimit(h)", 280000),
    ("n.nvmlDeviceGetPowerManagementDefaultLimit(h)", 300000),
    ("n.nvmlDeviceGetPowerManagementLimitConstraints(h)", [100000, 300000]),
    ("n.nvmlDeviceGetEnforcedPowerLimit(h)", 275000),
    ("[n.nvmlDeviceGetClockInfo(h, kind) for kind in range(4)]", [1690, 1695, 6251, 1400]),
    ("[n.nvmlDeviceGetMaxClockInfo(h, kind) for kind in range(4)]", [1710, 1710, 6251, 1500]),
    ("n.nvmlDeviceGetCurrentClocksEventReasons(h)", 0x44),
    ("n.nvmlDeviceGetCurrentClocksThrottleReasons(h)", 0x44),
    ("n.nvmlDeviceGetPerformanceState(h)", 2),
    ("n.nvmlDeviceGetFanSpeed(h)", 55),
    ("n.nvmlDeviceGetPersistenceMode(h)", 1),
    ("n.nvmlDeviceGetEccMode(h)", [1, 1]),
    ("[n.nvmlDeviceGetTotalEccErrors(h, e, c) for e in (0, 1) for c in (0, 1)]", [11, 12, 13, 2**40]),
    ("[n.nvmlDeviceGetCurrPcieLinkGeneration(h), n.nvmlDeviceGetMaxPcieLinkGeneration(h)]", [3, 4]),
    ("[n.nvmlDeviceGetCurrPcieLinkWidth(h), n.nvmlDeviceGetMaxPcieLinkWidth(h)]", [4, 16]),
    ("n.nvmlDeviceGetPcieReplayCounter(h)", 9),
    ("n.nvmlDeviceGetMigMode(h)", [0, 1]),
    ("n.nvmlDeviceGetArchitecture(h)", 7),
    ("n.nvmlDeviceGetGraphicsRunningProcesses_v3(h)", []),
]


def test_what_is_set_is_what_pynvml_reads_and_only_on_that_gpu(machine: Any) -> None:
    before = machine.nvml_of(0, "[" + ", ".join(f"call(lambda: {query})" for query, _ in READ) + "]")
    machine.gpus.set(1, **SET)

    after = machine.nvml_of(1, "[" + ", ".join(query for query, _ in READ) + "]")

    assert after == [expected for _, expected in READ]
    assert machine.nvml_of(0, "[" + ", ".join(f"call(lambda: {query})" for query, _ in READ) + "]") == before


def test_a_running_process_sees_a_change_at_once(machine: Any) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(__file__.rsplit("/tests/", 1)[0])!r})
from pathlib import Path
from localaws.simgpu.gpus import SimulatedGpus
gpus = SimulatedGpus(Path({str(machine.state)!r}))
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
result = []
for celsius in range(30, 90):
    gpus.set(0, temperature_celsius=celsius)
    result.append(n.nvmlDeviceGetTemperature(h, 0))
"""
    assert machine.nvml(code) == list(range(30, 90))


def test_what_a_gpu_does_not_have_is_not_supported(machine: Any) -> None:
    queries = (
        "[call(n.nvmlDeviceGetFanSpeed, h), call(n.nvmlDeviceGetMigMode, h), call(n.nvmlDeviceGetTemperature, h, 1)]"
    )
    assert machine.nvml_of(0, queries) == ["error 3"] * 3


@pytest.mark.parametrize(
    ("key", "query"),
    [
        ("power_milliwatts", "n.nvmlDeviceGetPowerUsage, h"),
        ("energy_millijoules", "n.nvmlDeviceGetTotalEnergyConsumption, h"),
        ("utilization_gpu_percent", "n.nvmlDeviceGetUtilizationRates, h"),
        ("clock_sm_mhz", "n.nvmlDeviceGetClockInfo, h, n.NVML_CLOCK_SM"),
    ],
)
def test_a_value_taken_away_is_not_supported(machine: Any, key: str, query: str) -> None:
    machine.gpus.set(0, **{key: None})
    assert machine.nvml_of(0, f"call({query})") == "error 3"


def test_ecc_counts_are_not_supported_while_ecc_is_off(machine: Any) -> None:
    machine.gpus.set(0, ecc_mode=0)
    assert machine.nvml_of(0, "call(n.nvmlDeviceGetTotalEccErrors, h, 0, 0)") == "error 3"


def test_mig_is_reported_by_the_cards_that_have_it(machine: Any) -> None:
    machine.gpus.install("p4d.24xlarge", "i-1")
    assert machine.nvml_of(7, "n.nvmlDeviceGetMigMode(h)") == [0, 0]


def test_energy_grows_with_time_and_power(machine: Any) -> None:
    machine.gpus.set(0, power_milliwatts=300_000)
    code = """
import time
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
first, began = n.nvmlDeviceGetTotalEnergyConsumption(h), time.monotonic()
while time.monotonic() - began < 0.1:
    pass
result = [n.nvmlDeviceGetTotalEnergyConsumption(h) - first, (time.monotonic() - began) * 300_000]
"""
    measured, expected = machine.nvml(code)
    assert measured == pytest.approx(expected, rel=0.2)


def test_energy_already_drawn_stays_when_the_power_changes(machine: Any) -> None:
    began = time.monotonic()
    machine.gpus.set(0, energy_millijoules=5_000_000, power_milliwatts=300_000)
    machine.gpus.set(0, power_milliwatts=0)
    drawn_at_most = (time.monotonic() - began) * 300_000

    energy = machine.nvml_of(0, "n.nvmlDeviceGetTotalEnergyConsumption(h)")

    assert 5_000_000 <= energy <= 5_000_000 + drawn_at_most + 1
