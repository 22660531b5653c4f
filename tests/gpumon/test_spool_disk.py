from __future__ import annotations

import logging
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpumon.samples import Datum
from gpumon.spool import SpoolState
from gpumon.spool_disk import RETRY_SECONDS, DiskSpool
from gpumon.spool_file import FILE_NAME
from tests.gpumon.fakes import GPU, FakeClock, datum
from tests.gpumon.test_spool import EVER, drained

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpumon.samples import Batch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def opened(directory: Path, clock: FakeClock, host: str = "h", most_bytes: int = 2**30) -> DiskSpool:
    return DiskSpool(directory, clock, host=host, most_bytes=most_bytes, most_batches_in_memory=3)


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file of this process grow (Python ignores the signal, so writes fail with EFBIG)."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def values(batches: list[Batch]) -> list[float]:
    return [batch[0].values[0] for batch in batches]


def test_what_was_kept_is_there_after_a_restart_with_its_time_and_its_failures(
    tmp_path: Path, clock: FakeClock
) -> None:
    spool = opened(tmp_path, clock)
    spool.add((datum(1, unix_seconds=60),))
    spool.add((datum(2, unix_seconds=120),))
    newest = spool.next_entry(EVER)
    assert newest is not None
    spool.put_back(newest.key)
    spool.close()

    assert drained(opened(tmp_path, clock)) == [(datum(1, unix_seconds=60),), (datum(2, unix_seconds=120),)]


