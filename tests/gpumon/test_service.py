from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from gpumon.channels import Channel
from gpumon.counters import CounterDeltas
from gpumon.errors import DriverMismatchError, DriverUnavailableError, GpumonError
from gpumon.inventory import Inventory
from gpumon.latest import Latest
from gpumon.metrics import load_metrics
from gpumon.overview import Overview
from gpumon.own_metrics import OwnMetrics
from gpumon.readers import EVERYTHING
from gpumon.samples import Reading
from gpumon.service import MISMATCH_PATIENCE_SECONDS, NO_GPU, RELEASED, WEDGED, Ending, Service
from gpumon.settings import load_settings
from gpumon.signals import Requests
from gpumon.systemd import Notifier
from gpumon.window import Window
from gpumon.xid_counts import XidCounts
from gpumon.xids import XidEvent, load_xids
from tests.gpumon.fakes import GPU, OTHER_GPU, FakeClock, FakeSource, RecordingOutbox, gpu_sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpumon.samples import Datum

MINUTE = 1_700_000_040  # a whole minute
NO_DRIVER = DriverUnavailableError("Load the driver.")
MISMATCH = DriverMismatchError("Restart gpumon.")
UP = Reading((gpu_sample(GPU, gpu_up=1.0, memory_used_bytes=5.0),))
TABLE = load_metrics()
NAMES = ("MemoryUsed", "GpuUp", "DriverUp", "GpuCount", "GpuMissing", "XidCritical", "XidErrors", "Heartbeat")


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

    def __init__(self, ping_seconds: float | None = None, phase_seconds: float = 2.25, **changes: Any) -> None:
        self.clock = FakeClock(MINUTE + 20.5)
        self.begin = self.clock.now
        settings = dataclasses.replace(load_settings({}).settings, **changes)
        self.source = FakeSource(self.clock, settings.sample_seconds)
        self.source.answer = UP
        self.outbox = RecordingOutbox(self.clock)
        self.notifier = RecordingNotifier(self.clock, ping_seconds)
        self.requests = Requests()
        self.xids = XidCounts(load_xids(), self.requests.wake)
        self.remembered: list[float] = []
        self.reloads: list[bool] = []
        window = Window([row for row in TABLE if row.name in NAMES], settings.publish_seconds, CounterDeltas())
        channels = [Channel("cloudwatch", window, self.outbox, phase_seconds)]
        self.service = Service(
            source=self.source,
            overview=Overview(
                latest=Latest(),
                inventory=Inventory("machine", "boot"),
                xids=self.xids,
                own=OwnMetrics(),
                count_on_bus=lambda: 1,
                delivery_stats=dict,
            ),
            channels=channels,
            xids=self.xids,
            remember=lambda: self.remembered.append(self.clock.now - self.begin),
            reload=lambda: self.reloads.pop(0),
            notifier=self.notifier,
            requests=self.requests,
            clock=self.clock,
            settings=settings,
        )

    def run(self, seconds: float) -> House:
        self.clock.at(seconds, self.requests.stop)
        assert self.service.run() is Ending.STOP
        return self

    def answer(self, seconds: float, what: Reading | DriverUnavailableError | None) -> None:
        self.clock.at(seconds, lambda: setattr(self.source, "answer", what))

    def step_wall(self, seconds: float) -> Callable[[], None]:
        return lambda: setattr(self.clock, "wall", self.clock.wall + seconds)

    def submissions(self, name: str = "MemoryUsed") -> list[tuple[float, int, int]]:
        """Return (seconds since the start, start of the period, samples) of each submission that has the metric."""
        return [
            (moment - self.begin, datum.unix_seconds - MINUTE, sum(datum.counts))
            for moment, batch in self.outbox.submissions
            for datum in batch
            if datum.metric == name
        ]

    def datums(self, name: str) -> list[Datum]:
        return [datum for _, batch in self.outbox.submissions for datum in batch if datum.metric == name]

    def values(self, name: str) -> list[tuple[float, ...]]:
        return [datum.values for datum in self.datums(name)]

    def said(self) -> list[tuple[float, str]]:
        return [(moment - self.begin, what) for moment, what in self.notifier.sent if what != "watchdog"]


