"""Offers the newest values to Prometheus: an endpoint that is asked, rather than a sink that is told."""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from gpumon.addresses import parse_listen
from gpumon.backoff import Backoff
from gpumon.sinks.prometheus_server import ScrapeServer
from gpumon.sinks.prometheus_text import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client.registry import Collector

    from gpumon.clock import Clock

RETRY_SECONDS = (1.0, 60.0)

log = logging.getLogger(__name__)


class PrometheusSink:
    """Serves one collector's series on threads of its own, and never disturbs anything else.

    While it cannot listen (the port is taken, the address not there yet) it tries again, up to once a minute.
    """

    def __init__(self, collector: Collector, listen: str, clock: Clock) -> None:
        """Make a sink; nothing listens before `start`.

        Args:
            collector: Knows the series (`SnapshotCollector`).
            listen: ``:9400``, ``127.0.0.1:9400``, ``[::1]:9400``.
            clock: To wait between two tries.

        Raises:
            SettingsError: `listen` is none of these.
        """
        self._address = parse_listen(listen)
        self._listen = listen
        self._clock = clock
        # One of its own: the library's default also reports on this process, which the table of metrics does already.
        self._registry = CollectorRegistry(support_collectors_without_names=True)
        self._registry.register(collector)
        self._server: ScrapeServer | None = None
        self._has_complained = False
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prometheus", daemon=True)

    @property
    def port(self) -> int | None:
        """TCP port that it listens on, or None while it does not."""
        with self._lock:
            return self._server.port if self._server else None

    def start(self) -> None:
        """Listen, or begin to try again and again; a scrape of an IP address is answered as soon as this returns."""
        if not self._address.is_name:
            self._try_to_listen()
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Stop listening; wait up to `seconds` for the end of that."""
        with self._lock:
            self._stopping.set()
            server = self._server
        if self._thread.is_alive():
            if server:
                server.shut_down()
            self._thread.join(seconds)

    def render(self, names: Sequence[str] = ()) -> bytes:
        """Return what a scrape gets: all series, or those with one of `names`."""
        return encode(self._registry.restricted_registry(names) if names else self._registry)

    def _run(self) -> None:
        backoff = Backoff(*RETRY_SECONDS)
        while True:
            with self._lock:
                server = self._server
            if server:
                self._serve(server)
                backoff.reset()
            if self._clock.wait(self._stopping, backoff.next_seconds()):
                break
            self._try_to_listen()

    def _serve(self, server: ScrapeServer) -> None:
        try:
            server.serve_until_shut_down()
        except OSError as error:
            log.warning("the Prometheus endpoint on %s failed, opening it again: %s", self._listen, error)
        finally:
            with self._lock:
                self._server = None
            server.server_close()

    def _try_to_listen(self) -> None:
        try:
            server = ScrapeServer(self._address, self.render)
        except OSError as error:
            if not self._has_complained:
                reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
                log.warning("Free %s or set prometheus_listen to another address: %s.", self._listen, reason)
            self._has_complained = True
            return
        with self._lock:
            if self._stopping.is_set():
                server.server_close()
                return
            self._server = server
        self._has_complained = False
        log.info("Prometheus can scrape %s", self._listen)
