"""Whatever fails, in whatever order: publisher, spool and a sink that takes, fails or refuses as planned."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpumon.errors import DeliveryError, RefusedError
from gpumon.publisher import CALLS_PER_PUBLICATION, Publisher
from gpumon.samples import Datum
from gpumon.spool import MemorySpool, Spool
from gpumon.spool_disk import DiskSpool
from tests.gpumon.fakes import GPU, FakeClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpumon.samples import Batch

MOST_DATUMS = 6
MORE_THAN_EVERYTHING = 10_000


class KilledError(BaseException):
    """Stands for the end of the process: nothing of ours catches it."""


class PlannedSink:
    """Takes up to `MOST_DATUMS` per call; the bad ones it refuses; fails or dies as often as it is told to."""

    def __init__(self) -> None:
        self.bad: set[int] = set()
        self.failures = 0
        self.dies_after_taking = False
        self.taken: Counter[int] = Counter()
        self.order: list[int] = []
        self.calls_made = 0

    def open(self) -> None:
        pass

    def calls(self, datums: Sequence[Datum]) -> list[Batch]:
        return [tuple(datums[i : i + MOST_DATUMS]) for i in range(0, len(datums), MOST_DATUMS)]

    def publish(self, batch: Batch) -> None:
        assert 0 < len(batch) <= MOST_DATUMS
        self.calls_made += 1
        if self.failures:
            self.failures -= 1
            raise DeliveryError("Try again.")
        numbers = [int(datum.values[0]) for datum in batch]
        if self.bad.intersection(numbers):
            raise RefusedError("Leave it out.")
        self.taken.update(numbers)
        self.order.extend(numbers)
        if self.dies_after_taking:
            self.dies_after_taking = False
            raise KilledError


class Host:
    """A publisher with its spool, and what they were given."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.directory = directory
        self.clock = FakeClock()
        self.sink = PlannedSink()
        self.count = 0
        self.dropped_before = 0
        self.starts = 0
        self.spool = self._spool()
        self.publisher = Publisher(self.sink, self.spool, self.clock)

    def _spool(self) -> Spool:
        if self.kind == "memory":
            return MemorySpool(MORE_THAN_EVERYTHING)
        return DiskSpool(self.directory / str(self.starts), self.clock, host="h")

    def submit(self, goods: Sequence[bool]) -> None:
        period = int(self.clock.wall) // 60 * 60
        datums = []
        for is_good in goods:
            datums.append(Datum("M", "Count", GPU, period, (float(self.count),), (1,)))
            if not is_good:
                self.sink.bad.add(self.count)
            self.count += 1
        self.publisher.submit(datums)
        self.clock.wall += 60

    def crash(self) -> None:
        """Go on with what a process that ended this moment leaves on disk."""
        self.dropped_before += self.publisher.stats().dropped_datums
        before = self.directory / str(self.starts)
        self.starts += 1
        shutil.copytree(before, self.directory / str(self.starts))
        self.spool.close()
        self.spool = self._spool()
        self.publisher = Publisher(self.sink, self.spool, self.clock)

    def drain(self) -> None:
        self.sink.failures = 0
        while before := self.publisher.stats().waiting_datums:
            calls = self.sink.calls_made
            self.publisher.deliver(CALLS_PER_PUBLICATION)
            after = self.publisher.stats().waiting_datums
            assert after < before or self.sink.calls_made - calls >= CALLS_PER_PUBLICATION, "no progress"
        assert self.publisher.stats().dropped_datums + self.dropped_before == len(self.sink.bad)

    @property
    def good(self) -> set[int]:
        return set(range(self.count)) - self.sink.bad


submissions = st.tuples(st.just("submit"), st.lists(st.booleans() | st.just(True), min_size=1, max_size=14))
failures = st.tuples(st.just("fail"), st.integers(1, 6))
deliveries = st.tuples(st.just("deliver"), st.sampled_from([1, 2, CALLS_PER_PUBLICATION]))
crashes = st.tuples(st.sampled_from(["crash", "die"]), st.none())
clean_steps = st.lists(submissions | failures | deliveries, max_size=15)
any_steps = st.lists(submissions | failures | deliveries | crashes, max_size=15)


def run(host: Host, steps: list[tuple[str, object]]) -> None:
    for action, argument in steps:
        if action == "submit":
            assert isinstance(argument, list)
            host.submit(argument)
        elif action == "fail":
            assert isinstance(argument, int)
            host.sink.failures = argument
        elif action == "deliver":
            assert isinstance(argument, int)
            deliver(host, argument)
        elif action == "crash":
            host.crash()
        else:
            host.sink.dies_after_taking = True


def deliver(host: Host, most_calls: int) -> None:
    try:
        host.publisher.deliver(most_calls)
    except KilledError:
        host.crash()


def workspace() -> tempfile.TemporaryDirectory[str]:
    directory = tempfile.TemporaryDirectory()
    Path(directory.name, "0").mkdir()
    return directory


@pytest.mark.parametrize("kind", ["memory", "disk"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(clean_steps)
def test_under_clean_failures_every_good_datum_arrives_once_and_every_bad_one_is_lost_alone(
    kind: str, steps: list[tuple[str, object]]
) -> None:
    with workspace() as directory:
        host = Host(kind, Path(directory))
        run(host, steps)
        host.drain()
        host.spool.close()

    assert host.sink.taken == Counter(host.good)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_steps)
def test_with_crashes_every_good_datum_arrives_and_only_what_was_in_flight_twice(
    steps: list[tuple[str, object]],
) -> None:
    with workspace() as directory:
        host = Host("disk", Path(directory))
        run(host, steps)
        host.sink.dies_after_taking = False
        host.drain()
        host.spool.close()

    assert set(host.sink.taken) == host.good
    deaths = sum(action == "die" for action, _ in steps)
    assert sum(host.sink.taken.values()) - len(host.good) <= deaths * MOST_DATUMS


@pytest.mark.parametrize("kind", ["memory", "disk"])
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 30), st.integers(1, 4))
def test_after_an_outage_live_data_goes_first_and_then_the_backlog_newest_first(
    kind: str, minutes: int, most_calls: int
) -> None:
    with workspace() as directory:
        host = Host(kind, Path(directory))
        for _ in range(minutes):
            host.sink.failures = MORE_THAN_EVERYTHING
            host.submit([True])
            host.publisher.deliver(CALLS_PER_PUBLICATION)
        host.sink.failures = 0
        publications = 0
        while host.publisher.stats().waiting_datums or not publications:
            live = host.count
            host.submit([True])
            start = len(host.sink.order)
            host.publisher.deliver(most_calls + 1)
            assert host.sink.order[start] == live
            publications += 1
        host.spool.close()

    assert [number for number in host.sink.order if number < minutes] == list(range(minutes))[::-1]
    assert publications == max(1, -(-minutes // most_calls))
