"""Reads Xids from the kernel log: what happened before NVML's events were asked for, and what they miss.

How the service uses it::

    kernel_log = KernelLog(counts, clock=clock, stop=stop, position=KmsgPosition.from_dict(remembered))
    kernel_log.seed()                    # before the first reading: drains what the log holds
    kernel_log.start()                   # then follows it on a thread of its own until `stop` is set
    kernel_log.position.to_dict()        # to remember, now and then and at the end

The position says up to where an earlier gpumon has read, so that a restart announces nothing twice:

====================  =======================================================================================
remembered position   what the log holds at the start
====================  =======================================================================================
of this boot          up to the position: history. After it: news, since it happened while no gpumon ran
of another boot       news: nobody has looked at this boot yet
none                  history: this gpumon is the first, or cannot remember, and must not cry wolf at every start
====================  =======================================================================================

A crash between an event and the remembering of the position makes the event news once more.
Whoever may write to the kernel log (root) can make up an Xid, which is a good way to test an alarm:
``echo 'NVRM: Xid (PCI:0000:00:1e): 79, test' > /dev/kmsg``.
"""

from __future__ import annotations

import enum
import errno
import logging
import os
import select
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpumon.backoff import Backoff
from gpumon.readers.kmsg_lines import finding, record_of
from gpumon.xids import BusLoss, XidEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpumon.clock import Clock
    from gpumon.readers.kmsg_lines import KmsgRecord
    from gpumon.xid_counts import XidCounts

KMSG = Path("/dev/kmsg")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
POLL_SECONDS = 1.0  # between looks at a log that cannot be waited for
IDLE_SECONDS = 60.0  # `close` ends this wait; without it `stop` is noticed after this time
RETRY_SECONDS = (1.0, 30.0)
_RECORD_BYTES = 8192  # the kernel's own limit of a record (CONSOLE_EXT_LOG_MAX)
_MOST_RECORD_BYTES = 65536
_MOST_SEED_READS = 500_000  # a log that grows faster than it is read must not hold up the start

log = logging.getLogger(__name__)


def kernel_seconds() -> float:
    """Return the time since boot that the kernel log's time stamps count: not slewed, nor counting while suspended."""
    return time.clock_gettime(time.CLOCK_MONOTONIC_RAW)


class _Read(enum.Enum):
    """What came of one attempt to read."""

    SOMETHING = enum.auto()
    NOTHING_YET = enum.auto()
    END = enum.auto()
    FAILURE = enum.auto()


