from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from gpumon.clock import SystemClock
from gpumon.errors import DeliveryError, GpumonError, IdentityUnavailableError, RefusedError
from gpumon.publisher import CALLS_PER_PUBLICATION, Publisher
from gpumon.spool import MemorySpool
from tests.gpumon.fakes import FakeClock, RecordingSink, datum

if TYPE_CHECKING:
    import pytest

    from gpumon.samples import Batch

UNREACHABLE = DeliveryError("Check the network.")
REFUSED = RefusedError("Report this.")


def publisher_of(sink: RecordingSink, most_batches: int = 100) -> Publisher:
    return Publisher(sink, MemorySpool(most_batches), FakeClock())


def values(batches: list[Batch]) -> list[float]:
    return [item.values[0] for batch in batches for item in batch]


def test_what_could_not_be_delivered_goes_out_at_the_next_publication_with_its_own_time() -> None:
    sink = RecordingSink(UNREACHABLE)
    publisher = publisher_of(sink)
    publisher.submit([datum(1, unix_seconds=60)])
    publisher.deliver()
    assert sink.published == []

    publisher.submit([datum(2, unix_seconds=120)])
    publisher.deliver()

    assert sink.published == [(datum(2, unix_seconds=120),), (datum(1, unix_seconds=60),)]


def test_a_failure_ends_the_publication() -> None:
    sink = RecordingSink(None, UNREACHABLE)
    publisher = publisher_of(sink)
    publisher.submit([datum(1)])
    publisher.submit([datum(2)])
    publisher.submit([datum(3)])

    publisher.deliver()

    assert values(sink.published) == [3]


def test_a_refused_batch_is_lost_alone_and_loudly(caplog: pytest.LogCaptureFixture) -> None:
    sink = RecordingSink(REFUSED)
    publisher = publisher_of(sink)
    publisher.submit([datum(1)])
    publisher.submit([datum(2)])

    publisher.deliver()

    assert values(sink.published) == [1]
    assert "1 datums are lost" in caplog.text


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


outcomes = st.lists(st.sampled_from([None, UNREACHABLE]), max_size=60)


@given(outcomes, st.integers(1, 30))
def test_whatever_the_order_of_failures_nothing_is_lost_or_sent_twice(
    plan: list[GpumonError | None], count: int
) -> None:
    sink = RecordingSink(*plan)
    publisher = publisher_of(sink)
    for value in range(count):
        publisher.submit([datum(value)])
        publisher.deliver(CALLS_PER_PUBLICATION)
    for _ in range(len(plan) + 1):
        publisher.deliver()

    assert sorted(values(sink.published)) == [float(value) for value in range(count)]


def test_the_thread_opens_the_sink_delivers_and_empties_the_queue_before_it_stops() -> None:
    sink = RecordingSink()
    publisher = Publisher(sink, MemorySpool(10), SystemClock())
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
    publisher = Publisher(sink, MemorySpool(10), SystemClock())
    publisher.start()
    publisher.submit([datum(1), datum(2)])

    publisher.stop(0.05)

    assert "2 datums could not be published" in caplog.text
    sink.end.set()
    publisher.stop(5)
