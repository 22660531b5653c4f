"""Turns the signals of a service into requests that its loop sees."""

from __future__ import annotations

import logging
import signal
import threading

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
RELOAD_SIGNAL = signal.SIGHUP

log = logging.getLogger(__name__)


class Requests:
    """What somebody wants of the loop; `wake` is set with each of them, and by whatever else is news to the loop."""

    def __init__(self) -> None:
        self.wake = threading.Event()
        self._stop = threading.Event()
        self._reload = threading.Event()

    def stop(self) -> None:
        """Ask the loop to end."""
        self._stop.set()
        self.wake.set()

    def reload(self) -> None:
        """Ask the loop to read the settings again."""
        self._reload.set()
        self.wake.set()

    def is_stopping(self) -> bool:
        """Say whether the loop is to end."""
        return self._stop.is_set()

    def take_reload(self) -> bool:
        """Say whether the settings are to be read again, once per request."""
        if not self._reload.is_set():
            return False
        self._reload.clear()
        return True


def watch_signals(requests: Requests) -> None:
    """Turn SIGTERM and SIGINT into a stop and SIGHUP into a reload; call it before any thread starts.

    A thread waits for the signals, because a Python signal handler runs between two instructions of the main thread:
    setting an event there, which the main thread may just be waiting for, can deadlock.
    """
    # A blocked signal reaches sigwait even where it is ignored, as SIGHUP is under nohup.
    wanted = {*STOP_SIGNALS, RELOAD_SIGNAL}
    signals = {number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait() -> None:
        while not requests.is_stopping():
            number = signal.sigwait(signals)
            name = signal.Signals(number).name
            if number == RELOAD_SIGNAL:
                log.info("%s: reading the settings again", name)
                requests.reload()
            else:
                log.info("%s: stopping", name)
                requests.stop()

    threading.Thread(target=wait, name="signals", daemon=True).start()
