from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.counters import CounterDeltas
from gpumon.metrics import Metric
from gpumon.samples import Datum, Gpu, GpuSample, MigInstance, Sample
from gpumon.window import MAX_VALUES_PER_DATUM, Window, fold
from tests.gpumon.fakes import GPU, OTHER_GPU, gpu_sample, metric

USED = metric("MemoryUsed", "used_bytes", minimum=0, maximum=1000)
HOST = metric("GpuCount", "gpu_count", "host", "Count")
ENERGY = metric("EnergyConsumed", "energy_millijoules", unit="None", kind="counter", scale=0.001)
UTILIZATION = metric("GpuUtilization", "utilization_percent", unit="Percent")
MIG = Gpu(GPU.uuid, GPU.index, GPU.name, mig=MigInstance(7, "1g.5gb", "MIG-cccc"))

finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15)
counters = st.dictionaries(finite, st.integers(1, 5), min_size=1, max_size=700)


def window_of(*metrics: Metric) -> Window:
    return Window(metrics, 60, CounterDeltas())


def sample(at: float, *values: float | None) -> Sample:
    return Sample(at, tuple(gpu_sample(gpu, used_bytes=v) for gpu, v in zip((GPU, OTHER_GPU), values, strict=False)))


@given(counters)
def test_fold_keeps_count_minimum_maximum_and_sum(counts: dict[float, int]) -> None:
    values, folded = fold(counts)

    assert sum(folded) == sum(counts.values())
    assert (values[0], values[-1]) == (min(counts), max(counts))
    total = math.fsum(value * times for value, times in counts.items())
    folded_total = math.fsum(value * times for value, times in zip(values, folded, strict=True))
    scale = math.fsum(abs(value) * times for value, times in counts.items())
    assert folded_total == pytest.approx(total, abs=1e-9 * scale + 1e-9)


@given(counters)
def test_fold_stays_within_the_limits_of_a_datum(counts: dict[float, int]) -> None:
    values, folded = fold(counts)

    assert 1 <= len(values) == len(folded) <= MAX_VALUES_PER_DATUM
    assert list(values) == sorted(values)
    assert all(times >= 1 for times in folded)


@given(st.dictionaries(finite, st.integers(1, 5), min_size=1, max_size=MAX_VALUES_PER_DATUM))
def test_fold_changes_nothing_up_to_the_limit(counts: dict[float, int]) -> None:
    assert dict(zip(*fold(counts), strict=True)) == counts


def test_fold_merges_only_neighbours_beyond_the_limit() -> None:
    values, counts = fold({float(value): 1 for value in range(8)}, limit=5)

    assert values == (0.0, 1.5, 3.5, 5.5, 7.0)
    assert counts == (1, 2, 2, 2, 1)


