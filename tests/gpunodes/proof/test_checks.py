from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunodes.proof import checks
from gpunodes.proof.checks import Gpu
from gpunodes.proof.clone import Clone
from gpunodes.proof.datapoints import Datapoint, Readings, Series, floor_minute
from tests.gpunodes.fakes import GIB, gpus, memory_series

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
A_MINUTE = timedelta(minutes=1)
BASE_BYTES = 450.0 * 2**20

moments = st.datetimes(min_value=datetime(2030, 1, 1), max_value=datetime(2031, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
seconds = st.floats(min_value=0, max_value=600, allow_nan=False)


def readings(*values_bytes: float, minute: datetime = NOON) -> Readings:
    """A reading of one minute for each GPU, by index."""
    return {memory_series(index): [Datapoint(minute, value)] for index, value in enumerate(values_bytes)}


def allocated(*sizes_bytes: int) -> dict[Series, int]:
    return {memory_series(index): size for index, size in enumerate(sizes_bytes)}


TWO = allocated(4 * GIB, 8 * GIB)
BEFORE = readings(BASE_BYTES, BASE_BYTES)
RISEN = readings(BASE_BYTES + 4 * GIB, BASE_BYTES + 8 * GIB)


def test_clone_without_complaints_has_inherited_nothing() -> None:
    check = checks.nothing_is_inherited(Clone({"machine_id": "1"}), "i-0123456789abcdef0")

    assert check.passed
    assert check.name == "nothing of the bake instance is on the clone"
    assert check.reason == "its keys are its own, and no file names i-0123456789abcdef0, which baked the image"
    assert check.evidence == {
        "identity": {"machine_id": "1"}, "complaints": [], "builder_id": "i-0123456789abcdef0"
    }  # fmt: skip


def test_complaints_of_a_clone_are_the_reason_and_the_evidence() -> None:
    clone = Clone({"machine_id": None}, ("/etc/machine-id is not one.", "There are no SSH host keys."))

    check = checks.nothing_is_inherited(clone, "i-0123456789abcdef0")

    assert not check.passed
    assert check.reason == "/etc/machine-id is not one. There are no SSH host keys."
    assert check.evidence["complaints"] == list(clone.complaints)


def test_unknown_builder_is_said_and_does_not_fail_the_rest() -> None:
    passed = checks.nothing_is_inherited(Clone({"machine_id": "1"}), "")
    failed = checks.nothing_is_inherited(Clone({}, ("There are no SSH host keys.",)), "")

    assert passed.passed
    assert "which instance baked the image is not known" in passed.reason
    assert passed.evidence["builder_id"] is None
    assert not failed.passed


def test_long_list_of_files_is_cut_in_the_reason_alone() -> None:
    complaint = "These files name it: " + " ".join(f"/var/log/{number}" for number in range(500))

    check = checks.nothing_is_inherited(Clone({}, (complaint,)), "i-0123456789abcdef0")

    assert len(check.reason) <= 400
    assert check.reason.endswith("...")
    assert check.evidence["complaints"] == [complaint]


@pytest.mark.parametrize(("state", "passed"), [("active", True), ("failed", False), ("activating", False)])
def test_service_counts_only_when_it_is_active(state: str, passed: bool) -> None:
    check = checks.service_is_active("gpumon.service", state, "why")

    assert check.passed is passed
    assert check.name == "gpumon.service is active"
    assert check.reason == f"systemd says: {state}"


def test_systemd_that_says_nothing_is_no_active_service() -> None:
    check = checks.service_is_active("gpumon.service", "", "why")

    assert not check.passed
    assert check.reason == "systemd says: nothing"


@pytest.mark.parametrize(("seen", "promised", "passed"), [(4, 4, True), (3, 4, False), (5, 4, False), (0, 0, False)])
def test_as_many_gpus_must_be_there_as_the_type_has(seen: int, promised: int, passed: bool) -> None:
    check = checks.gpus_are_there(gpus(seen), promised, "g5.12xlarge")

    assert check.passed is passed
    assert check.reason.startswith(f"{seen} of {promised} GPUs of g5.12xlarge: ")


def test_missing_driver_is_named() -> None:
    check = checks.gpus_are_there([], 1, "g4dn.xlarge", "libcuda.so.1 cannot be loaded")

    assert not check.passed
    assert check.reason == "0 of 1 GPUs of g4dn.xlarge: none (libcuda.so.1 cannot be loaded)"


def test_datapoints_arrived_when_every_series_has_one() -> None:
    check = checks.datapoints_arrived("name", "why", readings(1, 2))

    assert check.passed
    assert check.reason == "2 of 2 series have datapoints"


def test_series_without_datapoints_are_named_and_those_beyond_three_counted() -> None:
    check = checks.datapoints_arrived("name", "why", {memory_series(0): [Datapoint(NOON, 0.0)]} | {
        memory_series(index): [] for index in range(1, 6)
    })  # fmt: skip

    assert not check.passed
    assert check.reason.startswith("5 of 6 series have no datapoint: GPU MemoryUsed (GpuIndex=1, InstanceId=i-")
    assert check.reason.endswith("; and 2 more")
    assert len(check.evidence["missing"]) == 5


def test_no_series_at_all_is_no_arrival() -> None:
    check = checks.datapoints_arrived("name", "why", {})

    assert not check.passed
    assert check.reason == "there is no series to look at"


@given(st.lists(st.integers(min_value=GIB, max_value=192 * GIB), min_size=1, max_size=16))
def test_every_gpu_gets_an_amount_of_its_own_below_its_free_memory(free_bytes: list[int]) -> None:
    there = [Gpu(index, f"GPU-{index}", "any", free) for index, free in enumerate(free_bytes)]

    sizes = checks.allocation_sizes(there)

    assert len(sizes) == len(there)
    assert all(0 < size < gpu.free_bytes for size, gpu in zip(sizes, there, strict=True))
    # Further apart than what the rise may differ by, so that no GPU passes for its neighbour with less.
    assert all(smaller * 1.02 < larger for smaller, larger in itertools.pairwise(sizes))


def test_no_gpu_gets_no_amount() -> None:
    assert checks.allocation_sizes([]) == []


def test_memory_rose_by_what_was_allocated() -> None:
    check = checks.memory_rose(TWO, BEFORE, RISEN, NOON)

    assert check.passed
    assert check.reason == "GPU 0 +4.00 GiB, GPU 1 +8.00 GiB"
    assert [row["rise_bytes"] for row in check.evidence["gpus"]] == [4 * GIB, 8 * GIB]


def test_memory_of_the_context_itself_is_allowed_for() -> None:
    with_contexts = readings(BASE_BYTES + 4.5 * GIB, BASE_BYTES + 8.5 * GIB)

    assert checks.memory_rose(TWO, BEFORE, with_contexts, NOON).passed


@pytest.mark.parametrize(
    ("maximum", "complaint"),
    [
        (readings(BASE_BYTES + 8 * GIB, BASE_BYTES + 4 * GIB), "GPU 0 8.00 GiB instead of 4.00 GiB; GPU 1 4.00 GiB"),
        (readings(BASE_BYTES, BASE_BYTES), "GPU 0 0.00 GiB instead of 4.00 GiB"),
        (readings(BASE_BYTES + 4 * GIB, BASE_BYTES), "GPU 1 0.00 GiB instead of 8.00 GiB"),
        (readings(BASE_BYTES + 6 * GIB, BASE_BYTES + 8 * GIB), "GPU 0 6.00 GiB instead of 4.00 GiB"),
        (readings(BASE_BYTES + 3.9 * GIB, BASE_BYTES + 8 * GIB), "GPU 0 3.90 GiB instead of 4.00 GiB"),
        ({}, "GPU 0 nothing instead of 4.00 GiB; GPU 1 nothing instead of 8.00 GiB"),
        ({memory_series(0): [], memory_series(1): []}, "GPU 0 nothing instead of 4.00 GiB"),
        ({memory_series(i, "i-other"): RISEN[memory_series(i)] for i in (0, 1)}, "GPU 0 nothing instead of 4.00 GiB"),
        (readings(BASE_BYTES + 4 * GIB, BASE_BYTES + 8 * GIB, minute=NOON - A_MINUTE), "GPU 0 nothing instead of"),
    ],
    ids=[
        "swapped", "flat", "one flat", "too much", "too little",
        "absent", "empty", "another instance's", "before the allocation",
    ],
)  # fmt: skip
def test_memory_that_rose_otherwise_fails_and_says_where(maximum: Readings, complaint: str) -> None:
    check = checks.memory_rose(TWO, BEFORE, maximum, NOON)

    assert not check.passed
    assert check.reason.startswith(complaint)


def test_percentage_published_as_memory_fails() -> None:
    check = checks.memory_rose(TWO, readings(0, 0), readings(100, 100), NOON)

    assert not check.passed
    assert not any(row["fits"] for row in check.evidence["gpus"])


def test_memory_cannot_rise_from_what_nobody_read() -> None:
    assert not checks.memory_rose(TWO, {}, RISEN, NOON).passed


def test_zero_is_a_reading() -> None:
    assert checks.memory_rose(allocated(4 * GIB), readings(0), readings(4 * GIB), NOON).passed


def test_no_gpu_is_no_rise_and_no_fall() -> None:
    rose, fell = checks.memory_rose({}, {}, {}, NOON), checks.memory_fell({}, {}, {}, NOON)

    assert not rose.passed
    assert not fell.passed
    assert rose.reason == fell.reason == "there is no GPU to look at"


@given(st.integers(min_value=2, max_value=16), st.data())
def test_any_mix_up_of_gpus_fails(count: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(count)).filter(lambda drawn: list(drawn) != list(range(count))))
    sizes = checks.allocation_sizes(gpus(count))
    mixed_up = readings(*(BASE_BYTES + sizes[index] for index in order))

    assert not checks.memory_rose(allocated(*sizes), readings(*[BASE_BYTES] * count), mixed_up, NOON).passed


@given(moments, seconds)
def test_the_minute_of_the_allocation_counts_and_the_one_before_does_not(since: datetime, later: float) -> None:
    one = allocated(4 * GIB)
    counted = readings(4 * GIB, minute=floor_minute(since + timedelta(seconds=later)))
    too_early = readings(4 * GIB, minute=floor_minute(since) - A_MINUTE)

    assert checks.memory_rose(one, readings(0), counted, since).passed
    assert not checks.memory_rose(one, readings(0), too_early, since).passed


@pytest.mark.parametrize("after_bytes", [BASE_BYTES, BASE_BYTES + 0.009 * 4 * GIB, BASE_BYTES - 0.009 * 4 * GIB])
def test_memory_that_is_back_has_fallen(after_bytes: float) -> None:
    check = checks.memory_fell(TWO, BEFORE, readings(after_bytes, BASE_BYTES), NOON)

    assert check.passed
    assert check.reason == "every GPU is back where it was"


@pytest.mark.parametrize(
    ("minimum", "complaint"),
    [
        (RISEN, "GPU 0 4.44 GiB instead of 0.44 GiB; GPU 1 8.44 GiB instead of 0.44 GiB"),
        (readings(BASE_BYTES, BASE_BYTES + GIB), "GPU 1 1.44 GiB instead of 0.44 GiB"),
        ({}, "GPU 0 nothing instead of 0.44 GiB"),
        ({memory_series(i, "i-other"): BEFORE[memory_series(i)] for i in (0, 1)}, "GPU 0 nothing instead of 0.44 GiB"),
        (readings(BASE_BYTES, BASE_BYTES, minute=NOON - A_MINUTE), "GPU 0 nothing instead of 0.44 GiB"),
    ],
    ids=["still there", "one still there", "absent", "another instance's", "before it was freed"],
)
def test_memory_that_is_not_back_fails_and_says_where(minimum: Readings, complaint: str) -> None:
    check = checks.memory_fell(TWO, BEFORE, minimum, NOON)

    assert not check.passed
    assert check.reason.startswith(complaint)


def test_memory_cannot_be_back_where_nobody_saw_it() -> None:
    check = checks.memory_fell(TWO, {}, BEFORE, NOON)

    assert not check.passed
    assert "GPU 0 0.44 GiB instead of nothing" in check.reason


@given(moments, seconds)
def test_minute_that_counts_after_the_free_began_after_the_allocation(allocated_at: datetime, held: float) -> None:
    freed_at = allocated_at + timedelta(seconds=held)

    minute = checks.first_minute_after_free(allocated_at, freed_at)

    assert minute == floor_minute(minute)
    assert minute > allocated_at
    assert floor_minute(freed_at) <= minute <= floor_minute(freed_at) + A_MINUTE


@given(moments, seconds)
def test_low_memory_of_the_minute_of_the_allocation_is_no_fall(allocated_at: datetime, held: float) -> None:
    since = checks.first_minute_after_free(allocated_at, allocated_at + timedelta(seconds=held))
    low_before_it_was_allocated = readings(BASE_BYTES, minute=floor_minute(allocated_at))

    assert not checks.memory_fell(allocated(4 * GIB), BEFORE, low_before_it_was_allocated, since).passed
    assert checks.memory_fell(allocated(4 * GIB), BEFORE, readings(BASE_BYTES, minute=since), since).passed
