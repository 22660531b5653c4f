from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunodes.proof import memory_checks
from gpunodes.proof.datapoints import Datapoint, Readings, Series, floor_minute
from gpunodes.proof.gpu_checks import Gpu
from gpunodes.proof.memory_checks import SHARES, Level
from tests.gpunodes.fakes import GIB, gpus, memory_series

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
A_MINUTE = timedelta(minutes=1)
BASE_BYTES = 450.0 * 2**20

moments = st.datetimes(min_value=datetime(2030, 1, 1), max_value=datetime(2031, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
seconds = st.floats(min_value=0, max_value=600, allow_nan=False)


def readings(*values_bytes: float, minute: datetime = NOON) -> Readings:
    """A reading of one minute for each GPU, by index."""
    return {memory_series(index): [Datapoint(minute, value)] for index, value in enumerate(values_bytes)}


def level(share: float, *sizes_bytes: int, at: datetime = NOON) -> Level:
    return Level(share, at, {memory_series(index): size for index, size in enumerate(sizes_bytes)})


def staircase(levels: Sequence[Level], seen: Sequence[Readings], base: Readings) -> list[dict[str, Any]]:
    """The rows of a whole staircase."""
    rows: list[dict[str, Any]] = []
    for one, maximum in zip(levels, seen, strict=True):
        first = [row for row in rows if row["share"] == levels[0].share]
        rows += memory_checks.level_rows(one, first, base, maximum)
    return rows


LEVELS = [level(0.25, 2 * GIB, 4 * GIB), level(0.5, 4 * GIB, 8 * GIB), level(0.75, 6 * GIB, 12 * GIB)]
BASE = readings(BASE_BYTES, BASE_BYTES)
SEEN = [readings(*(BASE_BYTES + held for held in one.held_bytes.values())) for one in LEVELS]


@given(st.lists(st.integers(min_value=GIB, max_value=192 * GIB), min_size=1, max_size=16))
def test_every_gpu_gets_an_amount_of_its_own_below_its_free_memory(free_bytes: list[int]) -> None:
    there = [Gpu(index, f"GPU-{index}", "any", free, free) for index, free in enumerate(free_bytes)]

    steps = [memory_checks.level_sizes(there, share) for share in SHARES]

    for sizes in steps:
        assert all(0 < size < gpu.free_bytes for size, gpu in zip(sizes, there, strict=True))
        # Further apart than what a rise may differ by, so that no GPU passes for its neighbour with less.
        assert all(smaller * 1.02 < larger for larger, smaller in itertools.pairwise(sizes))
    assert all(list(held) == sorted(held) for held in zip(*steps, strict=True))


def test_the_first_gpu_is_filled_to_a_quarter_a_half_and_three_quarters() -> None:
    assert [memory_checks.level_sizes(gpus(2, 16 * GIB), share)[0] for share in SHARES] == [4 * GIB, 8 * GIB, 12 * GIB]
    assert memory_checks.level_sizes([], 0.25) == []


def test_memory_that_rises_step_by_step_passes() -> None:
    made = memory_checks.memory_rises(staircase(LEVELS, SEEN, BASE))

    assert made.passed is True
    assert made.reason == "3 steps of every GPU within 1 %: GPU 0 +6.00 GiB, GPU 1 +12.00 GiB"
    assert [row["rise_bytes"] for row in made.evidence["steps"]][:2] == [2 * GIB, 4 * GIB]


def test_the_contexts_memory_is_allowed_for_once_and_only_at_the_first_step() -> None:
    context = 0.5 * GIB
    with_contexts = [readings(*(point[0].value + context for point in seen.values())) for seen in SEEN]
    growing = [SEEN[0], readings(*(point[0].value + context for point in SEEN[1].values())), SEEN[2]]

    assert memory_checks.memory_rises(staircase(LEVELS, with_contexts, BASE)).passed is True
    assert memory_checks.memory_rises(staircase(LEVELS, growing, BASE)).passed is False


@pytest.mark.parametrize(
    ("step", "maximum", "complaint"),
    [
        (0, readings(BASE_BYTES, BASE_BYTES), "GPU 0 at 25%: 0.00 GiB instead of 2.00 GiB"),
        (0, readings(BASE_BYTES + 1.9 * GIB, BASE_BYTES + 4 * GIB), "GPU 0 at 25%: 1.90 GiB instead of 2.00 GiB"),
        (1, readings(BASE_BYTES + 4 * GIB, BASE_BYTES + 4 * GIB), "GPU 1 at 50%: 4.00 GiB instead of 8.00 GiB"),
        (1, readings(BASE_BYTES + 8 * GIB, BASE_BYTES + 4 * GIB), "GPU 0 at 50%: 8.00 GiB instead of 4.00 GiB"),
        (2, readings(BASE_BYTES + 6.05 * GIB, BASE_BYTES + 12 * GIB), "GPU 0 at 75%: 6.05 GiB instead of 6.00 GiB"),
        (2, {}, "GPU 0 at 75%: nothing instead of 6.00 GiB"),
        (2, {memory_series(0): [], memory_series(1): []}, "GPU 0 at 75%: nothing instead of 6.00 GiB"),
        (2, {memory_series(i, "i-other"): SEEN[2][memory_series(i)] for i in (0, 1)}, "GPU 0 at 75%: nothing"),
        (0, readings(BASE_BYTES + 2 * GIB, BASE_BYTES + 4 * GIB, minute=NOON - A_MINUTE), "GPU 0 at 25%: nothing"),
    ],
    ids=["flat", "too little", "one flat", "swapped", "too much", "absent", "empty", "another's", "too early"],
)
def test_memory_that_rose_otherwise_fails_and_says_where(step: int, maximum: Readings, complaint: str) -> None:
    seen = [*SEEN[:step], maximum, *SEEN[step + 1 :]]

    made = memory_checks.memory_rises(staircase(LEVELS, seen, BASE))

    assert made.passed is False
    assert made.reason.startswith(complaint)


def test_percentage_published_as_memory_fails() -> None:
    made = memory_checks.memory_rises(staircase(LEVELS, [readings(25, 25), readings(50, 50), readings(75, 75)], BASE))

    assert made.passed is False
    assert not any(row["fits"] for row in made.evidence["steps"])
    assert made.reason.endswith("; and 2 more")


def test_memory_cannot_rise_from_what_nobody_read_and_zero_is_a_reading() -> None:
    from_zero = [readings(*(float(held) for held in one.held_bytes.values())) for one in LEVELS]

    assert memory_checks.memory_rises(staircase(LEVELS, SEEN, {})).passed is False
    assert memory_checks.memory_rises(staircase(LEVELS, from_zero, readings(0, 0))).passed is True


def test_no_gpu_is_no_rise_and_no_fall() -> None:
    rose, fell = memory_checks.memory_rises([]), memory_checks.memory_falls(None, {}, {}, NOON)

    assert (rose.passed, fell.passed) == (False, False)
    assert rose.reason == fell.reason == "there is no GPU to look at"
    assert memory_checks.memory_arrives({}).reason == "there is no GPU to look at"
    assert memory_checks.memory_arrives({}).passed is False


@given(st.integers(min_value=2, max_value=16), st.data())
def test_any_mix_up_of_gpus_fails(count: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(count)).filter(lambda drawn: list(drawn) != list(range(count))))
    sizes = [memory_checks.level_sizes(gpus(count), share) for share in SHARES]
    levels = [level(share, *held) for share, held in zip(SHARES, sizes, strict=True)]
    mixed_up = [readings(*(BASE_BYTES + held[index] for index in order)) for held in sizes]

    rows = staircase(levels, mixed_up, readings(*[BASE_BYTES] * count))

    assert memory_checks.memory_rises(rows).passed is False


@given(moments, seconds)
def test_the_minute_of_the_allocation_counts_and_the_one_before_does_not(at: datetime, later: float) -> None:
    one = level(0.25, 4 * GIB, at=at)
    counted = readings(4.0 * GIB, minute=floor_minute(at + timedelta(seconds=later)))
    too_early = readings(4.0 * GIB, minute=floor_minute(at) - A_MINUTE)

    assert memory_checks.level_rows(one, [], readings(0), counted)[0]["fits"]
    assert not memory_checks.level_rows(one, [], readings(0), too_early)[0]["fits"]


def test_series_without_a_datapoint_are_named() -> None:
    made = memory_checks.memory_arrives({**readings(1), **{memory_series(index): [] for index in range(1, 6)}})

    assert made.passed is False
    assert made.reason.startswith("5 of 6 series have no datapoint: GPU MemoryUsed (GpuIndex=1, InstanceId=i-")
    assert made.reason.endswith("; and 2 more")
    assert memory_checks.memory_arrives(readings(1, 2)).passed is True


@pytest.mark.parametrize("after_bytes", [BASE_BYTES, BASE_BYTES + 0.009 * 2 * GIB, BASE_BYTES - 0.3 * GIB])
def test_memory_that_is_back_has_fallen(after_bytes: float) -> None:
    made = memory_checks.memory_falls(LEVELS[0], BASE, readings(after_bytes, BASE_BYTES), NOON)

    assert made.passed is True
    assert made.reason == "every GPU is back where it was"


@pytest.mark.parametrize(
    ("base", "minimum", "complaint"),
    [
        (BASE, SEEN[2], "GPU 0 6.44 GiB instead of 0.44 GiB; GPU 1 12.44 GiB instead of 0.44 GiB"),
        (BASE, readings(BASE_BYTES, BASE_BYTES + GIB), "GPU 1 1.44 GiB instead of 0.44 GiB"),
        (BASE, {}, "GPU 0 nothing instead of 0.44 GiB"),
        (BASE, readings(BASE_BYTES, BASE_BYTES, minute=NOON - A_MINUTE), "GPU 0 nothing instead of 0.44 GiB"),
        ({}, BASE, "GPU 0 0.44 GiB instead of nothing"),
    ],
    ids=["still there", "one still there", "absent", "before it was freed", "never seen before"],
)
def test_memory_that_is_not_back_fails_and_says_where(base: Readings, minimum: Readings, complaint: str) -> None:
    made = memory_checks.memory_falls(LEVELS[0], base, minimum, NOON)

    assert made.passed is False
    assert made.reason.startswith(complaint)


@given(moments, seconds)
def test_minute_that_counts_after_the_free_began_after_the_allocation(allocated_at: datetime, held: float) -> None:
    freed_at = allocated_at + timedelta(seconds=held)

    minute = memory_checks.first_minute_after_free(allocated_at, freed_at)

    assert minute == floor_minute(minute)
    assert minute > allocated_at
    assert floor_minute(freed_at) <= minute <= floor_minute(freed_at) + A_MINUTE


@given(moments, seconds)
def test_low_memory_of_the_minute_of_the_allocation_is_no_fall(allocated_at: datetime, held: float) -> None:
    since = memory_checks.first_minute_after_free(allocated_at, allocated_at + timedelta(seconds=held))
    one = level(0.25, 4 * GIB)
    low_before_it_was_allocated = readings(BASE_BYTES, minute=floor_minute(allocated_at))

    assert memory_checks.memory_falls(one, BASE, low_before_it_was_allocated, since).passed is False
    assert memory_checks.memory_falls(one, BASE, readings(BASE_BYTES, minute=since), since).passed is True


def test_a_series_is_named_by_its_gpu() -> None:
    nameless = Level(0.25, NOON, {Series.of("GPU", "MemoryUsed", {"InstanceId": "i-1"}): GIB})

    assert memory_checks.level_rows(nameless, [], {}, {})[0]["gpu"] == "?"
