"""Turns the signals that end a service into an event."""

from __future__ import annotations

import logging
import signal
import threading

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})

log = logging.getLogger(__name__)


def stop_on_signals(stop: threading.Event) -> None:
    """Set `stop` at the first SIGTERM or SIGINT of this process; call it before any thread starts.

    A thread waits for the signals, because a Python signal handler runs between two instructions of the main thread:
    setting an event there, which the main thread may just be waiting for, can deadlock.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

    def wait() -> None:
        number = signal.sigwait(STOP_SIGNALS)
        log.info("%s: stopping", signal.Signals(number).name)
        stop.set()

    threading.Thread(target=wait, name="signals", daemon=True).start()
