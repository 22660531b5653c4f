"""What holds for every spool; `test_spool_disk.py` has what only the disk can do wrong."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpumon.spool import MemorySpool, Spool, SpoolState, TimeRange
from gpumon.spool_disk import DiskSpool
from tests.gpumon.fakes import FakeClock, datum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpumon.samples import Batch

KINDS = ("memory", "disk")
PAGE_BYTES = 4096  # what a small batch takes of the spool on disk
EVER = TimeRange(0, 2**40)

pytestmark = pytest.mark.parametrize("kind", KINDS)


@contextmanager
def spool_of(kind: str, most_batches: int = 10) -> Iterator[Spool]:
    if kind == "memory":
        yield MemorySpool(most_batches)
        return
    with tempfile.TemporaryDirectory() as directory:
        spool = DiskSpool(Path(directory), FakeClock(), host="h", most_bytes=most_batches * PAGE_BYTES)
        yield spool
        spool.close()


@pytest.fixture
def spool(kind: str) -> Iterator[Spool]:
    with spool_of(kind) as spool:
        yield spool


def drained(spool: Spool, sendable: TimeRange = EVER) -> list[Batch]:
    batches = []
    while (entry := spool.next_entry(sendable)) is not None:
        batches.append(entry.batch)
        spool.remove(entry.key)
    return batches


def test_the_newest_batch_comes_first_and_stays_until_it_is_removed(spool: Spool) -> None:
    spool.add((datum(1),))
    spool.add((datum(2),))

    entry = spool.next_entry(EVER)

    assert entry is not None
    assert entry.batch == (datum(2),)
    assert spool.next_entry(EVER) == entry
    spool.remove(entry.key)
    spool.remove(entry.key)
    assert spool.state().waiting_datums == 1


def test_newest_means_the_time_of_the_datums_and_then_the_order_of_adding(spool: Spool) -> None:
    spool.add((datum(1, unix_seconds=120),))
    spool.add((datum(2, unix_seconds=60), datum(3, unix_seconds=180)))
    spool.add((datum(4, unix_seconds=120),))

    assert [batch[0].values[0] for batch in drained(spool)] == [2, 4, 1]


def test_what_failed_comes_after_what_failed_less_often(spool: Spool) -> None:
    for value in (1, 2, 3):
        spool.add((datum(value),))
    newest = spool.next_entry(EVER)
    assert newest is not None
    spool.put_back(newest.key)

    assert [batch[0].values[0] for batch in drained(spool)] == [2, 1, 3]


def test_parts_take_the_place_of_their_batch_and_its_failures(spool: Spool) -> None:
    spool.add((datum(1), datum(2), datum(3)))
    entry = spool.next_entry(EVER)
    assert entry is not None
    spool.put_back(entry.key)

    spool.divide(entry.key, ((datum(1),), (datum(2), datum(3))))
    spool.divide(entry.key, ((datum(9),),))

    part = spool.next_entry(EVER)
    assert part is not None
    assert part.failures == 1
    assert sorted(drained(spool), key=len) == [(datum(1),), (datum(2), datum(3))]


def test_what_lies_outside_of_the_range_waits_until_it_is_dropped_and_counted(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    spool.add((datum(1, unix_seconds=1000),))
    spool.add((datum(2, unix_seconds=1000), datum(3, unix_seconds=1001)))
    spool.add((datum(4, unix_seconds=999),))

    assert drained(spool, TimeRange(1000, 1000)) == [(datum(1, unix_seconds=1000),)]
    spool.drop_outside(TimeRange(1000, 1001))

    assert drained(spool) == [(datum(2, unix_seconds=1000), datum(3, unix_seconds=1001))]
    assert spool.state().dropped_datums == 1
    assert "dropped 1 datums: CloudWatch does not take their time" in caplog.text


def test_the_state_tells_what_waits_and_since_when(spool: Spool, kind: str) -> None:
    assert spool.state() == SpoolState()

    spool.add((datum(1, unix_seconds=180), datum(1, unix_seconds=120)))
    spool.add((datum(1, unix_seconds=300),))

    assert spool.state() == SpoolState(3, 3 if kind == "memory" else 0, 0, 120)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 4), max_size=20), st.integers(1, 8))
def test_it_keeps_the_newest_batches_and_counts_every_datum_that_it_dropped(
    kind: str, sizes: list[int], most: int
) -> None:
    with spool_of(kind, most) as spool:
        for number, size in enumerate(sizes):
            spool.add(tuple(datum(number, unix_seconds=60 + number) for _ in range(size)))
            assert spool.state().waiting_datums == sum(sizes[max(0, number + 1 - most) : number + 1])

        assert spool.state().dropped_datums == sum(sizes[: max(0, len(sizes) - most)])
        kept = [batch[0].values[0] for batch in drained(spool)]
        assert kept == [float(number) for number in range(len(sizes))][::-1][:most]
