"""Standard error that outlives its terminal: who closes it must not keep a run from removing what it made."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class LastingStream:
    """A text stream whose writes never fail; where its other end is gone they go nowhere.

    Attributes are those of the stream itself, so that nobody who looks at it sees a difference.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written; returns how many characters that would have been."""
        try:
            return self._stream.write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        """As `write`."""
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self) -> None:
        """Let the rest go nowhere, also what the stream still holds and the interpreter writes at its end."""
        with suppress(OSError, ValueError):  # a stream without a file has nothing to be led elsewhere
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def lasting_stderr() -> Iterator[None]:
    """Let nothing that is written to standard error fail."""
    before = sys.stderr
    sys.stderr = LastingStream(before)
    try:
        yield
    finally:
        sys.stderr = before
