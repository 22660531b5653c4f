from __future__ import annotations

import threading

import pytest

from gpumon.errors import DriverUnavailableError
from gpumon.readers import EVERYTHING, Due
from gpumon.sampler import Outcome, Sampler
from gpumon.samples import Reading
from tests.gpumon.fakes import FakeClock, FakeGpuReader, gpu_sample

MINUTE = 1_700_000_040  # a whole minute
NO_DRIVER = DriverUnavailableError("Load the driver.")
READING = Reading((gpu_sample(gpu_up=1.0),))


class House:
    """A sampler that runs on the test's own thread, started 20.5 s into a minute."""

    def __init__(self, sample_seconds: float = 1.0, slow_seconds: float = 60.0) -> None:
        self.clock = FakeClock(MINUTE + 20.5)
        self.begin = self.clock.now
        self.reader = FakeGpuReader(READING)
        self.is_released = False
        self.told: list[str] = []
        self.sampler = Sampler(
            self.reader,
            self.clock,
            sample_seconds=sample_seconds,
            slow_seconds=slow_seconds,
            is_released=lambda: self.is_released,
            on_held=lambda _reading: self.told.append("held"),
            on_released=lambda: self.told.append("released"),
        )

    def run(self, seconds: float) -> list[Outcome]:
        self.clock.at(seconds, self.sampler._stop.set)
        self.sampler.run()
        return self.sampler.outcomes()

    def at(self, seconds: float, name: str, value: object, of: object = None) -> None:
        self.clock.at(seconds, lambda: setattr(of or self, name, value))

    def slow(self, outcomes: list[Outcome]) -> list[float]:
        """Return when everything was asked for, in seconds of the wall clock since the whole minute."""
        return [outcome.unix_seconds - MINUTE for outcome in outcomes if Due.SLOW in outcome.due]


def test_it_reads_once_per_interval() -> None:
    outcomes = House().run(10.5)

    assert [outcome.monotonic_seconds - 1000 for outcome in outcomes] == list(range(11))
    assert all(outcome.reading is READING for outcome in outcomes)


def test_a_minutes_slow_values_are_read_shortly_before_it_ends() -> None:
    house = House()

    assert house.slow(house.run(180)) == [20.5, 58.5, 118.5, 178.5]


def test_the_drivers_own_samples_are_fetched_every_ten_seconds_and_before_a_period_ends() -> None:
    outcomes = House().run(45)

    fetched = [outcome.unix_seconds - MINUTE for outcome in outcomes if Due.BUFFER in outcome.due]
    assert fetched == [20.5, 28.5, 38.5, 48.5, 58.5]
    assert all(Due.SAMPLE in outcome.due for outcome in outcomes)


@pytest.mark.parametrize("sample_seconds", [2.0, 7.0, 30.0])
def test_every_period_has_slow_values_whatever_the_interval(sample_seconds: float) -> None:
    house = House(sample_seconds)

    minutes = {int(moment // 60) for moment in house.slow(house.run(600))}

    assert minutes == set(range(11)) or minutes == set(range(10))


def test_a_slow_reading_skips_what_it_missed_and_keeps_to_its_multiples() -> None:
    house = House()
    original = house.reader.read

    def read_slowly(due: Due) -> Reading:
        house.clock.wait(threading.Event(), 2.3)
        return original(due)

    house.reader.read = read_slowly  # type: ignore[method-assign]
    outcomes = house.run(12)

    assert [outcome.monotonic_seconds - 1000 for outcome in outcomes] == pytest.approx([2.3, 5.3, 8.3, 11.3])
    assert outcomes[0].duration_seconds == pytest.approx(2.3)


def test_a_reading_that_does_not_return_can_be_told() -> None:
    house = House()
    seen: list[float | None] = [house.sampler.busy_seconds()]

    def read(_due: Due) -> Reading:
        house.clock.wait(threading.Event(), 45.0)
        seen.append(house.sampler.busy_seconds())
        return READING

    house.reader.read = read  # type: ignore[method-assign,assignment]
    house.run(0.5)

    assert seen == [None, 45.0]
    assert house.sampler.busy_seconds() is None


def test_without_a_driver_it_tries_again_ever_more_rarely() -> None:
    house = House()
    house.reader.answer = NO_DRIVER
    house.at(100, "answer", READING, house.reader)

    outcomes = house.run(125)

    tries = [outcome.monotonic_seconds - house.begin for outcome in outcomes if outcome.error]
    assert tries == [0, 1, 3, 7, 15, 31, 61, 91]
    assert [outcome.reading for outcome in outcomes if outcome.error] == [None] * 8
    assert next(outcome.monotonic_seconds - house.begin for outcome in outcomes if outcome.reading) == 121


def test_a_released_driver_is_let_go_and_taken_back_at_once() -> None:
    house = House()
    house.at(2.5, "is_released", True)
    house.at(4.5, "is_released", False)

    outcomes = house.run(6.5)

    assert house.told == ["held"] * 3 + ["released"] * 2 + ["held"] * 2
    assert [outcome.reading is None for outcome in outcomes] == [False] * 3 + [True] * 2 + [False] * 2
    assert len(house.reader.asked) == 5


def test_a_release_closes_the_reader() -> None:
    house = House()
    house.is_released = True
    house.run(1)

    assert house.reader.is_closed
    assert house.reader.asked == []


def test_an_error_says_that_the_driver_is_not_held() -> None:
    house = House()
    house.reader.answer = NO_DRIVER
    house.run(0.5)

    assert house.told == ["released"]


def test_outcomes_that_nobody_takes_do_not_pile_up() -> None:
    assert len(House().run(1000)) == 600


def test_its_thread_wakes_the_loop_and_ends() -> None:
    reader = FakeGpuReader(READING)

    class RealWaits(FakeClock):
        def wait(self, event: threading.Event, seconds: float) -> bool:
            return event.wait(seconds)

    sampler = Sampler(reader, RealWaits(), sample_seconds=60, slow_seconds=60)
    wake = threading.Event()
    sampler.start(wake)

    assert wake.wait(10)
    assert sampler.is_working()
    assert sampler.stop(10)
    assert not sampler.is_working()
    assert [outcome.due for outcome in sampler.outcomes()] == [EVERYTHING]


def test_a_tenth_of_a_second_is_kept_though_it_is_no_binary_fraction() -> None:
    house = House(sample_seconds=0.1)

    assert len(house.run(50)) in {500, 501}
    assert house.clock.waits <= 502


def test_a_release_that_does_not_return_can_be_told_and_one_that_fails_is_no_release() -> None:
    house = House()
    house.is_released = True
    seen: list[float | None] = []

    def close() -> None:
        house.clock.wait(threading.Event(), 45.0)
        seen.append(house.sampler.busy_seconds())
        raise NO_DRIVER

    house.reader.close = close  # type: ignore[method-assign]
    outcomes = house.run(0.5)

    assert seen == [45.0]
    assert house.told == []
    assert [outcome.error for outcome in outcomes] == [NO_DRIVER]
