from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from gpumon.errors import DeliveryError, IdentityUnavailableError, RefusedError
from gpumon.publisher import (
    CALLS_PER_PUBLICATION,
    HALVINGS_PER_PUBLICATION,
    MOST_AGE_SECONDS,
    MOST_LEAD_SECONDS,
    DeliveryStats,
    Publisher,
)
from gpumon.samples import Datum
from gpumon.spool import MemorySpool
from gpumon.spool_disk import DiskSpool
from tests.gpumon.fakes import GPU, FakeClock, RecordingSink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gpumon.samples import Batch

NOW = 1_700_000_000
UNREACHABLE = DeliveryError("Check the network.")
REFUSED = RefusedError("Report this.")


def datum(value: float = 1.0, unix_seconds: int = NOW, metric: str = "MemoryUsed") -> Datum:
    return Datum(metric, "Bytes", GPU, unix_seconds, (value,), (1,))


def publisher_of(sink: RecordingSink, most_batches: int = 100) -> Publisher:
    return Publisher(sink, MemorySpool(most_batches), FakeClock())


class PickySink(RecordingSink):
    """Refuses every batch that holds one of `bad` values; counts its calls."""

    def __init__(self, *bad: float, most_datums: int = 1000) -> None:
        super().__init__(most_datums=most_datums)
        self.bad = set(bad)
        self.calls_made = 0

    def publish(self, batch: Batch) -> None:
        self.calls_made += 1
        if any(item.values[0] in self.bad for item in batch):
            raise REFUSED
        super().publish(batch)


def values(batches: list[Batch]) -> list[float]:
    return [item.values[0] for batch in batches for item in batch]


def test_what_could_not_be_delivered_goes_out_at_the_next_publication_with_its_own_time() -> None:
    sink = RecordingSink(UNREACHABLE)
    publisher = publisher_of(sink)
    publisher.submit([datum(1, unix_seconds=NOW)])
    publisher.deliver()
    assert sink.published == []

    publisher.submit([datum(2, unix_seconds=NOW + 60)])
    publisher.deliver()

    assert sink.published == [(datum(2, unix_seconds=NOW + 60),), (datum(1, unix_seconds=NOW),)]


def test_the_second_failure_ends_the_publication() -> None:
    sink = RecordingSink(None, UNREACHABLE, UNREACHABLE)
    publisher = publisher_of(sink)
    for value in (1, 2, 3, 4):
        publisher.submit([datum(value)])

    assert not publisher.deliver()

    assert values(sink.published) == [4]
    assert publisher.stats().failed_calls == 2


def test_one_batch_alone_is_tried_once_per_publication() -> None:
    sink = RecordingSink(UNREACHABLE, UNREACHABLE)
    publisher = publisher_of(sink)
    publisher.submit([datum(1)])

    publisher.deliver()

    assert sink.errors == [UNREACHABLE]


class PoisonedSink(PickySink):
    """Fails (instead of refusing) whenever a batch holds a bad value: as with an error code that nobody knows."""

    def publish(self, batch: Batch) -> None:
        try:
            super().publish(batch)
        except RefusedError as error:
            raise UNREACHABLE from error


def test_batches_that_always_fail_do_not_block_the_others_for_ever() -> None:
    sink = PoisonedSink(3, 5, 6, 9)
    publisher = publisher_of(sink)
    for value in range(10):
        publisher.submit([datum(value)])

    for _ in range(6):
        publisher.deliver(CALLS_PER_PUBLICATION)

    assert values(sink.published) == [8, 7, 4, 2, 1, 0]
    assert publisher.stats().waiting_datums == 4


def test_even_if_every_live_batch_fails_the_backlog_goes_out() -> None:
    sink = PoisonedSink(*range(10, 40))
    publisher = publisher_of(sink)
    for value in range(10):
        publisher.submit([datum(value)])
    for value in range(10, 40):
        publisher.submit([datum(value)])
        publisher.deliver(CALLS_PER_PUBLICATION)

    assert sorted(values(sink.published)) == list(range(10))


def test_one_bad_datum_is_lost_alone_and_loudly(caplog: pytest.LogCaptureFixture) -> None:
    sink = PickySink(700)
    publisher = publisher_of(sink)
    publisher.submit([datum(value, metric=f"M{value}") for value in range(1000)])

    publisher.deliver(CALLS_PER_PUBLICATION)

    assert sorted(values(sink.published)) == [value for value in range(1000) if value != 700]
    assert sink.calls_made <= 21
    assert "M700 of GPU-aaaa is lost for one period" in caplog.text
    stats = publisher.stats()
    assert (stats.published_datums, stats.dropped_datums, stats.waiting_datums) == (999, 1, 0)


