from __future__ import annotations

import errno
import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.clock import SystemClock
from gpumon.readers.kmsg import KMSG, KernelLog, KmsgPosition
from gpumon.xid_counts import XidCounts
from gpumon.xids import load_xids
from tests.gpumon.fakes import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

UUID = "GPU-b850f46d-d5ea-c752-ddf3-c4453e44d3f7"
ADDRESS = "0000:3b:00.0"
BOOT = "7a3e8d2c-0000-4000-8000-000000000001"
TABLE = load_xids()


def record(sequence: int, xid: int = 31, seconds: float = 0.0, address: str = "PCI:0000:3b:00") -> bytes:
    return f"3,{sequence},{seconds * 1e6:.0f},-;NVRM: Xid ({address}): {xid}, pid=1\n".encode()


class Log:
    """A kernel log in a file, and what reads it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "kmsg"
        self.path.write_bytes(b"")
        self.boot_id = directory / "boot_id"
        self.boot_id.write_text(BOOT + "\n")
        self.clock = FakeClock()
        self.stop = threading.Event()
        self.counts = XidCounts(TABLE)
        self.counts.know({ADDRESS: UUID})

    def write(self, *records: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(b"".join(records))

    def reader(self, position: KmsgPosition | None = None, **changes: Any) -> KernelLog:
        return KernelLog(
            self.counts,
            clock=self.clock,
            stop=self.stop,
            position=position,
            **{"path": self.path, "boot_id_path": self.boot_id, "uptime_seconds": lambda: 1000.0, **changes},
        )

    def news(self) -> int:
        return self.counts.of_gpu(UUID).errors_since_start

    def since_boot(self) -> int:
        return sum(self.counts.totals().get(UUID, {}).values())


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


class Device:
    """Answers reads one by one, as the device does: bytes of a record, or an error; then there is nothing more."""

    def __init__(self, *answers: bytes | int) -> None:
        self.answers = list(answers)
        self.sizes: list[int] = []

    def read(self, _fd: int, size: int) -> bytes:
        self.sizes.append(size)
        answer = self.answers.pop(0) if self.answers else errno.EAGAIN
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return answer


def test_a_gpumon_that_remembers_nothing_takes_what_is_there_for_history(log: Log) -> None:
    log.write(record(1, 79), record(2))
    reader = log.reader()

    reader.seed()

    assert (log.since_boot(), log.news()) == (2, 0)
    assert not log.counts.urgent.is_set()
    assert reader.position == KmsgPosition(BOOT, 2)


def test_what_happened_while_no_gpumon_ran_is_news(log: Log) -> None:
    log.write(record(1), record(2), record(3, 79))

    log.reader(KmsgPosition(BOOT, 2)).seed()

    assert (log.since_boot(), log.news()) == (3, 1)
    assert log.counts.urgent.is_set()


def test_a_restart_announces_nothing_twice(log: Log) -> None:
    log.write(record(1, 79))
    first = log.reader(KmsgPosition("another boot", 7))
    first.seed()
    assert log.news() == 1

    log.counts = XidCounts(TABLE)
    log.counts.know({ADDRESS: UUID})
    assert first.position is not None
    second = log.reader(KmsgPosition.from_dict(first.position.to_dict()))
    second.seed()

    assert (log.since_boot(), log.news()) == (1, 0)
    assert second.position == first.position


def test_after_a_reboot_everything_is_news(log: Log) -> None:
    log.write(record(1), record(2))

    log.reader(KmsgPosition("another boot", 1_000_000)).seed()

    assert log.news() == 2


def test_without_the_name_of_the_boot_no_position_is_given(log: Log, tmp_path: Path) -> None:
    log.write(record(1))
    reader = log.reader(boot_id_path=tmp_path / "absent")

    reader.seed()

    assert reader.position is None


@pytest.mark.parametrize(
    "state",
    [
        None,
        1,
        [],
        {},
        {"boot_id": "", "sequence": 1},
        {"boot_id": "a"},
        {"boot_id": "a", "sequence": True},
        {"boot_id": 1},
    ],
)
def test_a_remembered_position_that_is_none_is_none(state: object) -> None:
    assert KmsgPosition.from_dict(state) is None


def test_what_was_there_is_dated_by_its_time_stamp(log: Log) -> None:
    log.write(record(1, 31, seconds=990), record(2, 79, seconds=900))
    log.reader().seed()
    assert log.counts.last(UUID) == (79, log.clock.wall - 100)

    log.write(record(3, 43, seconds=5000))  # after now, which cannot be
    log.reader(KmsgPosition(BOOT, 2)).seed()

    assert log.counts.last(UUID) == (43, log.clock.wall)


def test_what_comes_is_news_and_dated_now(log: Log) -> None:
    log.write(record(1))
    reader = log.reader()
    reader.seed()
    log.clock.at(60, lambda: log.write(record(2, 79, seconds=3)))
    log.clock.at(100, log.stop.set)

    reader.follow()

    assert (log.since_boot(), log.news()) == (2, 1)
    last = log.counts.last(UUID)
    assert last is not None
    assert log.clock.wall - 40 <= last[1] <= log.clock.wall - 39
    assert reader.position == KmsgPosition(BOOT, 2)
    assert log.clock.waits <= 102  # the end of a file does not make it spin


def test_the_driver_s_own_words_name_the_gpu(log: Log) -> None:
    log.counts = XidCounts(TABLE)
    log.write(f"3,1,0,-;NVRM: GPU at PCI:0000:3b:00: {UUID}\n".encode(), record(2))

    log.reader().seed()

    assert log.counts.totals() == {UUID: {31: 1}}


def test_a_loss_without_an_xid_is_found(log: Log) -> None:
    line = (
        rb"3,1,0,-;NVRM: The NVIDIA GPU 0000:3b:00.0\x0aNVRM: installed in this system has\x0aNVRM: fallen off the bus"
    )
    log.write(line + b"\n")

    log.reader(KmsgPosition("another boot", 0)).seed()

    assert log.counts.of_gpu(UUID).bus_losses_since_start == 1
    assert log.counts.urgent.is_set()


@pytest.mark.parametrize("name", ["absent", "."])
def test_a_log_that_cannot_be_opened_is_said_once_and_left_alone(
    log: Log, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    reader = log.reader(path=tmp_path / name)

    reader.seed()
    reader.start()
    reader.follow()
    reader.close()

    assert not reader.is_open
    assert reader.position is None
    assert log.clock.waits == 0
    assert [entry.levelname for entry in caplog.records] == ["INFO"]
    assert "Xids come from NVML alone" in caplog.text


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES])
def test_a_log_that_may_not_be_read_is_said_once_and_left_alone(
    log: Log, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    device = Device(*[code] * 100)
    reader = log.reader(read=device.read)

    reader.seed()
    reader.follow()

    assert len(device.sizes) == 1
    assert caplog.text.count("Xids come from NVML alone") == 1


def test_overwritten_records_cost_only_themselves(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    device = Device(record(1), errno.EPIPE, record(9), errno.EPIPE, record(20))

    log.reader(KmsgPosition(BOOT, 0), read=device.read).seed()

    assert log.news() == 3
    assert "overwritten before it was read" in caplog.text


def test_a_record_that_does_not_fit_gets_a_larger_buffer(log: Log) -> None:
    device = Device(errno.EINVAL, errno.EINVAL, record(1))

    log.reader(KmsgPosition(BOOT, 0), read=device.read).seed()

    assert log.news() == 1
    assert device.sizes == [8192, 16384, 32768, 32768]


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL])
def test_an_error_that_stays_is_met_ever_more_rarely(log: Log, code: int) -> None:
    device = Device(*[code] * 1000)
    reader = log.reader(read=device.read)
    reader.seed()
    log.clock.at(600, log.stop.set)

    reader.follow()

    assert 20 <= len(device.sizes) <= 30  # 1, 2, 4, 8, 16, 30, 30, ... seconds


def test_reading_goes_on_after_an_error(log: Log) -> None:
    device = Device(errno.EIO, errno.EIO, record(1))
    reader = log.reader(KmsgPosition(BOOT, 0), read=device.read)
    reader.seed()
    log.clock.at(2, lambda: device.answers.append(b""))
    log.clock.at(20, log.stop.set)

    device.answers += [b""] * 100
    reader.follow()

    assert log.news() == 1


def test_a_line_without_end_is_skipped(log: Log) -> None:
    log.write(b"6,1,0,-;" + b"a" * 300_000 + record(2, 79).rstrip(b"\n"), b"\n", record(3))

    log.reader(KmsgPosition(BOOT, 0)).seed()

    assert log.counts.totals() == {UUID: {31: 1}}


def test_the_rest_of_a_skipped_line_is_no_line(log: Log) -> None:
    device = Device(b"6,1,0,-;" + b"a" * 70_000, record(2, 79), record(3))

    log.reader(KmsgPosition(BOOT, 0), read=device.read).seed()

    assert log.counts.totals() == {UUID: {31: 1}}


def test_a_position_holds_while_nothing_comes(log: Log) -> None:
    reader = log.reader(KmsgPosition(BOOT, 7))
    reader.seed()

    assert reader.position == KmsgPosition(BOOT, 7)
    assert log.reader(KmsgPosition("another boot", 7)).position is None


def test_a_thread_follows_a_fifo_and_stops(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.path.unlink()
    os.mkfifo(log.path)
    reader = KernelLog(log.counts, clock=SystemClock(), stop=log.stop, path=log.path, boot_id_path=log.boot_id)
    reader.seed()
    writer = os.open(log.path, os.O_WRONLY)

    reader.start()
    os.write(writer, record(1, 79)[:20])
    os.write(writer, record(1, 79)[20:])
    assert log.counts.urgent.wait(10)
    os.close(writer)
    log.stop.set()
    reader.close(10)

    assert log.counts.totals() == {UUID: {79: 1}}
    assert not reader.is_open


def test_the_kernel_s_own_log_is_read() -> None:
    try:
        os.close(os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        pytest.skip(f"this machine's kernel log cannot be read: {error}")
    reader = KernelLog(XidCounts(TABLE), clock=SystemClock(), stop=threading.Event())

    reader.seed()

    assert reader.is_open
    assert reader.position is not None
    assert reader.position.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    reader.close()


def chunks(data: bytes, sizes: Sequence[int]) -> list[bytes | int]:
    """Cut data into pieces of the given sizes, used round and round."""
    pieces: list[bytes | int] = []
    start = 0
    while start < len(data):
        end = start + sizes[len(pieces) % len(sizes)]
        pieces.append(data[start:end])
        start = end
    return pieces


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Log]:
    directory = tmp_path_factory.mktemp("fuzz")
    return lambda: Log(directory)


@given(
    junk=st.lists(st.binary(max_size=40).filter(lambda line: b"Xid" not in line)),
    sizes=st.lists(st.integers(1, 100), min_size=1),
)
def test_junk_costs_only_its_own_line(fuzzed: Callable[[], Log], junk: list[bytes], sizes: list[int]) -> None:
    log = fuzzed()
    data = b"".join(line + b"\n" + record(2**63 + number, 45) for number, line in enumerate(junk))

    log.reader(KmsgPosition("another boot", 0), read=Device(*chunks(data, sizes)).read).seed()

    assert log.since_boot() == log.news() == len(junk)