def samples_of(datums: list[Datum]) -> int:
    return sum(sum(datum.counts) for datum in datums)


def test_the_first_sample_is_published_at_once() -> None:
    assert House().run(0.5).submissions() == [(0.0, 0, 1)]


def test_whole_minutes_follow_a_phase_after_their_end_and_dated_with_their_start() -> None:
    house = House().run(165)

    # 39 samples after the first one in the rest of the first minute, then 60 and 60; at the stop 5 of the last minute.
    assert house.submissions() == [(0.0, 0, 1), (41.75, 0, 39), (101.75, 60, 60), (161.75, 120, 60), (165.0, 180, 5)]


def test_every_sample_is_published_exactly_once_over_an_hour_in_one_call_a_minute() -> None:
    house = House().run(3600.5)

    assert samples_of(house.datums("MemoryUsed")) == house.source.given == 3601
    assert len(house.outbox.submissions) == 1 + 60 + 1


def test_it_does_not_spin_while_samples_are_rare() -> None:
    house = House(sample_seconds=10.0).run(600)

    assert house.source.given == 60
    assert house.clock.waits < 600 / 5 + 60 + 2 * 11 + 5


def test_a_period_ends_on_time_even_if_samples_are_rare() -> None:
    assert House(sample_seconds=50.0).run(45).submissions() == [(0.0, 0, 1)]
    assert House(sample_seconds=30.0).run(43).submissions() == [(0.0, 0, 1), (41.75, 0, 1)]


def test_a_stop_publishes_what_waits_for_its_phase_together_with_the_open_period() -> None:
    house = House().run(41)

    last = house.outbox.submissions[-1][1]
    assert sorted({datum.unix_seconds - MINUTE for datum in last}) == [0, 60]
    assert (house.outbox.stopped_after, house.source.stopped_after) == (4.0, 4.0)
    assert house.said()[-1] == (41.0, "stopping")


@pytest.mark.parametrize("step", [-86_400.0, -3600.0, -59.5, 59.5, 3600.0, 864_000.0])
def test_a_step_of_the_wall_clock_loses_no_sample_and_keeps_the_pace(step: float) -> None:
    house = House()
    house.clock.at(30.25, house.step_wall(step))
    house.run(300)

    assert samples_of(house.datums("MemoryUsed")) == house.source.given == 300
    gaps = [later - earlier for (earlier, *_), (later, *_) in itertools.pairwise(house.submissions())]
    assert max(gaps) <= 65


def test_a_gpu_without_values_leaves_the_others_alone() -> None:
    house = House()
    other = gpu_sample(OTHER_GPU, gpu_up=1.0, memory_used_bytes=7.0)
    house.source.answer = Reading((gpu_sample(GPU, gpu_up=1.0, memory_used_bytes=None), other))
    house.run(0.5)

    assert [(datum.gpu, datum.values) for datum in house.datums("MemoryUsed")] == [(OTHER_GPU, (7.0,))]


def test_without_a_driver_it_stays_up_says_so_once_as_a_metric_too_and_recovers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "gpumon.service")
    house = House()
    house.source.answer = NO_DRIVER
    house.answer(99.5, UP)
    house.run(130)

    assert house.said()[1:-1] == [(0.0, "Load the driver."), (100.0, "reading GPUs")]
    assert [record.getMessage() for record in caplog.records] == ["Load the driver.", "reading GPUs"]
    assert house.values("DriverUp")[:2] == [(0.0,), (0.0,)]
    assert house.values("GpuMissing")[0] == (1.0,)
    assert house.values("Heartbeat")[0] == (1.0,)
    assert house.values("DriverUp")[-1] == (1.0,)


