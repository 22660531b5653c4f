"""Delivers datums to one sink on a thread of its own, so that a slow or dead sink never holds up sampling.

What is handed in goes through the spool first; a batch leaves the spool only when the sink took it or refused it for
good. `gpumon.spool` says in which order they go: live data, then the backlog, newest first.

A batch that the sink refuses is halved until the datum that it refuses stands alone, which is then dropped. The halves
take the place of the batch in the spool, so a failure or a crash in the middle leaves exactly what is undelivered.

Delivery is at least once. A request whose answer got lost may have been accepted; it is sent again, because a lost
minute cannot be had back, while a minute that counts twice keeps its minimum, maximum, mean and percentiles (only Sum
and SampleCount double). CloudWatch has nothing by which it would know the second one for the same.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from gpumon.backoff import Backoff
from gpumon.errors import DeliveryError, RefusedError
from gpumon.spool import TimeRange

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpumon.clock import Clock
    from gpumon.samples import Datum
    from gpumon.sinks import Sink
    from gpumon.spool import Entry, Spool

# After an outage the backlog goes out this many calls at a time, so that a fleet does not exhaust its rate in one
# minute.
CALLS_PER_PUBLICATION = 10
# Every halving of a refused batch allows two calls more. This many halvings isolate two bad datums among a thousand;
# what is left to do goes on at the next publication.
HALVINGS_PER_PUBLICATION = 20
# The first failure of a publication may be the batch's own fault, so another batch gets its chance; the second is the
# service's.
FAILURES_PER_PUBLICATION = 2
OPEN_RETRY_SECONDS = (0.5, 30.0)
URGENT_RETRY_SECONDS = (5.0, 60.0)

# CloudWatch, PutMetricData: datums may be up to two weeks old and two hours ahead. The margin is for the way there and
# for clocks that differ.
MOST_AGE_SECONDS = 14 * 24 * 3600 - 3600
MOST_LEAD_SECONDS = 2 * 3600 - 300
# Datums that are further apart than this are never kept in one batch, which can only be sent or dropped as a whole.
MOST_SPREAD_SECONDS = 3600

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeliveryStats:
    """What a publisher has done since it was made, and what waits now.

    Attributes:
        published_datums: Datums that the sink took.
        published_calls: Calls that brought them.
        failed_calls: Calls that delivered nothing, refusals included.
        dropped_datums: Datums that will never be delivered.
        waiting_datums: Datums in the spool.
        last_success_unix_seconds: Wall-clock time at which the sink last took something, or None.
        oldest_waiting_unix_seconds: Time of the oldest datum in the spool, or None.
    """

    published_datums: int = 0
    published_calls: int = 0
    failed_calls: int = 0
    dropped_datums: int = 0
    waiting_datums: int = 0
    last_success_unix_seconds: float | None = None
    oldest_waiting_unix_seconds: float | None = None


class Outbox(Protocol):
    """Takes datums without ever waiting for their delivery."""

    def start(self) -> None:
        """Begin to deliver."""

    def submit(self, datums: Sequence[Datum], *, urgent: bool = False) -> None:
        """Take datums to deliver; `urgent` ones are tried again within seconds if that fails."""

    def is_working(self) -> bool:
        """Say whether what is submitted will be delivered."""

    def stats(self) -> DeliveryStats:
        """Return what was done so far."""

    def stop(self, seconds: float) -> None:
        """Try for `seconds` to deliver what is there, then give up."""


class Publisher:
    """An `Outbox` with a spool before one sink."""

    def __init__(
        self,
        sink: Sink,
        spool: Spool,
        clock: Clock,
        turn: threading.Lock | None = None,
        counted: DeliveryStats | None = None,
    ) -> None:
        """Make a publisher.

        Args:
            sink: Where datums go.
            spool: Keeps them until then.
            clock: Dates successes, and waits.
            turn: Held during each delivery; publishers of one spool must share one, lest both send the same batch.
            counted: What an earlier publisher of the same sink had `counted`.
        """
        self._turn = turn or threading.Lock()
        self._sink = sink
        self._spool = spool
        self._clock = clock
        self._stats = counted or DeliveryStats()
        self._stats_lock = threading.Lock()
        self._has_urgent = False
        self._work = threading.Event()
        self._stopping = threading.Event()
        # A daemon, because a call to a dead network must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        """Start the thread, which first opens the sink."""
        self._thread.start()

    def submit(self, datums: Sequence[Datum], *, urgent: bool = False) -> None:
        """Put datums into the spool and wake the thread.

        Everything is tried at once. If that fails, the next try is that of the next submission, or in 5 to 60 seconds
        if something `urgent` was among it.
        """
        kept = 0
        for group in _close_in_time(datums):
            for batch in self._sink.calls(group):
                self._spool.add(batch)
                kept += len(batch)
        self._count(dropped_datums=len(datums) - kept)
        if urgent and kept:
            self._has_urgent = True
        self._work.set()

    def is_working(self) -> bool:
        """Say whether the thread lives (it ends early only through an error in this program)."""
        return self._thread.is_alive()

    def stats(self) -> DeliveryStats:
        """Return what was done so far; callable from any thread."""
        state = self._spool.state()
        with self._stats_lock:
            return replace(
                self._stats,
                dropped_datums=self._stats.dropped_datums + state.dropped_datums,
                waiting_datums=state.waiting_datums,
                oldest_waiting_unix_seconds=state.oldest_unix_seconds,
            )

    def counted(self) -> DeliveryStats:
        """Return what a later publisher of the same sink goes on from; what the spool dropped is not in it."""
        with self._stats_lock:
            return self._stats

    def stop(self, seconds: float) -> None:
        """Wait up to `seconds` for the delivery of what is in the spool; say what is lost and what stays on disk."""
        self._stopping.set()
        self._work.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        state = self._spool.state()
        if state.volatile_datums:
            log.error("%d datums could not be published before the stop and are lost", state.volatile_datums)
        if stays := state.waiting_datums - state.volatile_datums:
            log.info("%d datums stay in the spool for the next start", stays)
        self._spool.close()

    def deliver(self, most_calls: int | None = None) -> bool:
        """Deliver from the spool until it is empty, deliveries fail, or `most_calls` (and some to halve) were made.

        Returns:
            Whether nothing failed.
        """
        calls, halvings = 0, 0
        failed: list[int] = []
        while most_calls is None or calls < most_calls + 2 * min(halvings, HALVINGS_PER_PUBLICATION):
            with self._turn:
                entry = self._spool.next_entry(self._sendable())
                if entry is None or entry.key in failed:
                    break
                calls += 1
                try:
                    halvings += self._deliver_one(entry)
                except DeliveryError as error:
                    self._failed(entry, error)
                    failed.append(entry.key)
            if len(failed) == FAILURES_PER_PUBLICATION:
                break
        return not failed

    def _failed(self, entry: Entry, error: DeliveryError) -> None:
        log.warning("not published, %d datums wait: %s", self._spool.state().waiting_datums, error)
        self._count(failed_calls=1)
        self._spool.put_back(entry.key)

    def _deliver_one(self, entry: Entry) -> bool:
        """Make one call; return whether it ended in halving the batch. Raises DeliveryError: it was not delivered."""
        try:
            self._sink.publish(entry.batch)
        except RefusedError as error:
            self._refused(entry, error)
            return len(entry.batch) > 1
        self._spool.remove(entry.key)
        # The service takes a signature only if our clock is right. Until then, datums whose time it would not take are
        # kept: it may be the clock that is wrong now.
        self._spool.drop_outside(self._sendable())
        log.debug("published %d datums", len(entry.batch))
        self._count(published_datums=len(entry.batch), published_calls=1)
        with self._stats_lock:
            self._stats = replace(self._stats, last_success_unix_seconds=self._clock.unix_seconds())
        return False

    def _refused(self, entry: Entry, error: RefusedError) -> None:
        if len(entry.batch) > 1:
            log.warning("halving %d datums: %s", len(entry.batch), error)
            middle = len(entry.batch) // 2
            self._spool.divide(entry.key, (entry.batch[:middle], entry.batch[middle:]))
            self._count(failed_calls=1)
        else:
            datum = entry.batch[0]
            log.error(
                "%s of %s is lost for one period: %s", datum.metric, datum.gpu.uuid if datum.gpu else "host", error
            )
            self._spool.remove(entry.key)
            self._count(failed_calls=1, dropped_datums=1)

    def _sendable(self) -> TimeRange:
        now = self._clock.unix_seconds()
        return TimeRange(now - MOST_AGE_SECONDS, now + MOST_LEAD_SECONDS)

    def _count(self, **more: int) -> None:
        with self._stats_lock:
            self._stats = replace(self._stats, **{name: getattr(self._stats, name) + n for name, n in more.items()})

    def _run(self) -> None:
        self._open()
        backoff = Backoff(*URGENT_RETRY_SECONDS)
        while not self._stopping.is_set():
            if self._has_urgent:
                self._clock.wait(self._work, backoff.next_seconds())
            else:
                self._work.wait()
                backoff.reset()
            self._work.clear()
            if self._stopping.is_set():
                break
            has_urgent, self._has_urgent = self._has_urgent, False
            if not self.deliver(CALLS_PER_PUBLICATION) and has_urgent:
                self._has_urgent = True
        # What is on disk goes out after the next start; what is not goes out now or never.
        self.deliver(None if self._spool.state().volatile_datums else CALLS_PER_PUBLICATION)

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


def _close_in_time(datums: Sequence[Datum]) -> Iterator[list[Datum]]:
    """Yield `datums` in groups whose times are no more than `MOST_SPREAD_SECONDS` apart."""
    group: list[Datum] = []
    for datum in sorted(datums, key=lambda datum: datum.unix_seconds):
        if group and datum.unix_seconds - group[0].unix_seconds > MOST_SPREAD_SECONDS:
            yield group
            group = []
        group.append(datum)
    if group:
        yield group
