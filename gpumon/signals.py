"""Turns the signals that end a service into an event."""

from __future__ import annotations

import logging
import signal
import threading

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})

log = logging.getLogger(__name__)


def stop_on_signals(stop: threading.Event) -> None:
    """Set `stop` at the first SIGTERM, SIGINT or SIGHUP of this process; call it before any thread starts.

    SIGHUP stops, too, rather than kill: what is held gets published, and systemd starts gpumon with the new settings.

    A thread waits for the signals, because a Python signal handler runs between two instructions of the main thread:
    setting an event there, which the main thread may just be waiting for, can deadlock.
    """
    # A blocked signal reaches sigwait even where it is ignored, as SIGHUP is under nohup.
    signals = {number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait() -> None:
        number = signal.sigwait(signals)
        log.info("%s: stopping", signal.Signals(number).name)
        stop.set()

    threading.Thread(target=wait, name="signals", daemon=True).start()