@dataclass(frozen=True)
class KmsgPosition:
    """Up to where the log was read: the boot, and the number of the last record."""

    boot_id: str
    sequence: int

    def to_dict(self) -> dict[str, object]:
        """Return plain values for a state file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: object) -> KmsgPosition | None:
        """Return the position that `to_dict` gave, or None where `state` is anything else."""
        if not isinstance(state, dict):
            return None
        boot_id, sequence = state.get("boot_id"), state.get("sequence")
        if isinstance(boot_id, str) and boot_id and isinstance(sequence, int) and not isinstance(sequence, bool):
            return cls(boot_id, sequence)
        return None


class KernelLog:
    """Counts the Xids of the kernel log.

    Where it cannot be read (no such file, no permission), one line of the log says so and that is all.

    Args:
        counts: Where the events go.
        clock: Dates the events: what comes while following happened just now, what was there before happened when its
            time stamp says.
        stop: Ends the thread.
        position: What an earlier gpumon has read.
        path: The log; a FIFO or a file of the same form will do.
        boot_id_path: Names the boot.
        uptime_seconds: The clock of the log's time stamps.
        with_history: Whether history is counted; `counts` has it already where an earlier `KernelLog` seeded it.
        read: Reads bytes from a file's number, as os.read.
    """

    def __init__(
        self,
        counts: XidCounts,
        *,
        clock: Clock,
        stop: threading.Event,
        position: KmsgPosition | None = None,
        path: Path = KMSG,
        boot_id_path: Path = BOOT_ID,
        uptime_seconds: Callable[[], float] = kernel_seconds,
        read: Callable[[int, int], bytes] = os.read,
        with_history: bool = True,
    ) -> None:
        self._counts = counts
        self._clock = clock
        self._stop = stop
        self._path = path
        self._uptime_seconds = uptime_seconds
        self._with_history = with_history
        self._read = read
        self._boot_id = _boot_id(boot_id_path)
        self._sequence = -1
        self._seen: int | None = None  # history ends here; None: everything that is there at the start is history
        if position is not None:
            is_this_boot = position.boot_id == self._boot_id
            self._seen = position.sequence if is_this_boot else -1
            self._sequence = self._seen
        self._fd: int | None = None
        self._waker: int | None = None
        self._poll = select.poll()
        self._buffer_bytes = _RECORD_BYTES
        self._rest = b""
        self._is_skipping = False  # the rest of a line that is too long
        self._backoff = Backoff(*RETRY_SECONDS)
        self._thread: threading.Thread | None = None

    @property
    def position(self) -> KmsgPosition | None:
        """Up to where the log was read; None: nothing was read, or the boot has no name."""
        return KmsgPosition(self._boot_id, self._sequence) if self._boot_id and self._sequence >= 0 else None

    @property
    def is_open(self) -> bool:
        """Say whether the log can be read."""
        return self._fd is not None

    def seed(self) -> None:
        """Open the log and count what it holds."""
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self._give_up(error)
            return
        self._poll.register(self._fd, select.POLLIN)
        self._waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._waker, select.POLLIN)
        for _ in range(_MOST_SEED_READS):
            if self._stop.is_set() or self._read_once(is_seed=True) is not _Read.SOMETHING:
                return

    def start(self) -> None:
        """Follow the log on a thread, if it could be opened."""
        if self._fd is not None:
            self._thread = threading.Thread(target=self.follow, name="kmsg", daemon=True)
            self._thread.start()

    def follow(self) -> None:
        """Count what comes until `stop` is set or the log may not be read any more."""
        while self._fd is not None and not self._stop.is_set():
            outcome = self._read_once(is_seed=False)
            if outcome is _Read.NOTHING_YET:
                self._poll.poll(IDLE_SECONDS * 1000)
            elif outcome is _Read.END:
                # A file, or a FIFO that nobody writes to: poll would return at once, for ever.
                self._clock.wait(self._stop, POLL_SECONDS)
            elif outcome is _Read.FAILURE:
                self._clock.wait(self._stop, self._backoff.next_seconds())

    def close(self, seconds: float = 2 * POLL_SECONDS) -> None:
        """Wait for the thread, which `stop` ends, and close the log."""
        if self._waker is not None:
            os.eventfd_write(self._waker, 1)
        if self._thread is not None:
            self._thread.join(seconds)
            if self._thread.is_alive():
                return  # closing under it could hand it another file's number
        self._close()

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if self._waker is not None:
            os.close(self._waker)
            self._waker = None

    def _give_up(self, error: OSError) -> None:
        log.info("Xids come from NVML alone, because the kernel log cannot be read: %s", error)
        self._close()

    def _read_once(self, *, is_seed: bool) -> _Read:
        if self._fd is None:
            return _Read.FAILURE
        try:
            chunk = self._read(self._fd, self._buffer_bytes)
        except BlockingIOError:
            return _Read.NOTHING_YET
        except OSError as error:
            return self._after_error(error)
        if not chunk:
            return _Read.END
        self._backoff.reset()
        for line in self._lines(chunk):
            self._take(line, is_seed=is_seed)
        return _Read.SOMETHING

    def _after_error(self, error: OSError) -> _Read:
        if error.errno == errno.EPIPE:
            log.warning("the kernel log was overwritten before it was read; Xids may be missing")
            return _Read.SOMETHING  # the kernel has moved on to the oldest record that is left
        if error.errno == errno.EINVAL and self._buffer_bytes < _MOST_RECORD_BYTES:
            self._buffer_bytes *= 2  # the record did not fit
            return _Read.SOMETHING
        if error.errno in {errno.EPERM, errno.EACCES, errno.EISDIR}:
            self._give_up(error)
        else:
            log.warning("the kernel log cannot be read just now: %s", error)
        return _Read.FAILURE

    def _lines(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completes. The device gives whole records, a file or FIFO gives what it has."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if self._is_skipping and lines:
            self._is_skipping = False
            del lines[0]
        if len(self._rest) > _MOST_RECORD_BYTES:
            self._rest = b""
            self._is_skipping = True
        return lines

    def _take(self, line: bytes, *, is_seed: bool) -> None:
        record = record_of(line)
        if record is None:
            return
        is_history = is_seed and (self._seen is None or record.sequence <= self._seen)
        self._sequence = max(self._sequence, record.sequence)
        found = finding(record.text, self._unix_seconds(record) if is_seed else self._clock.unix_seconds())
        if is_history and not self._with_history:
            return
        if isinstance(found, XidEvent):
            self._counts.record(found, is_history=is_history)
        elif isinstance(found, BusLoss):
            self._counts.record_bus_loss(found, is_history=is_history)
        elif found is not None:
            self._counts.know({found.pci_bus_id: found.uuid})

    def _unix_seconds(self, record: KmsgRecord) -> float:
        age_seconds = self._uptime_seconds() - record.microseconds / 1e6
        return self._clock.unix_seconds() - max(0.0, age_seconds)


def _boot_id(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        log.info("the position in the kernel log cannot be remembered, because the boot has no name: %s", error)
        return ""
