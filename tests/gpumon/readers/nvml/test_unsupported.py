"""Calls that fail, calls that a GPU or its driver does not have, and what is asked instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gpumon.readers import EVERYTHING, Due
from gpumon.readers.nvml import REPROBE_SECONDS
from tests.gpumon.readers.nvml.reading import (
    DRIVER_NOT_LOADED,
    FUNCTION_NOT_FOUND,
    INVALID_ARGUMENT,
    MIB,
    NO_DATA,
    NO_PERMISSION,
    NOT_SUPPORTED,
    UNKNOWN,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from localaws.simgpu.gpus import SimulatedGpus
    from tests.gpumon.readers.nvml.reading import Reading

NOW = "gpu_utilization_now_percent"
BURST = "gpu_utilization_percent"
MEMORY = {
    "memory_used_bytes",
    "memory_free_bytes",
    "memory_total_bytes",
    "memory_reserved_bytes",
    "memory_utilization_percent",
}
THROTTLE = {
    "clock_event_reasons",
    "throttled_power_percent",
    "throttled_thermal_percent",
    "throttled_hw_slowdown_percent",
    "throttled_power_brake_percent",
}


def unreadable(values: dict[str, Any]) -> set[str]:
    return {name for name, value in values.items() if value is None}


@pytest.mark.parametrize("refusal", [NOT_SUPPORTED, FUNCTION_NOT_FOUND, NO_PERMISSION])
def test_memory_comes_from_version_1_where_version_2_is_refused(
    gpus: SimulatedGpus, reading: Reading, refusal: int
) -> None:
    gpus.set(0, memory_used_bytes=1000 * MIB)
    gpus.fail(0, "nvmlDeviceGetMemoryInfo_v2", refusal)
    reserved = int(gpus.read(0)["memory_reserved_bytes"])

    for due in (EVERYTHING, Due.SAMPLE):
        first, second, *_ = (gpu["values"] for gpu in reading.gpus(due))

        assert first["memory_used_bytes"] == 1000 * MIB + reserved
        assert first["memory_total_bytes"] == first["memory_used_bytes"] + first["memory_free_bytes"]
        assert first["memory_reserved_bytes"] is None
        assert first["memory_utilization_percent"] == 100 * first["memory_used_bytes"] / first["memory_total_bytes"]
        assert second["memory_reserved_bytes"] == reserved


def test_the_older_temperature_call_serves_where_the_newer_is_missing(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.set(0, temperature_celsius=44)
    gpus.fail(None, "nvmlDeviceGetTemperatureV", FUNCTION_NOT_FOUND)

    assert reading.values()["temperature_celsius"] == 44


def test_the_older_name_of_clock_event_reasons_serves_where_the_newer_is_missing(
    gpus: SimulatedGpus, reading: Reading
) -> None:
    gpus.set(0, clocks_event_reasons=8)
    gpus.fail(None, "nvmlDeviceGetCurrentClocksEventReasons", FUNCTION_NOT_FOUND)

    assert reading.values()["throttled_hw_slowdown_percent"] == 100


def test_the_older_list_of_processes_serves_where_the_newer_is_missing(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.fail(None, "nvmlDeviceGetComputeRunningProcesses_v3", FUNCTION_NOT_FOUND)

    assert reading.values()["process_count"] == 0


FALLBACKS = {
    3: ("ecc_correctable_count", "ecc_corrected_volatile"),
    4: ("ecc_uncorrectable_count", "ecc_uncorrected_volatile"),
    5: ("ecc_correctable_aggregate_count", "ecc_corrected_aggregate"),
    6: ("ecc_uncorrectable_aggregate_count", "ecc_uncorrected_aggregate"),
    94: ("pcie_replay_count", "pcie_replay_count"),
}


@pytest.mark.parametrize("code", [NOT_SUPPORTED, INVALID_ARGUMENT])
@pytest.mark.parametrize("field_id", FALLBACKS)
def test_a_call_of_its_own_serves_where_the_field_is_missing(
    gpus: SimulatedGpus, reading: Reading, field_id: int, code: int
) -> None:
    name, key = FALLBACKS[field_id]
    gpus.set(0, **{key: 1234})
    gpus.fail_field(0, field_id, code)

    assert reading.values()[name] == 1234
    assert reading.values()[name] == 1234


def test_a_driver_without_field_values_still_gives_what_single_calls_give(
    gpus: SimulatedGpus, reading: Reading
) -> None:
    gpus.set(0, pcie_replay_count=9, ecc_corrected_volatile=8)
    gpus.fail(None, "nvmlDeviceGetFieldValues", FUNCTION_NOT_FOUND)

    for _ in range(2):
        answer = reading.read()

        values = answer["gpus"][0]["values"]
        assert (values["pcie_replay_count"], values["ecc_correctable_count"]) == (9, 8)
        assert values["energy_millijoules"] is None
        assert answer["error_count"] == 0
    said = next(line for line in reading.log.splitlines() if "not supported by GPU" in line)
    assert "energy_millijoules" in said
    assert "pcie_replay_count" not in said


@pytest.mark.parametrize(
    ("function", "costs"),
    [
        ("nvmlDeviceGetMemoryInfo_v2", MEMORY),
        ("nvmlDeviceGetUtilizationRates", {NOW, "memory_bandwidth_utilization_percent"}),
        ("nvmlDeviceGetTemperatureV", {"temperature_celsius"}),
        ("nvmlDeviceGetPowerUsage", {"power_watts"}),
        ("nvmlDeviceGetCurrentClocksEventReasons", THROTTLE),
        ("nvmlDeviceGetComputeRunningProcesses_v3", {"process_count"}),
        ("nvmlDeviceGetEnforcedPowerLimit", {"power_limit_watts"}),
        ("nvmlDeviceGetPersistenceMode", {"persistence_mode"}),
    ],
)
@pytest.mark.parametrize("code", [UNKNOWN, DRIVER_NOT_LOADED])
def test_a_call_that_fails_costs_its_values_only_and_for_that_reading_only(
    gpus: SimulatedGpus, reading: Reading, function: str, costs: set[str], code: int
) -> None:
    due = Due.SAMPLE | Due.SLOW
    missing = unreadable(reading.gpus()[1]["values"])
    gpus.fail(1, function, code)
    answer = reading.read(due)

    assert unreadable(answer["gpus"][1]["values"]) == costs | missing
    assert all(unreadable(answer["gpus"][index]["values"]) == missing for index in (0, 2, 3))
    assert answer["error_count"] == 1
    gpus.heal(1)
    answer = reading.read(due)
    assert unreadable(answer["gpus"][1]["values"]) == missing
    assert answer["error_count"] == 0


@pytest.mark.parametrize("code", [UNKNOWN, DRIVER_NOT_LOADED])
def test_a_field_that_fails_costs_itself_only_and_for_that_reading_only(
    gpus: SimulatedGpus, reading: Reading, code: int
) -> None:
    missing = unreadable(reading.gpus()[1]["values"])
    gpus.fail_field(1, 83, code)
    answer = reading.read(Due.SLOW)

    assert unreadable(answer["gpus"][1]["values"]) - missing == {"energy_millijoules"}
    assert answer["error_count"] == 1
    gpus.heal(1)
    assert reading.values(1)["energy_millijoules"] is not None


def test_a_failing_part_of_a_sum_costs_the_sum(gpus: SimulatedGpus, start: Callable[..., Reading]) -> None:
    gpus.install("p5.48xlarge", "i-0123456789abcdef0")
    gpus.set(0, nvlink_crc_flit_errors=1, nvlink_replay_errors=2)
    reading = start()
    assert reading.values()["nvlink_error_count"] == 3

    gpus.fail_field(0, 52, UNKNOWN)  # replays
    values = reading.values()
    assert (values["nvlink_error_count"], values["nvlink_crc_flit_error_count"]) == (None, 1)

    gpus.heal(0)
    assert reading.values()["nvlink_error_count"] == 3


def test_no_data_is_neither_a_value_nor_an_error(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.fail(0, "nvmlDeviceGetPowerUsage", NO_DATA)

    answer = reading.read()

    assert (answer["gpus"][0]["values"]["power_watts"], answer["error_count"]) == (None, 0)
    gpus.heal(0)
    assert reading.values()["power_watts"] is not None


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("power_watts", "nvmlDeviceGetPowerUsage"),
        ("persistence_mode", "nvmlDeviceGetPersistenceMode"),
        ("process_count", "nvmlDeviceGetComputeRunningProcesses_v3"),
    ],
)
def test_what_a_gpu_does_not_support_is_logged_once_and_asked_for_again_only_rarely(
    gpus: SimulatedGpus, reading: Reading, name: str, function: str
) -> None:
    gpus.fail(0, function, NOT_SUPPORTED)
    gpus.fail(0, "nvmlDeviceGetComputeRunningProcesses_v2", NOT_SUPPORTED)
    answers = [reading.read() for _ in range(3)]
    assert [answer["gpus"][0]["values"][name] for answer in answers] == [None] * 3
    assert [answer["error_count"] for answer in answers] == [0] * 3

    gpus.heal(0)

    assert reading.values()[name] is None
    assert reading.values(after_seconds=REPROBE_SECONDS)[name] is not None
    said = [line for line in reading.log.splitlines() if "not supported by GPU 0" in line and name in line]
    assert len(said) == 1


def test_fields_that_a_gpu_does_not_support_are_asked_for_again_only_rarely(
    gpus: SimulatedGpus, reading: Reading
) -> None:
    gpus.fail_field(0, 83, NOT_SUPPORTED)
    assert reading.values()["energy_millijoules"] is None
    gpus.heal(0)

    assert reading.values()["energy_millijoules"] is None
    assert reading.values(after_seconds=REPROBE_SECONDS)["energy_millijoules"] is not None


def test_gpus_that_are_alike_share_a_line_of_the_log(reading: Reading) -> None:
    for _ in range(3):
        reading.read()

    assert reading.log.count("not supported by GPU") == 1
    assert "not supported by GPU 0, 1, 2, 3: " in reading.log


def test_a_gpu_without_a_buffer_gives_its_utilization_each_second(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.set(0, utilization_gpu_percent=43)
    gpus.fail(0, "nvmlDeviceGetSamples", NOT_SUPPORTED)
    reading.read()

    for due in (Due.SAMPLE, Due.BUFFER, Due.SAMPLE | Due.BUFFER):
        without, having, *_ = reading.gpus(due)

        assert (without["values"][BURST], without["bursts"]) == (43, {})
        assert (BURST in having["values"]) == (Due.BUFFER in due and not having["bursts"])


def test_a_buffer_that_fails_is_replaced_for_that_reading_only(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.set(0, utilization_gpu_percent=43)
    reading.read()
    gpus.fail(0, "nvmlDeviceGetSamples", UNKNOWN)

    answer = reading.read(Due.SAMPLE | Due.BUFFER)

    assert (answer["gpus"][0]["values"][BURST], answer["error_count"]) == (43, 1)
    assert BURST not in reading.values(due=Due.SAMPLE)


def test_a_buffer_that_gave_nothing_is_replaced_and_asked_again(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.set(0, utilization_gpu_percent=43)
    reading.read()
    gpus.fail(0, "nvmlDeviceGetSamples", 6)  # NOT_FOUND: no samples

    answer = reading.read(Due.BUFFER)

    assert (answer["gpus"][0]["values"][BURST], answer["error_count"]) == (43, 0)
    assert BURST not in reading.values(due=Due.SAMPLE)


def test_failures_of_a_gpu_share_a_line_of_the_log(gpus: SimulatedGpus, reading: Reading) -> None:
    reading.read()
    gpus.fail(1, "nvmlDeviceGetPowerUsage", UNKNOWN)
    gpus.fail(1, "nvmlDeviceGetTemperatureV", UNKNOWN)

    reading.read(Due.SAMPLE)

    warnings = [line for line in reading.log.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 1
    assert "does not give temperature_celsius, power_watts: Unknown Error" in warnings[0]


OLD = """
import pynvml
for name in {names}:
    delattr(pynvml, name)
"""


def test_bindings_that_lack_newer_calls_cost_only_what_needs_them(
    gpus: SimulatedGpus, start: Callable[..., Reading], tmp_path: Path
) -> None:
    gpus.set(0, temperature_celsius=44, clocks_event_reasons=8)
    newer = (
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetMarginTemperature",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlGpmSampleGet",
        "nvmlGpmMigSampleGet",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetSamples",
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetNvLinkState",
        "nvmlDeviceGetEncoderUtilization",
        "NVML_ERROR_GPU_NOT_FOUND",
    )
    bindings = tmp_path / "old"
    bindings.mkdir()
    (bindings / "sitecustomize.py").write_text(OLD.format(names=newer))

    answer = start(bindings=bindings).read()

    values = answer["gpus"][0]["values"]
    assert (values["temperature_celsius"], values["throttled_hw_slowdown_percent"]) == (44, 100)
    assert values["process_count"] == 0
    assert (values["temperature_margin_celsius"], values["energy_millijoules"]) == (None, None)
    assert answer["error_count"] == 0