def test_a_failure_while_a_batch_is_halved_leaves_exactly_the_undelivered_part() -> None:
    sink = RecordingSink(REFUSED, None, UNREACHABLE)
    publisher = publisher_of(sink)
    publisher.submit([datum(1), datum(2), datum(3)])

    publisher.deliver()

    assert values(sink.published) == [2, 3]
    assert publisher.stats().waiting_datums == 1
    publisher.deliver()
    assert values(sink.published) == [2, 3, 1]


def test_halving_is_bounded_per_publication_and_goes_on_at_the_next_after_the_live_data() -> None:
    bad = range(500)
    sink = PickySink(*bad)
    publisher = publisher_of(sink)
    publisher.submit([datum(value) for value in bad])
    publications = 0
    while publisher.stats().waiting_datums:
        publications += 1
        before = sink.calls_made
        publisher.submit([datum(1000 + publications, unix_seconds=NOW + 60 * publications)])
        publisher.deliver(CALLS_PER_PUBLICATION)
        assert values(sink.published)[-1] == 1000 + publications
        assert sink.calls_made - before <= CALLS_PER_PUBLICATION + 2 * HALVINGS_PER_PUBLICATION

    assert publications < 110
    assert publisher.stats().dropped_datums == 500


@pytest.mark.parametrize(
    ("offset", "is_sent"),
    [
        (-MOST_AGE_SECONDS - 1, False),
        (-MOST_AGE_SECONDS, True),
        (MOST_LEAD_SECONDS, True),
        (MOST_LEAD_SECONDS + 1, False),
    ],
)
def test_what_cloudwatch_would_not_take_is_dropped_once_the_clock_is_proven(offset: int, *, is_sent: bool) -> None:
    sink = RecordingSink(*[UNREACHABLE] * (2 if is_sent else 1))
    publisher = publisher_of(sink)
    publisher.submit([datum(1, unix_seconds=NOW + offset), datum(2)])
    publisher.deliver()
    assert publisher.stats().waiting_datums == 2  # it may be the clock that is wrong

    publisher.deliver()

    assert sorted(values(sink.published)) == ([1, 2] if is_sent else [2])
    assert publisher.stats().dropped_datums == (0 if is_sent else 1)


def test_a_clock_that_was_wrong_for_a_while_costs_no_datum_of_the_right_time() -> None:
    clock = FakeClock(NOW)
    sink = RecordingSink()
    publisher = Publisher(sink, MemorySpool(10), clock)
    publisher.submit([datum(1)])
    year = 365 * 24 * 3600
    clock.wall += year
    sink.errors = [UNREACHABLE]  # CloudWatch refuses the signature of another year
    publisher.submit([datum(2, unix_seconds=NOW + year)])
    publisher.deliver()

    clock.wall -= year
    publisher.deliver()

    assert values(sink.published) == [1]
    assert publisher.stats().dropped_datums == 1


class ChoosySink(RecordingSink):
    def calls(self, datums: Sequence[Datum]) -> list[Batch]:
        return super().calls([item for item in datums if item.values[0] > 0])


def test_the_stats_count_everything() -> None:
    sink = ChoosySink(None, REFUSED, UNREACHABLE, UNREACHABLE, most_datums=2)
    publisher = publisher_of(sink)
    assert publisher.stats() == DeliveryStats()
    publisher.submit([datum(-1), datum(1, NOW - 60), datum(2), datum(3), datum(4), datum(5)])

    publisher.deliver()

    assert values(sink.published) == [5]
    assert publisher.stats() == DeliveryStats(
        published_datums=1,
        published_calls=1,
        failed_calls=3,
        dropped_datums=1,
        waiting_datums=4,
        last_success_unix_seconds=NOW,
        oldest_waiting_unix_seconds=NOW - 60,
    )


def test_a_full_queue_drops_the_oldest_and_says_how_many(caplog: pytest.LogCaptureFixture) -> None:
    sink = RecordingSink()
    publisher = publisher_of(sink, most_batches=2)
    for value in (1, 2, 3):
        publisher.submit([datum(value)])

    publisher.deliver()

    assert values(sink.published) == [3, 2]
    assert "dropped the oldest 1 datums" in caplog.text


