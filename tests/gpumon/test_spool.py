from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpumon.spool import MemorySpool
from tests.gpumon.fakes import datum


def test_the_newest_batch_comes_first_and_stays_until_it_is_removed() -> None:
    spool = MemorySpool(10)
    spool.add((datum(1),))
    spool.add((datum(2),))

    entry = spool.newest()

    assert entry is not None
    assert entry.batch == (datum(2),)
    assert spool.newest() == entry
    spool.remove(entry.key)
    spool.remove(entry.key)
    assert spool.datum_count() == 1


@given(st.lists(st.integers(1, 4), max_size=30), st.integers(1, 8))
def test_it_keeps_the_newest_batches_and_counts_every_datum_that_it_dropped(sizes: list[int], most: int) -> None:
    spool = MemorySpool(most)
    dropped = sum(spool.add(tuple(datum(number) for _ in range(size))) for number, size in enumerate(sizes))

    kept = []
    while (entry := spool.newest()) is not None:
        kept.append(entry.batch[0].values[0])
        spool.remove(entry.key)
    assert kept == [float(number) for number in range(len(sizes))][::-1][:most]
    assert dropped == sum(sizes[: max(0, len(sizes) - most)])