def test_a_lost_gpu_shows_as_zero_under_its_name() -> None:
    house = House()
    both = (*UP.gpus, gpu_sample(OTHER_GPU, gpu_up=1.0, memory_used_bytes=7.0))
    house.source.answer = Reading(both)
    house.answer(50.5, Reading((*UP.gpus, gpu_sample(OTHER_GPU, gpu_up=0.0))))
    house.run(110)

    lost = [(datum.values, datum.counts) for datum in house.datums("GpuUp") if datum.gpu == OTHER_GPU]
    assert lost[2] == ((0.0, 1.0), (49, 11))
    assert house.values("GpuMissing")[2] == (0.0, 1.0)
    assert house.values("GpuCount")[2] == (1.0, 2.0)


def test_a_driver_whose_gpus_are_all_lost_is_not_called_readable() -> None:
    house = House()
    house.answer(9.5, Reading((gpu_sample(GPU, gpu_up=0.0),)))
    house.answer(19.5, Reading(()))
    house.answer(29.5, UP)
    house.run(40)

    assert house.said()[1:-1] == [(0.0, "reading GPUs"), (10.0, NO_GPU), (30.0, "reading GPUs")]


def test_a_driver_that_was_replaced_ends_the_process_after_publishing_that_it_is_down() -> None:
    house = House()
    house.answer(9.5, MISMATCH)

    with pytest.raises(DriverMismatchError):
        house.run(100)

    assert samples_of(house.datums("MemoryUsed")) == 10
    assert house.values("DriverUp")[-1] == (0.0, 1.0)
    assert house.clock.now - house.begin == 10
    assert house.outbox.stopped_after == 4.0


def test_a_mismatch_from_the_start_does_not_restart_in_a_circle() -> None:
    house = House()
    house.source.answer = MISMATCH

    with pytest.raises(DriverMismatchError):
        house.run(1000)

    assert house.clock.now - house.begin >= MISMATCH_PATIENCE_SECONDS


def test_systemd_hears_ready_at_once_and_then_the_watchdog() -> None:
    house = House(ping_seconds=5.0, sample_seconds=20.0).run(11)

    assert [(moment - house.begin, what) for moment, what in house.notifier.sent] == [
        (0.0, "ready: opening the driver"),
        (0.0, "reading GPUs"),
        (0.0, "watchdog"),
        (5.0, "watchdog"),
        (10.0, "watchdog"),
        (11.0, "stopping"),
    ]


def test_a_call_that_does_not_come_back_is_reported_and_the_watchdog_is_not_fed_any_more() -> None:
    house = House(ping_seconds=5.0, wedged_seconds=30.0)
    house.clock.at(9.5, house.source.hang)
    house.run(200)

    pings = [moment - house.begin for moment, what in house.notifier.sent if what == "watchdog"]
    assert max(pings) == 35.0
    assert (39.5, WEDGED) in house.said()
    assert [values for _, period, values in _series(house, "DriverUp") if period >= 60] == [(0.0,)] * 3
    assert [values for _, period, values in _series(house, "GpuUp") if period >= 60] == [(0.0,)] * 3
    assert samples_of(house.datums("MemoryUsed")) == 10


def test_a_call_that_comes_back_after_all_ends_the_alarm() -> None:
    house = House(ping_seconds=5.0, wedged_seconds=30.0)
    house.clock.at(9.5, house.source.hang)
    house.clock.at(99.5, house.source.return_from_hanging)
    house.run(200)

    assert house.said()[2:-1] == [(39.5, WEDGED), (100.0, "reading GPUs")]
    assert max(moment - house.begin for moment, what in house.notifier.sent if what == "watchdog") >= 195


def test_opening_the_driver_may_take_longer_than_a_reading() -> None:
    house = House(wedged_seconds=30.0)
    house.source.hang()
    house.clock.at(110, house.source.return_from_hanging)
    house.run(130)

    assert WEDGED not in [what for _, what in house.said()]


