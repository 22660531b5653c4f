"""Four GPUs, seen through CloudWatch and through NVML on the instance for three minutes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gpunodes.proof.check import Check
from gpunodes.proof.datapoints import Minute, Published, Series
from gpunodes.proof.nvml_agreement import agrees, datapoints_agree_with_nvml, series_document
from gpunodes.proof.nvml_readings import NvmlReadings
from gpunodes.proof.promised_metrics import promised, series_of
from tests.gpunodes.fakes import GIB, INSTANCE_ID, gpus

BEGAN = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
GPUMON = series_of(promised(), INSTANCE_ID, gpus(4))
LEVELS = (0.0, 12.0 * GIB)
MIDDLE = timedelta(seconds=30)


def at(number: int) -> datetime:
    return BEGAN + timedelta(minutes=number)


def steady(value: float, count: float = 60, number: int = 0) -> Minute:
    return Minute(at(number), value, value, value, count)


def series(metric: str, index: int) -> Series:
    return next(
        entry for entry in GPUMON if entry.metric == metric and dict(entry.dimensions)["GpuIndex"] == str(index)
    )


def value(reader: str, index: int) -> float:
    return index * GIB if reader.endswith("_bytes") else 10.0 + index


@pytest.fixture
def local() -> NvmlReadings:
    readers = {promise.reader for promise in GPUMON.values() if promise.scope == "gpu"}
    return NvmlReadings(
        {
            (f"GPU-{index}", reader): [steady(value(reader, index), number=number) for number in range(3)]
            for index in range(4)
            for reader in readers - {"xid_error_count", "pcie_link_degraded"}
        },
        {},
        {f"GPU-{index}": index for index in range(4)},
    )


@pytest.fixture
def published() -> Published:
    """What `local` has; what is read once a minute once."""
    found: Published = {}
    for entry, promise in GPUMON.items():
        index = int(dict(entry.dimensions).get("GpuIndex", 0))
        count = 60 if promise.read_seconds < 60 else 1
        found[entry] = [steady(value(promise.reader, index), count, number) for number in range(3)]
    return found


def agree(published: Published, local: NvmlReadings, *changes: datetime) -> Check:
    return datapoints_agree_with_nvml(GPUMON, published, local, read_at=at(9), changes=changes)


def with_reading(local: NvmlReadings, more: Mapping[tuple[str, str], list[Minute]]) -> NvmlReadings:
    return replace(local, minutes={**local.minutes, **more})


def test_same_values_agree(published: Published, local: NvmlReadings) -> None:
    outcome = agree(published, local)

    assert (outcome.check_id, outcome.passed) == ("datapoints_agree_with_nvml", True)
    gauges = 24 - 6 - 1  # less the counters, and what no plain call of NVML says
    assert outcome.evidence["compared"] == 4 * gauges * 3
    assert outcome.evidence["wrong_count"] == 0


def test_bus_utilization_as_memory_is_named_with_gpu_minute_and_both_values(
    published: Published, local: NvmlReadings
) -> None:
    published[series("MemoryUsed", 2)] = [steady(37.0, number=number) for number in range(3)]

    outcome = agree(published, local)

    assert outcome.passed is False
    assert outcome.reason.startswith(
        "MemoryUsed of GPU 2 at 10:00 is 37 (37 to 37) in CloudWatch and"
        " 2.14748e+09 (2.14748e+09 to 2.14748e+09) by NVML; MemoryUsed of GPU 2 at 10:01"
    )
    assert outcome.evidence["wrong_count"] == 3
    row = outcome.evidence["wrong"][0]
    assert (row["metric"], row["gpu_index"], row["minute"]) == ("MemoryUsed", "2", at(0).isoformat())
    assert (row["published"]["average"], row["local"]["average"]) == (37.0, 2 * GIB)


def test_two_gpus_that_are_mixed_up_do_not_agree(published: Published, local: NvmlReadings) -> None:
    one, other = series("MemoryUsed", 1), series("MemoryUsed", 2)
    published[one], published[other] = published[other], published[one]

    assert agree(published, local).passed is False


def test_index_that_is_not_nvmls_is_wrong(published: Published, local: NvmlReadings) -> None:
    outcome = agree(published, replace(local, indices={**local.indices, "GPU-1": 3}))

    assert (outcome.passed, outcome.reason) == (False, "GPU GPU-1 is 3 to NVML and 1 in CloudWatch")


def test_gpu_of_which_nothing_can_be_compared_is_no_pass(published: Published, local: NvmlReadings) -> None:
    without = {key: minutes for key, minutes in local.minutes.items() if key[0] != "GPU-3"}

    outcome = agree(published, replace(local, minutes=without))

    assert (outcome.passed, outcome.reason) == (False, "nothing of GPU 3 could be compared with NVML")
    assert outcome.evidence["not_compared_gpus"] == ["3"]


def test_nothing_to_compare_is_no_pass(published: Published, local: NvmlReadings) -> None:
    assert agree(published, NvmlReadings()).passed is False
    assert agree({}, local).passed is False
    assert datapoints_agree_with_nvml({}, {}, local, read_at=at(9)).passed is False


def test_clock_off_by_an_hour_between_the_two_leaves_nothing_to_compare(
    published: Published, local: NvmlReadings
) -> None:
    moved = {
        entry: [replace(minute, minute=minute.minute + timedelta(hours=1)) for minute in minutes]
        for entry, minutes in published.items()
    }

    assert agree(moved, local).passed is False


def test_minute_of_which_nvml_saw_next_to_nothing_does_not_count(published: Published, local: NvmlReadings) -> None:
    key = ("GPU-1", "memory_used_bytes")
    strange = with_reading(local, {key: [steady(7 * GIB, 4), *local.minutes[key][1:]]})

    assert agree(published, strange).passed is True


@pytest.mark.parametrize(
    ("reader", "cloudwatch", "nvml", "agree"),
    [
        ("memory_used_bytes", 10.05 * GIB, 10 * GIB, True),
        ("memory_used_bytes", 10.3 * GIB, 10 * GIB, False),
        ("memory_used_bytes", 2**20, 0, True),
        ("memory_used_bytes", 2**22, 0, False),
        ("gpu_utilization_percent", 4, 0, True),
        ("gpu_utilization_percent", 10, 0, False),
        ("temperature_celsius", 41, 40, True),
        ("temperature_celsius", 45, 40, False),
        ("power_watts", 72, 70, True),
        ("power_watts", 90, 70, False),
        ("power_watts", 70_000, 70, False),
        ("sm_clock_megahertz", 1590, 1575, True),
        ("sm_clock_megahertz", 300, 1575, False),
        ("gpu_up", 1, 1, True),
        ("gpu_up", 0, 1, False),
        ("recovery_action", 1, 0, False),
    ],
)
def test_tolerance_is_that_of_the_unit(reader: str, cloudwatch: float, nvml: float, *, agree: bool) -> None:
    assert agrees(reader, 1.0, steady(cloudwatch), steady(nvml)) is agree


def test_noise_is_no_disagreement_and_a_shift_is() -> None:
    noisy = Minute(BEGAN, 60.0, 90.0, 74.0, 60)

    assert agrees("power_watts", 1.0, noisy, Minute(BEGAN, 61.0, 95.0, 80.0, 60)) is True
    assert agrees("power_watts", 1.0, noisy, Minute(BEGAN, 160.0, 190.0, 174.0, 60)) is False


def test_scale_is_applied_to_what_nvml_said() -> None:
    assert agrees("power_watts", 0.001, steady(0.07), steady(70.0)) is True
    assert agrees("power_watts", 0.001, steady(70.0), steady(70.0)) is False


def test_minute_in_which_the_load_changed_has_the_same_levels() -> None:
    low, high = LEVELS
    seen = Minute(BEGAN, low, high, 0.6 * high, 60)

    def levels(minimum: float, maximum: float, *changes: datetime) -> bool:
        return agrees("memory_used_bytes", 1.0, Minute(BEGAN, minimum, maximum, 0.3 * high, 58), seen, changes)

    assert levels(low, high, at(0) + MIDDLE) is True
    assert levels(low, 0.98 * high, at(0) + MIDDLE) is False
    assert levels(low, 0.5 * high, at(0) + MIDDLE) is False
    assert levels(0.5 * high, high, at(0) + MIDDLE) is False
    # The same means, of which nobody said that the load changed, or in another minute, are too far apart.
    assert levels(low, high) is False
    assert levels(low, high, at(1) + MIDDLE) is False


@pytest.mark.parametrize("seconds", [-1, 1, 59, 61])
def test_load_that_changed_at_the_edge_of_a_minute_may_be_seen_by_one_only(seconds: float) -> None:
    low, high = LEVELS
    change = at(0) + timedelta(seconds=seconds)
    seen = Minute(BEGAN, low, high, high / 60, 60)

    assert agrees("memory_used_bytes", 1.0, steady(low), seen, [change]) is True
    assert agrees("memory_used_bytes", 1.0, steady(high), seen, [change]) is False


def test_part_of_a_minute_lies_in_what_the_other_saw() -> None:
    seen = Minute(BEGAN, 0.0, 10.0 * GIB, 8.0 * GIB, 60)

    def part(value: float, count: float = 10) -> bool:
        return agrees("memory_used_bytes", 1.0, steady(value, count), seen)

    assert part(0.0) is True
    assert part(10.0 * GIB) is True
    assert part(40.0 * GIB) is False
    assert part(0.0, 60) is False


@pytest.mark.parametrize(("seconds", "passed"), [(69, True), (71, False)])
def test_minute_that_was_not_over_is_a_part_of_what_nvml_saw(
    published: Published, local: NvmlReadings, seconds: float, *, passed: bool
) -> None:
    high = Minute(at(2), 0.0, LEVELS[1], 0.9 * LEVELS[1], 60)
    key = ("GPU-0", "memory_used_bytes")
    seen = with_reading(local, {key: [*local.minutes[key][:2], high]})
    published[series("MemoryUsed", 0)][2] = steady(LEVELS[1], 45, 2)
    read_at = at(2) + timedelta(seconds=seconds)

    outcome = datapoints_agree_with_nvml(GPUMON, published, seen, read_at=read_at, changes=[at(2) + MIDDLE])

    assert outcome.passed is passed


def test_single_reading_is_one_of_those_of_its_minute() -> None:
    assert agrees("process_count", 1.0, steady(1, 1), Minute(BEGAN, 0, 1, 0.5, 60)) is True
    assert agrees("process_count", 1.0, steady(3, 1), Minute(BEGAN, 0, 1, 0.5, 60)) is False


def test_document_has_points_with_nvmls_beside_them(published: Published, local: NvmlReadings) -> None:
    energy = series("EnergyConsumed", 1)
    published[energy] = [steady(600.0, 2)]
    published[series("MemoryFree", 0)] = []

    rows = series_document(GPUMON, published, local)

    assert json.loads(json.dumps(rows)) == rows
    assert len(rows) == len(GPUMON) - 1
    memory = next(row for row in rows if row["metric"] == "MemoryUsed" and row["dimensions"]["GpuIndex"] == "2")
    points = [[at(number).isoformat(), 2.0 * GIB] for number in range(3)]
    assert memory == {
        "namespace": "GPU",
        "metric": "MemoryUsed",
        "unit": "Bytes",
        "dimensions": {"InstanceId": INSTANCE_ID, "GpuIndex": "2", "GpuUuid": "GPU-2"},
        "statistic": "Average",
        "points": points,
        "local": points,
    }
    counter = next(row for row in rows if row["metric"] == "EnergyConsumed" and row["dimensions"]["GpuIndex"] == "1")
    assert (counter["statistic"], counter["points"], counter["local"]) == ("Sum", [[at(0).isoformat(), 1200.0]], [])
    assert next(row for row in rows if row["metric"] == "Heartbeat")["local"] == []


def test_evidence_is_json_and_small(published: Published, local: NvmlReadings) -> None:
    everything = {entry: [steady(1e12, number=number) for number in range(3)] for entry in published}

    outcome = agree(everything, local)

    assert outcome.passed is False
    assert outcome.evidence["wrong_count"] > 100
    assert len(json.dumps(outcome.evidence)) < 10_000
    assert len(outcome.reason) < 600


def test_the_minute_in_which_reading_began_is_not_compared_and_later_ones_are(
    published: Published, local: NvmlReadings
) -> None:
    count = series("ProcessCount", 0)
    before_reading = {**published, count: [Minute(at(0), 0, 1, 0.66, 3), *published[count][1:]]}
    late = [replace(minute, count=45) if not number else minute for number, minute in
        enumerate(local.minutes["GPU-0", "process_count"])]  # fmt: skip

    assert agree(before_reading, with_reading(local, {("GPU-0", "process_count"): late})).passed is True
    wrong_later = {**published, count: [published[count][0], Minute(at(1), 7, 7, 7, 1)]}
    assert agree(wrong_later, with_reading(local, {("GPU-0", "process_count"): late})).passed is False
