"""Delivers datums to one sink on a thread of its own, so that a slow or dead sink never holds up sampling.

What is handed in goes through the spool first; a batch leaves the spool only when the sink took it or refused it for
good. After a failure the rest waits for the next publication. Newest batches go first: in an outage the present
matters more than the past.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Protocol

from gpumon.backoff import Backoff
from gpumon.errors import DeliveryError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpumon.clock import Clock
    from gpumon.samples import Datum
    from gpumon.sinks import Sink
    from gpumon.spool import Entry, Spool

# After an outage the backlog goes out this many calls at a time, so that a fleet does not exhaust its rate in one
# minute.
CALLS_PER_PUBLICATION = 10
OPEN_RETRY_SECONDS = (0.5, 30.0)

log = logging.getLogger(__name__)


class Outbox(Protocol):
    """Takes datums without ever waiting for their delivery."""

    def start(self) -> None:
        """Begin to deliver."""

    def submit(self, datums: Sequence[Datum]) -> None:
        """Take datums to deliver."""

    def is_working(self) -> bool:
        """Say whether what is submitted will be delivered."""

    def stop(self, seconds: float) -> None:
        """Try for `seconds` to deliver what is there, then give up."""


class Publisher:
    """An `Outbox` with a spool before one sink."""

    def __init__(self, sink: Sink, spool: Spool, clock: Clock) -> None:
        self._sink = sink
        self._spool = spool
        self._clock = clock
        self._work = threading.Event()
        self._stopping = threading.Event()
        # A daemon, because a call to a dead network must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        """Start the thread, which first opens the sink."""
        self._thread.start()

    def submit(self, datums: Sequence[Datum]) -> None:
        """Put datums into the spool and wake the thread."""
        for batch in self._sink.calls(datums):
            dropped = self._spool.add(batch)
            if dropped:
                log.warning("queue is full: dropped the oldest %d datums", dropped)
        self._work.set()

    def is_working(self) -> bool:
        """Say whether the thread lives (it ends early only through an error in this program)."""
        return self._thread.is_alive()

    def stop(self, seconds: float) -> None:
        """Wait up to `seconds` for the delivery of everything in the spool; log what is lost."""
        self._stopping.set()
        self._work.set()
        self._thread.join(seconds)
        lost = self._spool.datum_count()
        if lost:
            log.error("%d datums could not be published before the stop and are lost", lost)

    def deliver(self, most_calls: int | None = None) -> None:
        """Deliver from the spool, newest first, until it is empty, a delivery fails, or `most_calls` were made."""
        calls = 0
        while (most_calls is None or calls < most_calls) and (entry := self._spool.newest()) is not None:
            calls += 1
            try:
                self._deliver_one(entry)
            except DeliveryError as error:
                log.warning("not published, %d datums wait: %s", self._spool.datum_count(), error)
                return

    def _deliver_one(self, entry: Entry) -> None:
        try:
            self._sink.publish(entry.batch)
        except RefusedError as error:
            log.error("%d datums are lost: %s", len(entry.batch), error)  # noqa: TRY400 - the traceback says no more
        else:
            log.debug("published %d datums", len(entry.batch))
        self._spool.remove(entry.key)

    def _run(self) -> None:
        self._open()
        while not self._stopping.is_set():
            self._work.wait()
            self._work.clear()
            self.deliver(None if self._stopping.is_set() else CALLS_PER_PUBLICATION)
        self.deliver()

    def _open(self) -> None:
        backoff = Backoff(*OPEN_RETRY_SECONDS)
        while not self._stopping.is_set() and not self._try_to_open():
            self._clock.wait(self._stopping, backoff.next_seconds())

    def _try_to_open(self) -> bool:
        try:
            self._sink.open()
        except DeliveryError as error:
            log.warning("not ready to publish: %s", error)
            return False
        return True
