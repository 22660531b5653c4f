from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.metrics import Metric
from gpumon.samples import Datum, Sample
from gpumon.window import MAX_VALUES_PER_DATUM, Window, fold
from tests.gpumon.fakes import GPU, OTHER_GPU, gpu_sample

USED = Metric("MemoryUsed", "gpu", "Bytes", "used_bytes", "x", minimum=0, maximum=1000)
HOST = Metric("GpuCount", "host", "Count", "gpu_count", "x")

finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15)
counters = st.dictionaries(finite, st.integers(1, 5), min_size=1, max_size=700)


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
    window = Window([USED], 60)
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
    window = Window([USED], 60)
    assert window.add(sample(119.0, 5)) == ()
    assert window.add(sample(119.9, 5)) == ()

    finished = window.add(sample(120.0, 7))

    assert finished == (Datum("MemoryUsed", "Bytes", GPU, 60, (5.0,), (2,)),)
    assert window.take() == (Datum("MemoryUsed", "Bytes", GPU, 120, (7.0,), (1,)),)
    assert window.take() == ()


def test_finish_needs_no_sample() -> None:
    window = Window([USED], 60)
    window.add(sample(61, 5))

    assert window.finish(119.9) == ()
    assert [datum.unix_seconds for datum in window.finish(120)] == [60]


def test_an_unreadable_value_is_absent_and_zero_is_zero() -> None:
    window = Window([USED], 60)
    window.add(sample(60, None, 0))

    assert [(datum.gpu, datum.values) for datum in window.take()] == [(OTHER_GPU, (0.0,))]


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 1001])
def test_what_cannot_be_a_measurement_is_left_out_and_logged(value: float, caplog: pytest.LogCaptureFixture) -> None:
    window = Window([USED], 60)
    window.add(sample(60, value))

    assert window.take() == ()
    assert "MemoryUsed of GPU-aaaa" in caplog.text


def test_a_host_value_has_no_gpu() -> None:
    window = Window([USED, HOST], 60)
    window.add(Sample(60, (), {"gpu_count": 8}))

    assert window.take() == (Datum("GpuCount", "Count", None, 60, (8.0,), (1,)),)


def test_seconds_left_reaches_to_the_end_of_the_period() -> None:
    assert Window([USED], 60).seconds_left(119.75) == 0.25
