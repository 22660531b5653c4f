"""Log lines for journald: short, with a level that it understands, and never a flood of them."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REPEAT_SECONDS = 600.0
MOST_REMEMBERED = 1000
# Of each kind (information; warnings and errors): so many lines at once, and then one per so many seconds.
BURST_LINES = 200
SECONDS_PER_LINE = 10.0

# syslog(3) severities; journald reads them from a "<N>" at the start of a line (sd-daemon(3)).
_SEVERITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


class JournalFormatter(logging.Formatter):
    """One line per record, with journald's level in front where journald listens, else with the level's name."""

    def __init__(self, *, journald: bool) -> None:
        super().__init__("%(name)s: %(message)s")
        self._journald = journald

    def format(self, record: logging.LogRecord) -> str:
        """Return the line (or, with a traceback, lines: each gets the level)."""
        severity = _SEVERITIES.get(record.levelno, 6)
        prefix = f"<{severity}>" if self._journald else f"{record.levelname.lower():7} "
        return "\n".join(prefix + line for line in super().format(record).splitlines())

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class calls it so
        """Return the first line, with what `FloodFilter` left out before it."""
        return super().formatMessage(record) + str(getattr(record, "left_out", ""))


class FloodFilter(logging.Filter):
    """Keeps one fault from filling the journal; what is left out is counted in the next line that is written.

    Of warnings and errors that are alike (the same text and the same words put into it; numbers may differ) one is
    written per `repeat_seconds`. Of all that is not debugging, a burst of `BURST_LINES` is written, then one line per
    `SECONDS_PER_LINE`; information cannot use up what errors may have. The handler must format with `JournalFormatter`.
    """

    def __init__(
        self, monotonic_seconds: Callable[[], float] = time.monotonic, repeat_seconds: float = REPEAT_SECONDS
    ) -> None:
        super().__init__()
        self._monotonic_seconds = monotonic_seconds
        self._repeat_seconds = repeat_seconds
        self._repeats: OrderedDict[object, tuple[float, int]] = OrderedDict()  # key -> (last written, left out since)
        now = monotonic_seconds()
        self._quiet = _Budget(now)
        self._loud = _Budget(now)
        # A signal handler may log while the thread that it interrupts is in here.
        self._lock = threading.RLock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record is to be written."""
        if record.levelno < logging.INFO:
            return True
        with self._lock:
            now = self._monotonic_seconds()
            if record.levelno < logging.WARNING:
                return self._within(self._quiet, now, record, "")
            key = _likeness(record)
            last, left_out = self._repeats.get(key, (None, 0))
            if last is not None and now - last < self._repeat_seconds:
                self._repeats[key] = (last, left_out + 1)
                return False
            words = f" ({left_out} more like this since)" if left_out else ""
            if not self._within(self._loud, now, record, words):
                return False
            self._remember(key, now)
            return True

    def _within(self, budget: _Budget, now: float, record: logging.LogRecord, words: str) -> bool:
        if not budget.take(now):
            return False
        if budget.left_out:
            words += f" ({budget.left_out} other lines were left out before this one)"
            budget.left_out = 0
        record.__dict__["left_out"] = words
        return True

    def _remember(self, key: object, now: float) -> None:
        self._repeats[key] = (now, 0)
        self._repeats.move_to_end(key)
        if len(self._repeats) > MOST_REMEMBERED:
            self._repeats.popitem(last=False)


class _Budget:
    """How many lines may still be written."""

    def __init__(self, now: float) -> None:
        self.left_out = 0
        self._lines = float(BURST_LINES)
        self._counted_at = now

    def take(self, now: float) -> bool:
        self._lines = min(float(BURST_LINES), self._lines + (now - self._counted_at) / SECONDS_PER_LINE)
        self._counted_at = now
        if self._lines < 1:
            self.left_out += 1
            return False
        self._lines -= 1
        return True


def configure(level: str, stream: TextIO, environment: Mapping[str, str]) -> None:
    """Send the log of this process to `stream`; boto's chatter only from warnings on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JournalFormatter(journald="JOURNAL_STREAM" in environment))
    handler.addFilter(FloodFilter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    set_level(level)


def set_level(level: str) -> None:
    """Log what gpumon says from `level` on; for a reload, which keeps everything else."""
    logging.getLogger("gpumon").setLevel(level.upper())


def _likeness(record: logging.LogRecord) -> object:
    arguments = record.args if isinstance(record.args, tuple) else ()
    return record.levelno, record.msg, *(str(word) for word in arguments if not isinstance(word, (int, float)))
