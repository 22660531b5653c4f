from __future__ import annotations

import pytest

from gpumon.channels import Channel
from gpumon.counters import CounterDeltas
from gpumon.samples import Sample
from gpumon.window import Window
from tests.gpumon.fakes import FakeClock, RecordingOutbox, gpu_sample, metric

USED = metric("MemoryUsed", "used_bytes")


class House:
    def __init__(self, phase_seconds: float = 2.0) -> None:
        self.clock = FakeClock(0)
        self.clock.now = 0.0
        self.outbox = RecordingOutbox(self.clock)
        self.channel = Channel("cloudwatch", Window([USED], 60, CounterDeltas()), self.outbox, phase_seconds)

    def add(self, at: float, value: float = 5.0) -> None:
        self.clock.now = at
        self.channel.add(Sample(at, (gpu_sample(used_bytes=value),), monotonic_seconds=at))

    def step(self, at: float) -> None:
        self.clock.now = at
        self.channel.step(at, at)

    @property
    def submitted(self) -> list[tuple[float, list[int]]]:
        return [(moment, [datum.unix_seconds for datum in batch]) for moment, batch in self.outbox.submissions]


def test_the_first_sample_goes_out_at_once_and_the_rest_of_its_period_later() -> None:
    house = House()
    house.add(10)
    house.add(11)
    house.step(61)
    house.step(63)

    assert house.submitted == [(10, [0]), (63, [0])]


def test_a_period_waits_for_its_phase_but_not_for_a_sample() -> None:
    house = House(phase_seconds=2.0)
    for at in (10, 20, 61):
        house.add(at)
    house.step(62.9)
    assert len(house.submitted) == 1
    house.step(63)
    house.step(122.1)

    assert house.submitted == [(10, [0]), (63, [0])]
    house.step(124.1)
    assert house.submitted[2:] == [(124.1, [60])]


def test_what_is_urgent_takes_the_open_period_along_and_counts_nothing_twice() -> None:
    house = House()
    house.add(10)
    house.add(20)
    house.channel.publish_now()
    house.channel.publish_now()
    house.add(30)
    house.step(63)
    house.step(66)

    assert house.submitted == [(10, [0]), (20, [0]), (66, [0])]
    assert house.outbox.urgent == [20]


def test_a_stop_hands_over_all_that_is_held() -> None:
    house = House(phase_seconds=30)
    house.add(10)
    house.add(20)
    house.add(70)
    house.channel.stop(4)

    assert house.submitted == [(10, [0]), (70, [0, 60])]
    assert house.outbox.stopped_after == 4


@pytest.mark.parametrize(("now", "left"), [(20.0, 40.0), (60.5, 1.5)])
def test_it_knows_how_long_it_has_nothing_to_do(now: float, left: float) -> None:
    house = House(phase_seconds=2)
    house.add(10)
    house.add(20)
    house.step(60) if now > 60 else None

    assert house.channel.seconds_left(now, now) == left
