from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.counters import CounterDeltas
from tests.gpumon.fakes import metric

REPLAYS = metric("PcieReplay", "replays", kind="counter", wraps_at=2.0**32)
ENERGY = metric("EnergyConsumed", "energy", kind="counter")
SENT = metric("PcieTx", "sent", kind="rate", on_fall="omit")
XIDS = metric("XidErrors", "xids", kind="counter", baseline=0.0)


def test_what_was_added_since_the_reading_before() -> None:
    deltas = CounterDeltas()

    assert [deltas.added("GPU-a", ENERGY, raw, 0.0) for raw in (5.0, 5.0, 12.5)] == [None, 0.0, 7.5]


def test_gpus_and_metrics_do_not_mix() -> None:
    deltas = CounterDeltas()
    deltas.added("GPU-a", ENERGY, 5.0, 0.0)

    assert deltas.added("GPU-b", ENERGY, 9.0, 0.0) is None
    assert deltas.added("GPU-a", SENT, 9.0, 0.0) is None
    assert deltas.added("GPU-a", ENERGY, 6.0, 0.0) == 1.0


def test_a_counter_that_began_anew_has_what_it_counted_since() -> None:
    deltas = CounterDeltas()
    deltas.added("GPU-a", ENERGY, 1000.0, 0.0)

    assert deltas.added("GPU-a", ENERGY, 3.0, 0.0) == 3.0


def test_a_counter_that_wrapped_goes_on() -> None:
    deltas = CounterDeltas()
    deltas.added("GPU-a", REPLAYS, 2.0**32 - 10, 0.0)

    assert deltas.added("GPU-a", REPLAYS, 5.0, 0.0) == 15.0


def test_a_fall_far_from_the_modulus_is_a_new_beginning_and_no_wrap() -> None:
    deltas = CounterDeltas()
    deltas.added("GPU-a", REPLAYS, 1000.0, 0.0)

    assert deltas.added("GPU-a", REPLAYS, 5.0, 0.0) == 5.0


def test_a_fall_that_may_be_either_is_left_out() -> None:
    deltas = CounterDeltas()
    deltas.added("GPU-a", SENT, 1000.0, 0.0)

    assert deltas.added("GPU-a", SENT, 5.0, 1.0) is None
    assert deltas.added("GPU-a", SENT, 25.0, 3.0) == 10.0


def test_a_rate_is_per_second_of_the_clock_that_never_steps() -> None:
    deltas = CounterDeltas()
    deltas.added("GPU-a", SENT, 1000.0, 100.0)

    assert deltas.added("GPU-a", SENT, 4000.0, 160.0) == 50.0
    assert deltas.added("GPU-a", SENT, 5000.0, 160.0) is None


def test_a_counter_of_gpumons_own_begins_at_its_baseline() -> None:
    deltas = CounterDeltas()

    assert [deltas.added("GPU-a", XIDS, raw, 0.0) for raw in (0.0, 3.0, 3.0)] == [0.0, 3.0, 0.0]


def test_the_next_process_goes_on_where_this_one_ended_except_for_gpumons_own_counters() -> None:
    deltas = CounterDeltas()
    deltas.added("GPU-a", ENERGY, 1000.0, 10.0)
    deltas.added("GPU-a", XIDS, 5.0, 10.0)

    following = CounterDeltas(deltas.baselines())

    assert following.added("GPU-a", ENERGY, 1250.0, 70.0) == 250.0
    assert following.added("GPU-a", XIDS, 7.0, 70.0) == 7.0


@pytest.mark.parametrize("wraps_at", [None, 2.0**32])
@given(steps=st.lists(st.integers(0, 2**20), max_size=50))
def test_deltas_add_up_to_what_the_counter_gained(wraps_at: float | None, steps: list[int]) -> None:
    counter = metric("PcieReplay", "replays", kind="counter", wraps_at=wraps_at)
    deltas = CounterDeltas()
    raw = 2**32 - 2**22 if wraps_at else 0
    deltas.added("GPU-a", counter, raw, 0.0)

    total = 0.0
    for step in steps:
        raw += step
        total += deltas.added("GPU-a", counter, raw % 2**32 if wraps_at else raw, 0.0) or 0.0

    assert total == sum(steps)


@pytest.mark.parametrize("damage", [5, [], {"GPU-a": 5}, {"GPU-a": {"energy": 5}}, {"GPU-a": {"energy": [10**400, 0]}}])
def test_what_a_state_file_should_not_have_counts_as_nothing(damage: object) -> None:
    assert CounterDeltas(damage).added("GPU-a", ENERGY, 5.0, 0.0) is None


def test_a_remembered_counter_that_is_no_number_is_no_baseline() -> None:
    assert CounterDeltas({"GPU-a": {"energy": [float("nan"), 0.0]}}).added("GPU-a", ENERGY, 5e9, 0.0) is None
