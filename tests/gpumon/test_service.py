from __future__ import annotations

import dataclasses
import itertools
import threading
from typing import TYPE_CHECKING

import pytest

from gpumon.errors import DriverMismatchError, DriverUnavailableError, GpumonError
from gpumon.metrics import Metric
from gpumon.service import MISMATCH_PATIENCE_SECONDS, NO_VALUES, Service
from gpumon.settings import load_settings
from gpumon.systemd import Notifier
from gpumon.window import Window
from tests.gpumon.fakes import GPU, OTHER_GPU, FakeClock, FakeGpuReader, RecordingOutbox, gpu_sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpumon.samples import Datum

USED = Metric("MemoryUsed", "gpu", "Bytes", "used_bytes", "x")
MINUTE = 1_700_000_040  # a whole minute
NO_DRIVER = DriverUnavailableError("Load the driver.")
MISMATCH = DriverMismatchError("Restart gpumon.")


class RecordingNotifier(Notifier):
    def __init__(self, clock: FakeClock, ping_seconds: float | None) -> None:
        super().__init__(None, ping_seconds)
        self.clock = clock
        self.sent: list[tuple[float, str]] = []

    def ready(self, status: str) -> None:
        self.sent.append((self.clock.now, f"ready: {status}"))

    def status(self, status: str) -> None:
        self.sent.append((self.clock.now, status))

    def watchdog(self) -> None:
        self.sent.append((self.clock.now, "watchdog"))

    def stopping(self) -> None:
        self.sent.append((self.clock.now, "stopping"))


class House:
    """A service with fakes around it, started 20.5 s into a minute."""

    def __init__(self, ping_seconds: float | None = None, phase_seconds: float = 2.25, **changes: float) -> None:
        self.clock = FakeClock(MINUTE + 20.5)
        self.begin = self.clock.now
        self.reader = FakeGpuReader((gpu_sample(GPU, used_bytes=5),))
        self.outbox = RecordingOutbox(self.clock)
        self.notifier = RecordingNotifier(self.clock, ping_seconds)
        self.stop = threading.Event()
        settings = dataclasses.replace(load_settings({}).settings, **changes)  # type: ignore[arg-type]
        self.service = Service(
            reader=self.reader,
            window=Window([USED], settings.publish_seconds),
            outbox=self.outbox,
            notifier=self.notifier,
            clock=self.clock,
            stop=self.stop,
            settings=settings,
            phase_seconds=phase_seconds,
        )

    def run(self, seconds: float) -> House:
        self.clock.at(seconds, self.stop.set)
        self.service.run()
        return self

    def answer(self, what: object) -> Callable[[], None]:
        return lambda: setattr(self.reader, "answer", what)

    def step_wall(self, seconds: float) -> Callable[[], None]:
        return lambda: setattr(self.clock, "wall", self.clock.wall + seconds)

    @property
    def submissions(self) -> list[tuple[float, int, int]]:
        """Return (seconds since the start, start of the period, samples of the first GPU) of each submission."""
        return [
            (moment - self.begin, batch[0].unix_seconds - MINUTE, sum(batch[0].counts))
            for moment, batch in self.outbox.submissions
        ]

    @property
    def datums(self) -> list[Datum]:
        return [datum for _, batch in self.outbox.submissions for datum in batch]


def test_the_first_sample_is_published_at_once() -> None:
    assert House().run(0.5).submissions == [(0.0, 0, 1)]


def test_whole_minutes_follow_a_phase_after_their_end_and_dated_with_their_start() -> None:
    house = House().run(165)

    # 39 samples after the first one in the rest of the first minute, then 60 and 60; at the stop 5 of the last minute.
    assert house.submissions == [(0.0, 0, 1), (41.75, 0, 39), (101.75, 60, 60), (161.75, 120, 60), (165.0, 180, 5)]


def test_every_sample_is_published_exactly_once_over_an_hour() -> None:
    house = House().run(3600.5)

    assert sum(sum(datum.counts) for datum in house.datums) == house.reader.reads == 3601
    assert len(house.submissions) == 1 + 60 + 1


def test_sampling_keeps_its_pace_and_does_not_spin() -> None:
    house = House(sample_seconds=10.0).run(600)

    assert house.reader.reads == 60
    assert house.clock.waits < 60 + 2 * 11 + 5