def test_a_backlog_goes_out_a_few_calls_at_a_time() -> None:
    sink = RecordingSink()
    publisher = publisher_of(sink)
    for value in range(CALLS_PER_PUBLICATION + 5):
        publisher.submit([datum(value)])

    publisher.deliver(CALLS_PER_PUBLICATION)

    assert len(sink.published) == CALLS_PER_PUBLICATION


def test_datums_beyond_one_call_are_divided_before_they_are_kept() -> None:
    sink = RecordingSink(None, UNREACHABLE, most_datums=2)
    publisher = publisher_of(sink)
    publisher.submit([datum(1), datum(2), datum(3)])
    publisher.deliver()
    assert values(sink.published) == [3]

    publisher.deliver()

    assert values(sink.published) == [3, 1, 2]


def test_the_thread_opens_the_sink_delivers_and_empties_the_queue_before_it_stops() -> None:
    sink = RecordingSink()
    publisher = Publisher(sink, MemorySpool(10), FakeClock())
    publisher.submit([datum(1)])
    publisher.start()
    publisher.submit([datum(2)])

    publisher.stop(5)

    assert sorted(values(sink.published)) == [1, 2]
    assert not publisher.is_working()


def test_the_thread_keeps_trying_to_open_the_sink() -> None:
    sink = RecordingSink()
    sink.open_errors = [IdentityUnavailableError("Enable it."), IdentityUnavailableError("Enable it.")]
    clock = FakeClock()
    publisher = Publisher(sink, MemorySpool(10), clock)
    publisher.submit([datum(1)])
    publisher.start()

    while not sink.published and publisher.is_working():
        threading.Event().wait(0.001)
    publisher.stop(5)

    assert sink.opened == 3
    assert clock.now == 1000.0 + 0.5 + 1.0
    assert values(sink.published) == [1]


class HangingSink(RecordingSink):
    def __init__(self) -> None:
        super().__init__()
        self.end = threading.Event()

    def publish(self, batch: Batch) -> None:
        self.end.wait()
        super().publish(batch)


def test_stop_gives_up_on_a_sink_that_hangs_and_counts_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    sink = HangingSink()
    publisher = Publisher(sink, MemorySpool(10), FakeClock())
    publisher.start()
    publisher.submit([datum(1), datum(2)])

    publisher.stop(0.05)

    assert "2 datums could not be published" in caplog.text
    sink.end.set()
    publisher.stop(5)


def test_stop_leaves_what_is_on_disk_for_the_next_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    sink = RecordingSink(*[UNREACHABLE] * 10)
    publisher = Publisher(sink, DiskSpool(tmp_path, FakeClock(), host="h"), FakeClock())
    publisher.start()
    publisher.submit([datum(1), datum(2)])

    publisher.stop(5)

    assert "2 datums stay in the spool for the next start" in caplog.text
    assert "are lost" not in caplog.text
    publisher = Publisher(RecordingSink(), DiskSpool(tmp_path, FakeClock(), host="h"), FakeClock())
    assert publisher.stats().waiting_datums == 2
    publisher.stop(0)


@pytest.mark.parametrize("urgent", [True, False])
def test_only_what_is_urgent_is_tried_again_before_the_next_submission(*, urgent: bool) -> None:
    sink = RecordingSink(UNREACHABLE, UNREACHABLE)
    clock = FakeClock()
    publisher = Publisher(sink, MemorySpool(10), clock)
    publisher.start()
    publisher.submit([datum(1)], urgent=urgent)

    while len(sink.errors) > (0 if urgent else 1) or (urgent and not sink.published):
        assert publisher.is_working()
        threading.Event().wait(0.001)
    threading.Event().wait(0.02)
    published = values(sink.published)
    publisher.stop(5)

    assert published == ([1] if urgent else [])
    assert clock.now == 1000.0 + (5 + 10 if urgent else 0)


def test_stop_makes_few_calls_for_a_backlog_that_is_safe_on_disk(tmp_path: Path) -> None:
    sink = RecordingSink()
    sink.open_errors = [IdentityUnavailableError("Enable it.")]
    publisher = Publisher(sink, DiskSpool(tmp_path, FakeClock(), host="h"), FakeClock())
    for value in range(CALLS_PER_PUBLICATION + 5):
        publisher.submit([datum(value)])
    publisher._stopping.set()
    publisher.start()

    publisher.stop(5)

    assert len(sink.published) == CALLS_PER_PUBLICATION