@given(st.lists(st.tuples(st.floats(0, 600), st.integers(0, 1000)), max_size=300))
def test_no_sample_is_lost_or_counted_twice_whatever_the_clock_does(moments: list[tuple[float, int]]) -> None:
    window = window_of(USED)
    datums: list[Datum] = []
    for at, value in moments:
        datums += window.add(sample(at, value))
    datums += window.take()

    seen: Counter[tuple[int, float]] = Counter()
    for datum in datums:
        for value_, times in zip(datum.values, datum.counts, strict=True):
            seen[datum.unix_seconds, value_] += times
    assert seen == Counter((int(at // 60) * 60, float(value)) for at, value in moments)


def test_a_period_is_finished_by_the_first_sample_of_the_next_and_dated_with_its_start() -> None:
    window = window_of(USED)
    assert window.add(sample(119.0, 5)) == ()
    assert window.add(sample(119.9, 5)) == ()

    finished = window.add(sample(120.0, 7))

    assert finished == (Datum("MemoryUsed", "Bytes", GPU, 60, (5.0,), (2,)),)
    assert window.take() == (Datum("MemoryUsed", "Bytes", GPU, 120, (7.0,), (1,)),)
    assert window.take() == ()


def test_finish_needs_no_sample() -> None:
    window = window_of(USED)
    window.add(sample(61, 5))

    assert window.finish(119.9) == ()
    assert [datum.unix_seconds for datum in window.finish(120)] == [60]


def test_an_unreadable_value_is_absent_and_zero_is_zero() -> None:
    window = window_of(USED)
    window.add(sample(60, None, 0))

    assert [(datum.gpu, datum.values) for datum in window.take()] == [(OTHER_GPU, (0.0,))]


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 1001])
def test_what_cannot_be_a_measurement_is_left_out_and_logged(value: float, caplog: pytest.LogCaptureFixture) -> None:
    window = window_of(USED)
    window.add(sample(60, value))

    assert window.take() == ()
    assert "MemoryUsed of GPU-aaaa" in caplog.text


def test_a_host_value_has_no_gpu() -> None:
    window = window_of(USED, HOST)
    window.add(Sample(60, (), {"gpu_count": 8}))

    assert window.take() == (Datum("GpuCount", "Count", None, 60, (8.0,), (1,)),)


def test_seconds_left_reaches_to_the_end_of_the_period() -> None:
    assert window_of(USED).seconds_left(119.75) == 0.25


def test_a_counter_becomes_the_delta_of_the_period_in_cloudwatchs_unit() -> None:
    window = window_of(ENERGY)
    for at, millijoules in ((60, 5000), (119, 65_000), (179, 185_000)):
        window.add(Sample(at, (gpu_sample(energy_millijoules=millijoules),), monotonic_seconds=at))

    assert [(datum.unix_seconds, datum.values) for datum in window.take()] == [(120, (120.0,))]


def test_the_first_reading_of_a_drivers_counter_is_no_datapoint() -> None:
    window = window_of(ENERGY)
    window.add(Sample(60, (gpu_sample(energy_millijoules=5000),)))

    assert window.take() == ()


def test_a_burst_counts_every_value_of_it() -> None:
    window = window_of(UTILIZATION)
    window.add(Sample(60, (GpuSample(GPU, {}, {"utilization_percent": (0.0, 100.0, 100.0)}),)))

    assert [(datum.values, datum.counts) for datum in window.take()] == [((0.0, 100.0), (1, 2))]


def test_a_value_is_published_under_its_legacy_name_too() -> None:
    window = window_of(USED, metric("Memory Usage", "used_bytes", tier="legacy"))
    window.add(sample(60, 5))

    assert [(datum.metric, datum.values) for datum in window.take()] == [
        ("MemoryUsed", (5.0,)),
        ("Memory Usage", (5.0,)),
    ]


@pytest.mark.parametrize(("tier", "expected"), [("core", [GPU]), ("extended", [GPU, MIG])])
def test_mig_instances_are_published_with_the_extended_tier_only(tier: str, expected: list[Gpu]) -> None:
    window = window_of(USED, metric("MemoryTotal", "total_bytes", tier=tier))
    window.add(Sample(60, (gpu_sample(GPU, used_bytes=5), gpu_sample(MIG, used_bytes=2))))

    assert [datum.gpu for datum in window.take()] == expected


def test_counters_of_a_mig_instance_are_not_mixed_up_with_those_of_its_gpu() -> None:
    window = window_of(ENERGY, metric("MemoryTotal", "total_bytes", tier="extended"))
    for at, whole, part in ((60, 1000, 10), (61, 3000, 20)):
        window.add(Sample(at, (gpu_sample(GPU, energy_millijoules=whole), gpu_sample(MIG, energy_millijoules=part))))

    assert {datum.gpu: datum.values for datum in window.take()} == {GPU: (2.0,), MIG: (0.01,)}


def test_a_legacy_name_is_never_that_of_a_mig_instance() -> None:
    legacy = metric("Memory Usage", "used_bytes", tier="legacy")
    window = window_of(legacy, metric("MemoryTotal", "total_bytes", tier="extended"))
    window.add(Sample(60, (gpu_sample(GPU, used_bytes=5), gpu_sample(MIG, used_bytes=2))))

    assert [(datum.gpu, datum.values) for datum in window.take()] == [(GPU, (5.0,))]