def test_a_period_ends_on_time_even_if_samples_are_rare() -> None:
    house = House(sample_seconds=50.0).run(45)

    assert house.submissions == [(0.0, 0, 1)]
    assert House(sample_seconds=30.0).run(43).submissions == [(0.0, 0, 1), (41.75, 0, 1)]


def test_a_stop_publishes_what_waits_for_its_phase_together_with_the_open_period() -> None:
    house = House().run(41)

    assert [datum.unix_seconds - MINUTE for datum in house.outbox.submissions[-1][1]] == [0, 60]
    assert house.outbox.stopped_after == 4.0
    assert house.reader.is_closed
    assert house.notifier.sent[-1] == (house.clock.now, "stopping")


@pytest.mark.parametrize("step", [-86_400.0, -3600.0, -59.5, 59.5, 3600.0, 864_000.0])
def test_a_step_of_the_wall_clock_loses_no_sample_and_keeps_the_pace(step: float) -> None:
    house = House()
    house.clock.at(30.25, house.step_wall(step))
    house.run(300)

    assert house.reader.reads == 300
    assert sum(sum(datum.counts) for datum in house.datums) == 300
    gaps = [later - earlier for (earlier, *_), (later, *_) in itertools.pairwise(house.submissions)]
    assert max(gaps) <= 65


def test_a_gpu_without_values_leaves_the_others_alone() -> None:
    house = House()
    house.reader.answer = (gpu_sample(GPU, used_bytes=None), gpu_sample(OTHER_GPU, used_bytes=7))
    house.run(0.5)

    assert [(datum.gpu, datum.values) for datum in house.datums] == [(OTHER_GPU, (7.0,))]


def test_without_a_driver_it_stays_up_says_so_once_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    house = House()
    ready = house.reader.answer
    house.reader.answer = NO_DRIVER
    house.clock.at(100, house.answer(ready))
    house.run(130)

    assert house.submissions[0] == (121.0, 120, 1)  # after 1, 2, 4, 8, 16, 30, 30, 30 s
    assert house.reader.reads == 8 + 9
    assert [record.getMessage() for record in caplog.records] == [
        "no GPU can be read, trying again: Load the driver.",
        "GPUs can be read again",
    ]
    assert (house.begin, "ready: Load the driver.") in house.notifier.sent


def test_a_driver_without_any_value_is_not_called_readable(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    house = House()
    ready = house.reader.answer
    house.clock.at(9.5, house.answer((gpu_sample(GPU, used_bytes=None),)))
    house.clock.at(19.5, house.answer(()))
    house.clock.at(29.5, house.answer(ready))
    house.run(40)

    assert [record.getMessage() for record in caplog.records] == [
        f"no GPU can be read, trying again: {NO_VALUES}",
        "GPUs can be read again",
    ]
    assert (house.begin + 10, NO_VALUES) in house.notifier.sent


def test_a_driver_that_goes_away_is_waited_for() -> None:
    house = House()
    house.clock.at(9.5, house.answer(NO_DRIVER))
    house.clock.at(11.5, house.answer(house.reader.answer))
    house.run(19.5)

    assert sum(sum(datum.counts) for datum in house.datums) == 10 + 7


def test_a_driver_that_was_replaced_ends_the_process_after_publishing() -> None:
    house = House()
    house.clock.at(9.5, house.answer(MISMATCH))

    with pytest.raises(DriverMismatchError):
        house.run(100)

    assert sum(sum(datum.counts) for datum in house.datums) == 10
    assert house.clock.now - house.begin == 10
    assert house.outbox.stopped_after == 4.0


def test_a_mismatch_from_the_start_does_not_restart_in_a_circle() -> None:
    house = House()
    house.reader.answer = MISMATCH

    with pytest.raises(DriverMismatchError):
        house.run(1000)

    assert house.clock.now - house.begin >= MISMATCH_PATIENCE_SECONDS


def test_systemd_hears_ready_after_the_first_sample_and_then_the_watchdog() -> None:
    house = House(ping_seconds=5.0, sample_seconds=20.0).run(11)

    assert [(moment - house.begin, what) for moment, what in house.notifier.sent] == [
        (0.0, "watchdog"),
        (0.0, "ready: reading GPUs"),
        (5.0, "watchdog"),
        (10.0, "watchdog"),
        (11.0, "stopping"),
    ]


def test_an_outbox_that_died_ends_the_process() -> None:
    house = House()
    house.clock.at(5, lambda: setattr(house.outbox, "works", False))

    with pytest.raises(GpumonError, match="publishing thread ended"):
        house.run(100)