def test_what_was_kept_survives_kill_9(tmp_path: Path, clock: FakeClock) -> None:
    program = f"""
import os, pathlib
from gpumon.clock import SystemClock
from gpumon.spool_disk import DiskSpool
from tests.gpumon.fakes import datum
spool = DiskSpool(pathlib.Path({str(tmp_path)!r}), SystemClock(), host="h")
for value in range(50):
    spool.add((datum(value),))
os.kill(os.getpid(), {int(signal.SIGKILL)})
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL

    assert values(drained(opened(tmp_path, clock))) == [float(value) for value in range(50)][::-1]


def test_the_file_stays_within_its_bound_and_shrinks_with_what_it_holds(tmp_path: Path, clock: FakeClock) -> None:
    spool = opened(tmp_path, clock, most_bytes=300_000)
    large = tuple(Datum(f"M{i}", "Bytes", GPU, 60, tuple(j / 7 + i for j in range(60)), (1,) * 60) for i in range(50))

    largest = 0
    for _ in range(100):
        spool.add(large)
        largest = max(largest, sum(path.stat().st_size for path in tmp_path.iterdir()))
    assert spool.state().dropped_datums == 100 * 50 - spool.state().waiting_datums > 0
    assert 200_000 < (tmp_path / FILE_NAME).stat().st_size < 400_000
    assert largest < 1_000_000
    drained(spool)
    spool.close()

    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 50_000


def test_a_batch_that_is_larger_than_the_spool_leaves_no_other_behind(tmp_path: Path, clock: FakeClock) -> None:
    spool = opened(tmp_path, clock, most_bytes=4096)

    spool.add((datum(1),))
    spool.add(tuple(Datum("M", "None", GPU, 60, (i / 7, i * 1.1), (i, i)) for i in range(2000)))

    assert spool.state() == SpoolState(dropped_datums=2001)


@pytest.mark.parametrize("obstacle", ["missing", "a file"])
def test_without_a_directory_datums_wait_in_memory_and_move_when_there_is_one(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture, obstacle: str
) -> None:
    caplog.set_level(logging.INFO)
    directory = tmp_path / "spool"
    if obstacle == "a file":
        directory.touch()
    spool = opened(directory, clock)
    for value in (1, 2, 3, 4):
        spool.add((datum(value),))
    assert spool.state() == SpoolState(waiting_datums=3, volatile_datums=3, dropped_datums=1, oldest_unix_seconds=60)
    in_flight = spool.next_entry(EVER)
    assert in_flight is not None
    assert caplog.text.count("cannot be used, so datums wait in memory") == 1

    directory.unlink(missing_ok=True)
    directory.mkdir()
    assert spool.state().volatile_datums == 3
    clock.now += RETRY_SECONDS
    assert spool.state() == SpoolState(waiting_datums=3, volatile_datums=0, dropped_datums=1, oldest_unix_seconds=60)
    assert caplog.text.count("can be used again") == 1

    spool.remove(in_flight.key)  # by the key that it had in memory
    spool.close()
    assert values(drained(opened(directory, clock))) == [3, 2]


def test_a_full_disk_costs_nothing_and_is_left_behind_by_itself(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    spool = opened(tmp_path, clock)
    spool.add((datum(1),))
    on_disk = spool.next_entry(EVER)
    assert on_disk is not None

    with full_disk():
        spool.add((datum(2),))
        spool.remove(on_disk.key)  # it was delivered, which the disk cannot be told
        spool.add((datum(3),))
        clock.now += RETRY_SECONDS
        spool.add((datum(4),))
        assert spool.state().volatile_datums == 3
    assert caplog.text.count("cannot be used") == 1
    clock.now += RETRY_SECONDS

    assert values(drained(spool)) == [4, 3, 2]
    assert spool.state() == SpoolState()
    spool.close()
    assert drained(opened(tmp_path, clock)) == []


def test_a_batch_that_is_halved_while_the_disk_fails_is_not_sent_as_a_whole_again(
    tmp_path: Path, clock: FakeClock
) -> None:
    spool = opened(tmp_path, clock)
    spool.add((datum(1), datum(2)))
    entry = spool.next_entry(EVER)
    assert entry is not None

    with full_disk():
        spool.divide(entry.key, ((datum(1),), (datum(2),)))
    clock.now += RETRY_SECONDS

    assert values(drained(spool)) == [2, 1]


@pytest.mark.parametrize("is_open", [True, False])
def test_a_file_that_breaks_is_replaced_and_loses_what_it_held_alone(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture, *, is_open: bool
) -> None:
    spool = opened(tmp_path, clock)
    for value in range(200):
        spool.add((datum(value),))
    if is_open:
        assert spool._file is not None
        spool._file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        spool._file.connection.execute("PRAGMA shrink_memory")  # what SQLite remembers is not damaged
    else:
        spool.close()
    size = (tmp_path / FILE_NAME).stat().st_size
    with (tmp_path / FILE_NAME).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    if not is_open:
        spool = opened(tmp_path, clock)

    spool.add((datum(1000),))

    assert values(drained(spool)) == [1000]
    assert caplog.text.count("an unknown number of datums is lost") == 1
    assert (tmp_path / f"{FILE_NAME}.corrupt").exists()
    spool.add((datum(1001),))
    spool.close()
    assert values(drained(opened(tmp_path, clock))) == [1001]


def test_an_entry_that_cannot_be_read_is_dropped_alone_and_counted(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    spool = opened(tmp_path, clock)
    spool.add((datum(1),))
    spool.add((datum(2), datum(3)))
    assert spool._file is not None
    spool._file.connection.execute("UPDATE entries SET payload = x'00' WHERE datums = 2")

    assert values(drained(spool)) == [1]
    assert spool.state().dropped_datums == 2
    assert "dropped 2 datums: The entry holds no batch" in caplog.text


def test_a_spool_that_came_with_the_disk_of_another_host_is_emptied(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    spool = opened(tmp_path, clock, host="baked")
    spool.add((datum(1), datum(2)))
    spool.close()
    assert caplog.records == []

    spool = opened(tmp_path, clock, host="launched")
    assert spool.state() == SpoolState(dropped_datums=2)
    assert [record.getMessage() for record in caplog.records] == [
        "the spool came from another host: dropped its 2 datums"
    ]
    spool.add((datum(3),))
    spool.close()

    assert values(drained(opened(tmp_path, clock, host="launched"))) == [3]


def test_a_second_process_does_not_send_what_the_first_keeps(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    first = opened(tmp_path, clock)
    first.add((datum(1),))

    second = opened(tmp_path, clock)
    second.add((datum(2),))

    assert values(drained(second)) == [2]
    assert caplog.text.count("another gpumon uses") == 1
    second.add((datum(3),))
    first.close()
    clock.now += RETRY_SECONDS
    assert sorted(values(drained(second))) == [1, 3]
    second.close()
