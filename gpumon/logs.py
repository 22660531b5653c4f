"""Log lines for journald: short, with a level that it understands, and not the same one every second."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REPEAT_SECONDS = 600.0
_MOST_REMEMBERED = 1000

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


class RepeatFilter(logging.Filter):
    """Lets one warning or error through per `REPEAT_SECONDS`, and then says how many like it were left out.

    Records are alike when their text and the words put into it are the same; numbers may differ.
    """

    def __init__(
        self, monotonic_seconds: Callable[[], float] = time.monotonic, seconds: float = REPEAT_SECONDS
    ) -> None:
        super().__init__()
        self._monotonic_seconds = monotonic_seconds
        self._seconds = seconds
        self._seen: dict[object, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record is to be written."""
        if record.levelno < logging.WARNING:
            return True
        arguments = record.args if isinstance(record.args, tuple) else ()
        key = (record.msg, *(str(word) for word in arguments if not isinstance(word, (int, float))))
        now = self._monotonic_seconds()
        last, left_out = self._seen.get(key, (None, 0))
        if last is not None and now - last < self._seconds:
            self._seen[key] = (last, left_out + 1)
            return False
        if len(self._seen) >= _MOST_REMEMBERED:
            self._seen.clear()
        self._seen[key] = (now, 0)
        if left_out:
            record.msg = f"{record.getMessage()} ({left_out} more like this since)"
            record.args = ()
        return True


def configure(level: str, stream: TextIO, environment: Mapping[str, str]) -> None:
    """Send the log of this process to `stream`; boto's chatter only from warnings on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JournalFormatter(journald="JOURNAL_STREAM" in environment))
    handler.addFilter(RepeatFilter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("gpumon").setLevel(level.upper())