def test_a_critical_xid_is_published_at_once_and_a_burst_of_them_once() -> None:
    house = House()
    event = XidEvent(GPU.uuid, None, 79, MINUTE, None, "nvml")
    for moment in (65.25, 65.5, 66.0):
        house.clock.at(moment, lambda: _record(house, event))
    house.run(90)

    critical = [(moment, values) for moment, _, values in _series(house, "XidCritical") if values != (0.0,)]
    assert [(moment, max(values)) for moment, values in critical] == [(65.25, 1.0), (75.25, 2.0)]
    assert [moment - house.begin for moment in house.outbox.urgent] == [65.25, 75.25]
    assert samples_of(house.datums("MemoryUsed")) == house.source.given


def test_a_released_driver_is_no_failure_and_claims_nothing() -> None:
    house = House()
    house.answer(99.5, None)
    house.run(300)

    assert (100.0, RELEASED) in house.said()
    silent = [period for _, period, _ in _series(house, "DriverUp") if period >= 120]
    assert silent == []
    assert [values for _, period, values in _series(house, "Heartbeat") if period == 180] == [(1.0,)]


def test_what_the_next_process_needs_is_saved_with_every_hand_over_and_at_the_end() -> None:
    assert House().run(100).remembered == [0.0, 41.75, 100.0]


def test_new_settings_end_the_loop_and_bad_ones_do_not() -> None:
    house = House()
    house.reloads = [False, True]
    house.clock.at(10, house.requests.reload)
    house.clock.at(20, house.requests.reload)

    assert house.service.run() is Ending.RELOAD

    assert house.clock.now - house.begin == 20
    assert samples_of(house.datums("MemoryUsed")) == house.source.given
    assert "stopping" not in [what for _, what in house.said()]


def test_an_outbox_that_died_ends_the_process() -> None:
    house = House()
    house.clock.at(5, lambda: setattr(house.outbox, "works", False))

    with pytest.raises(GpumonError, match="publishing thread of cloudwatch ended"):
        house.run(100)


def test_a_sampler_that_died_ends_the_process() -> None:
    house = House()
    house.clock.at(5, lambda: setattr(house.source, "works", False))

    with pytest.raises(GpumonError, match="sampling thread ended"):
        house.run(100)


def test_slow_readings_are_told_with_their_minute() -> None:
    house = House()
    house.source.due = EVERYTHING
    house.run(100)

    assert house.submissions("Heartbeat")[0] == (0.0, 0, 1)


def test_an_xid_that_no_slow_reading_told_yet_is_told_at_the_stop() -> None:
    house = House()
    event = XidEvent(GPU.uuid, None, 31, MINUTE, None, "nvml")
    house.clock.at(20, lambda: _record(house, event))
    house.run(30)

    assert sum(sum(datum.values) for datum in house.datums("XidErrors")) == 1


def test_a_period_that_waits_for_its_phase_is_not_yet_what_the_next_process_goes_on_from() -> None:
    house = House(phase_seconds=30.0)
    event = XidEvent(GPU.uuid, None, 79, MINUTE, None, "nvml")
    house.clock.at(50.25, lambda: _record(house, event))
    house.run(60)

    # The urgent publication takes what waits along, so that nothing older is left behind.
    assert [moment - house.begin for moment, _ in house.outbox.submissions] == [0.0, 50.25, 60.0]
    assert house.remembered == [0.0, 50.25, 60.0]


def _record(house: House, event: XidEvent) -> None:
    house.xids.record(event)


def _series(house: House, name: str) -> list[tuple[float, int, tuple[float, ...]]]:
    return [
        (moment - house.begin, datum.unix_seconds - MINUTE, datum.values)
        for moment, batch in house.outbox.submissions
        for datum in batch
        if datum.metric == name
    ]
