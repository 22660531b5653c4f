"""Every value against what the simulated driver was told."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpumon.metrics import load_metrics
from gpumon.readers import EVERYTHING, Due
from tests.gpumon.readers.nvml.reading import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from localaws.simgpu.gpus import SimulatedGpus
    from tests.gpumon.readers.nvml.reading import Reading

NOW = "gpu_utilization_now_percent"
BURST = "gpu_utilization_percent"
KIB = 1024
GPM = {
    "graphics_engine_active_percent": "gpm_graphics_engine_percent",
    "sm_active_percent": "gpm_sm_active_percent",
    "sm_occupancy_percent": "gpm_sm_occupancy_percent",
    "tensor_active_percent": "gpm_tensor_active_percent",
    "dram_active_percent": "gpm_dram_active_percent",
    "fp64_active_percent": "gpm_fp64_active_percent",
    "fp32_active_percent": "gpm_fp32_active_percent",
    "fp16_active_percent": "gpm_fp16_active_percent",
}


def table(every: str) -> set[str]:
    """Reader names of the table of metrics that are this reader's."""
    return {
        metric.reader
        for metric in load_metrics()
        if metric.scope == "gpu" and metric.every == every and not metric.reader.startswith("xid_")
    }


def test_a_reading_has_what_is_due_of_the_table_and_nothing_else(reading: Reading) -> None:
    reading.read()

    assert set(reading.values(due=Due.SAMPLE)) == table("sample") | {NOW}
    assert set(reading.values(due=Due.SLOW)) == table("slow") | {"gpu_up"}
    assert set(reading.values(due=EVERYTHING)) | {BURST} == table("sample") | table("slow") | table("buffer") | {NOW}


def test_the_first_reading_has_everything_whatever_is_due(reading: Reading) -> None:
    assert set(reading.values(due=Due.SAMPLE)) == table("sample") | table("slow") | table("buffer") | {NOW}
    assert set(reading.values(due=Due.SAMPLE)) == table("sample") | {NOW}


def test_cheap_values_are_those_of_the_driver(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.set(
        2,
        memory_used_bytes=1000 * MIB,
        utilization_gpu_percent=37,
        utilization_memory_percent=12,
        temperature_celsius=61,
        power_milliwatts=123_456,
        clock_sm_mhz=1695,
        clocks_event_reasons=0x4,
    )
    state = {key: int(value) for key, value in gpus.read(2).items() if value.isdecimal()}
    total, reserved = state["memory_total_bytes"], state["memory_reserved_bytes"]
    reading.read()

    answer = reading.read(Due.SAMPLE)

    assert answer["error_count"] == 0
    assert answer["driver_version"] == gpus.driver_version
    assert [gpu["index"] for gpu in answer["gpus"]] == [0, 1, 2, 3]
    gpu = answer["gpus"][2]
    assert gpu["values"] == {
        "gpu_up": 1,
        "memory_used_bytes": 1000 * MIB,
        "memory_free_bytes": total - reserved - 1000 * MIB,
        "memory_total_bytes": total,
        "memory_reserved_bytes": reserved,
        "memory_utilization_percent": 100 * 1000 * MIB / (total - reserved),
        NOW: 37,
        "memory_bandwidth_utilization_percent": 12,
        "temperature_celsius": 61,
        "power_watts": 123.456,
        "sm_clock_megahertz": 1695,
        "clock_event_reasons": 0x4,
        "throttled_power_percent": 100,
        "throttled_thermal_percent": 0,
        "throttled_hw_slowdown_percent": 0,
        "throttled_power_brake_percent": 0,
    }
    assert answer["gpus"][0]["values"]["memory_used_bytes"] == 0


def test_a_gpu_is_described_as_the_driver_knows_it(gpus: SimulatedGpus, reading: Reading) -> None:
    gpu = reading.gpus()[1]

    state = gpus.read(1)
    assert (gpu["uuid"], gpu["index"], gpu["name"], gpu["minor_number"]) == (state["uuid"], 1, "NVIDIA A10G", 1)
    assert gpu["pci_bus_id"] == f"0000{state['pci_bus_id'].upper()}"
    assert gpu["mig"] is None


@pytest.mark.parametrize(
    ("reasons", "throttled"),
    [
        (0x1, set()),  # idle
        (0x2, set()),  # application clocks
        (0x10, set()),  # sync boost
        (0x100, set()),  # display clocks
        (0x4, {"power"}),
        (0x8, {"hw_slowdown"}),
        (0x20, {"thermal"}),
        (0x40, {"thermal"}),
        (0x48, {"thermal", "hw_slowdown"}),
        (0x80, {"power_brake"}),
    ],
)
def test_only_what_holds_the_clocks_down_is_throttling(
    gpus: SimulatedGpus, reading: Reading, reasons: int, throttled: set[str]
) -> None:
    gpus.set(0, clocks_event_reasons=reasons)

    values = reading.values()

    assert values["clock_event_reasons"] == reasons
    kinds = ("power", "thermal", "hw_slowdown", "power_brake")
    assert {kind for kind in kinds if values[f"throttled_{kind}_percent"] == 100} == throttled
    assert {kind for kind in kinds if values[f"throttled_{kind}_percent"] == 0} == set(kinds) - throttled


# What the simulated driver calls it, and the number that is put there and read back.
SLOW = {
    "energy_millijoules": ("energy_millijoules", 123_456_789, 123_456_789),
    "recovery_action": ("recovery_action", 2, 2),
    "ecc_uncorrectable_count": ("ecc_uncorrected_volatile", 3, 3),
    "ecc_correctable_count": ("ecc_corrected_volatile", 5, 5),
    "ecc_uncorrectable_aggregate_count": ("ecc_uncorrected_aggregate", 7, 7),
    "ecc_correctable_aggregate_count": ("ecc_corrected_aggregate", 11, 11),
    "row_remap_pending": ("remapped_rows_pending", 1, 1),
    "row_remap_failure": ("remapped_rows_failure", 1, 1),
    "remapped_rows_correctable_count": ("remapped_rows_correctable", 13, 13),
    "remapped_rows_uncorrectable_count": ("remapped_rows_uncorrectable", 17, 17),
    "retired_pages_sbe_count": ("retired_pages_sbe", 19, 19),
    "retired_pages_dbe_count": ("retired_pages_dbe", 23, 23),
    "retired_pages_pending_count": ("retired_pages_pending", 1, 1),
    "memory_temperature_celsius": ("memory_temperature_celsius", 71, 71),
    "temperature_margin_celsius": ("margin_temperature_celsius", 29, 29),
    "power_instant_watts": ("power_instant_milliwatts", 234_567, 234.567),
    "power_limit_watts": ("power_limit_enforced_milliwatts", 345_678, 345.678),
    "memory_clock_megahertz": ("clock_memory_mhz", 2001, 2001),
    "video_clock_megahertz": ("clock_video_mhz", 1001, 1001),
    "sm_clock_max_megahertz": ("clock_sm_max_mhz", 2002, 2002),
    "encoder_utilization_percent": ("utilization_encoder_percent", 31, 31),
    "decoder_utilization_percent": ("utilization_decoder_percent", 37, 37),
    "fan_speed_percent": ("fan_speed_percent", 41, 41),
    "persistence_mode": ("persistence_mode", 1, 1),
    "performance_state": ("performance_state", 5, 5),
    "throttle_time_power_nanoseconds": ("violation_power_nanoseconds", 10**12, 10**12),
    "throttle_time_thermal_nanoseconds": ("violation_thermal_nanoseconds", 10**12 + 1, 10**12 + 1),
    "throttle_time_sync_boost_nanoseconds": ("violation_sync_boost_nanoseconds", 10**12 + 2, 10**12 + 2),
    "throttle_time_board_limit_nanoseconds": ("violation_board_limit_nanoseconds", 10**12 + 3, 10**12 + 3),
    "throttle_time_low_utilization_nanoseconds": ("violation_low_utilization_nanoseconds", 10**12 + 4, 10**12 + 4),
    "throttle_time_reliability_nanoseconds": ("violation_reliability_nanoseconds", 10**12 + 5, 10**12 + 5),
    "throttle_time_sw_thermal_nanoseconds": ("slowdown_sw_thermal_nanoseconds", 10**12 + 6, 10**12 + 6),
    "throttle_time_hw_thermal_nanoseconds": ("slowdown_hw_thermal_nanoseconds", 10**12 + 7, 10**12 + 7),
    "throttle_time_power_brake_nanoseconds": ("slowdown_power_brake_nanoseconds", 10**12 + 8, 10**12 + 8),
    "pcie_replay_count": ("pcie_replay_count", 43, 43),
    "pcie_transmitted_bytes": ("pcie_tx_bytes", 2**40, 2**40),
    "pcie_received_bytes": ("pcie_rx_bytes", 2**41, 2**41),
    "pcie_link_generation": ("pcie_generation", 3, 3),
    "pcie_link_width": ("pcie_width", 8, 8),
    "nvlink_transmitted_bytes": ("nvlink_data_tx_kib", 10**9, 10**9 * KIB),
    "nvlink_received_bytes": ("nvlink_data_rx_kib", 10**9 + 1, (10**9 + 1) * KIB),
    "nvlink_crc_flit_error_count": ("nvlink_crc_flit_errors", 1, 1),
    "nvlink_crc_data_error_count": ("nvlink_crc_data_errors", 20, 20),
    "nvlink_replay_error_count": ("nvlink_replay_errors", 300, 300),
    "nvlink_recovery_error_count": ("nvlink_recovery_errors", 4000, 4000),
}


def test_slow_values_are_those_of_the_driver(gpus: SimulatedGpus, reading: Reading) -> None:
    told = {key: number for key, number, _ in SLOW.values()}
    gpus.set(1, power_milliwatts=0, nvlink_count=4, nvlink_down_mask=0b0010)
    gpus.set(1, **told)

    values = reading.values(1)

    assert {name: values[name] for name in SLOW} == {name: expected for name, (_, _, expected) in SLOW.items()}
    assert values["nvlink_error_count"] == 4321
    assert values["nvlink_active_count"] == 3
    everything = {*SLOW, *GPM, "nvlink_error_count", "nvlink_active_count", "pcie_link_degraded", "process_count"}
    assert everything == table("slow")


def test_the_driver_is_asked_for_all_fields_of_a_gpu_again_after_they_changed(
    gpus: SimulatedGpus, reading: Reading
) -> None:
    reading.read()
    gpus.set(0, ecc_corrected_volatile=8, remapped_rows_pending=1)

    values = reading.values()

    assert (values["ecc_correctable_count"], values["row_remap_pending"]) == (8, 1)


def test_a_counter_that_started_anew_is_read_as_it_is(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.set(0, ecc_corrected_volatile=8)
    assert reading.values()["ecc_correctable_count"] == 8

    gpus.unload_driver()
    gpus.load_driver()

    assert reading.values()["ecc_correctable_count"] == 0


@pytest.mark.parametrize(
    ("name", "state", "sentinel"),
    [
        ("power_watts", {"power_milliwatts": 2**32 - 1}, Due.SAMPLE),
        ("sm_clock_megahertz", {"clock_sm_mhz": 2**32 - 1}, Due.SAMPLE),
        ("pcie_link_width", {"pcie_width": 2**32 - 1}, Due.SLOW),
        ("memory_temperature_celsius", {"memory_temperature_celsius": 2**32 - 1}, Due.SLOW),
        ("ecc_correctable_count", {"ecc_corrected_volatile": 2**64 - 1}, Due.SLOW),
    ],
)
def test_what_nvml_writes_where_it_has_no_value_is_no_value(
    gpus: SimulatedGpus, reading: Reading, name: str, state: dict[str, int], sentinel: Due
) -> None:
    reading.read()
    gpus.set(0, **state)

    assert reading.values(due=sentinel)[name] is None


@pytest.mark.parametrize(
    ("state", "degraded"),
    [
        ({"pcie_width": 16, "pcie_generation": 4, "performance_state": 0}, 0),
        ({"pcie_width": 8, "pcie_generation": 4, "performance_state": 8}, 0),  # as some instance types have it
        ({"pcie_width": 16, "pcie_generation": 1, "performance_state": 8}, 0),  # saves power
        ({"pcie_width": 16, "pcie_generation": 1, "performance_state": 2}, 1),
        ({"pcie_width": 16, "pcie_generation": 1, "performance_state": 8, "utilization_gpu_percent": 50}, 1),
        ({"pcie_width": 16, "pcie_generation": 1, "performance_state": None}, 0),
        ({"pcie_width": None, "pcie_generation": None}, None),
    ],
)
def test_a_pcie_link_is_degraded_if_it_is_less_than_it_could_be_while_the_gpu_works(
    gpus: SimulatedGpus, reading: Reading, state: dict[str, int | None], degraded: int | None
) -> None:
    gpus.set(0, pcie_width_max=16, pcie_generation_max=4)
    gpus.set(0, **state)

    assert reading.values()["pcie_link_degraded"] == degraded


def test_a_pcie_link_that_lost_lanes_is_degraded_even_if_idle(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.set(0, pcie_width=8, performance_state=8)
    assert reading.values()["pcie_link_degraded"] == 0

    gpus.set(0, pcie_width=4)
    assert reading.values()["pcie_link_degraded"] == 1

    gpus.set(0, pcie_width=8)
    assert reading.values()["pcie_link_degraded"] == 0


def test_utilization_comes_from_the_driver_s_own_samples(gpus: SimulatedGpus, start: Callable[..., Reading]) -> None:
    reading = start()
    reading.read()
    gpus.set_samples(0, utilization_gpu_percent=[10, 90])
    time.sleep(0.5)  # the driver samples six times a second

    first, second, *_ = reading.gpus(Due.BUFFER)

    assert set(first["bursts"]) == {BURST}
    assert BURST not in first["values"]
    assert len(first["bursts"][BURST]) >= 2
    assert set(first["bursts"][BURST]) == {10, 90}
    assert set(second["bursts"][BURST]) == {0}


def test_every_sample_of_the_driver_is_counted_once(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.set_samples(0, utilization_gpu_percent=list(range(61)))
    reading.read()
    seen: list[float] = []
    for _ in range(3):
        time.sleep(0.4)
        seen += reading.gpus(Due.BUFFER)[0]["bursts"].get(BURST, ())

    assert len(seen) >= 5
    assert all((after - before) % 61 == 1 for before, after in itertools.pairwise(seen))


def test_what_the_driver_sampled_before_the_session_does_not_count(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.set(0, utilization_gpu_percent=37)
    gpus.set_samples(0, utilization_gpu_percent=[99])

    gpu = reading.gpus()[0]

    assert (gpu["bursts"], gpu["values"][BURST]) == ({}, 37)


def test_a_step_backwards_of_the_clock_costs_no_samples_for_longer_than_it_takes(
    gpus: SimulatedGpus, reading: Reading
) -> None:
    gpus.set_samples(0, utilization_gpu_percent=[50])
    reading.read(unix_offset_seconds=3600)  # the clock was an hour ahead when the session began

    reading.read(Due.BUFFER)
    time.sleep(0.4)

    assert set(reading.gpus(Due.BUFFER)[0]["bursts"].get(BURST, ())) == {50}


def test_utilization_of_the_moment_is_there_each_second(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.set(0, utilization_gpu_percent=41)
    gpus.set_samples(0, utilization_gpu_percent=[99])
    reading.read()

    values = reading.values(due=Due.SAMPLE)

    assert values[NOW] == 41
    assert BURST not in values


CUDA = """
import ctypes, sys
cuda, context, pointer = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p(), ctypes.c_void_p()
assert cuda.cuInit(0) == 0
assert cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 1) == 0
assert cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(64 * 2**20)) == 0
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.usefixtures("gpus")
def test_processes_are_counted_and_listed_only_if_that_is_wanted(
    start: Callable[..., Reading], driver_directory: Path, tmp_path: Path
) -> None:
    environment = {"SIMGPU_STATE": str(tmp_path / "state"), "LD_LIBRARY_PATH": str(driver_directory)}
    program = [sys.executable, "-c", CUDA]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        name = Path(f"/proc/{process.pid}/comm").read_text().strip()
        plain, listing = start().gpus(), start(with_processes=True)

        listed = listing.gpus()
        assert [gpu["values"]["process_count"] for gpu in plain] == [0, 1, 0, 0]
        assert [gpu["processes"] for gpu in plain] == [None] * 4
        expected = {"pid": process.pid, "name": name, "memory_bytes": 64 * MIB}
        assert [gpu["processes"] for gpu in listed] == [[], [expected], [], []]
        assert listing.gpus(Due.SAMPLE)[1]["processes"] is None
        process.communicate()


@pytest.mark.parametrize("function", ["nvmlGpmQueryDeviceSupport", "nvmlGpmSampleGet"])
def test_activity_that_is_refused_is_no_error(
    gpus: SimulatedGpus, start: Callable[..., Reading], function: str
) -> None:
    gpus.install("p5.48xlarge", "i-0123456789abcdef0")
    gpus.fail(0, function, 3)  # NOT_SUPPORTED
    reading = start()
    reading.read()
    gpus.heal(0)

    for _ in range(2):  # and is not asked for again
        time.sleep(0.15)  # nvml.h: more than 100 ms apart
        answer = reading.read(Due.SLOW, after_seconds=60)

        assert (answer["gpus"][0]["values"]["sm_active_percent"], answer["error_count"]) == (None, 0)
        assert answer["gpus"][1]["values"]["sm_active_percent"] is not None


def test_activity_is_that_between_two_slow_readings(gpus: SimulatedGpus, start: Callable[..., Reading]) -> None:
    gpus.install("p5.48xlarge", "i-0123456789abcdef0")
    told = {key: 10 + number for number, key in enumerate(GPM.values())}
    gpus.set(0, **told)
    reading = start()
    first = reading.values()
    assert [first[name] for name in GPM] == [None] * len(GPM)
    time.sleep(0.15)  # nvml.h: more than 100 ms apart

    values = reading.values(due=Due.SLOW, after_seconds=60)

    assert {name: values[name] for name in GPM} == {name: told[key] for name, key in GPM.items()}


def test_a_slow_reading_right_after_another_keeps_the_older_sample(
    gpus: SimulatedGpus, start: Callable[..., Reading]
) -> None:
    gpus.install("p5.48xlarge", "i-0123456789abcdef0")
    reading = start()
    reading.read()
    assert reading.values(due=Due.SLOW, after_seconds=0.05)["sm_active_percent"] is None
    time.sleep(0.15)

    assert reading.values(due=Due.SLOW, after_seconds=0.06)["sm_active_percent"] is not None


def test_activity_is_not_asked_for_where_the_gpu_has_none(gpus: SimulatedGpus, reading: Reading) -> None:
    reading.read()
    gpus.fail(0, "nvmlGpmSampleGet", 999)
    gpus.fail(0, "nvmlGpmQueryDeviceSupport", 999)

    answer = reading.read(Due.SLOW, after_seconds=60)

    assert answer["gpus"][0]["values"]["sm_active_percent"] is None
    assert answer["error_count"] == 0


def test_nvlink_bytes_are_those_of_all_links_where_the_gpu_counts_per_link(
    gpus: SimulatedGpus, start: Callable[..., Reading]
) -> None:
    gpus.install("p5.48xlarge", "i-0123456789abcdef0")
    gpus.set(0, nvlink_data_tx_kib=None, nvlink_data_rx_kib=None, nvlink_xmit_bytes=10**12 + 7, nvlink_rcv_bytes=5)
    reading = start()
    reading.read()

    values = reading.values(due=Due.SLOW, after_seconds=60)

    assert (values["nvlink_transmitted_bytes"], values["nvlink_received_bytes"]) == (10**12 + 7, 5)


def test_reading_eight_gpus_each_second_is_cheap(gpus: SimulatedGpus, start: Callable[..., Reading]) -> None:
    gpus.install("p5.48xlarge", "i-0123456789abcdef0")
    reading = start()
    reading.read()

    assert reading.read(Due.SAMPLE, repeat=200) < 0.002
