"""A small HTTP server for scrapes that no client can hold up, fill up or wear out.

Every connection has a thread, a size limit and a time limit of its own. Where there are too many, the newest wins: the
oldest of the same address, then the oldest of all, is cut off, so a client that never finishes is in nobody's way.
"""

from __future__ import annotations

import io
import logging
import os
import selectors
import socket
import socketserver
import sys
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from gpumon.sinks.prometheus_text import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpumon.addresses import Address

    Render = Callable[[Sequence[str]], bytes]

MOST_CONNECTIONS = 16
MOST_CONNECTIONS_OF_ADDRESS = 4
MOST_THREADS = 32  # those of connections that were cut off may need a moment to end
MOST_REQUEST_BYTES = 16 * 1024
REQUEST_SECONDS = 10.0  # for all of a request, and again for all of the answer

PAGE = b"<!doctype html><title>gpumon</title><p>gpumon: <a href=/metrics>metrics</a></p>\n"

log = logging.getLogger(__name__)


class ScrapeServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves ``/metrics`` and a page that leads there; listens as soon as it is made."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: Address, render: Render) -> None:
        """Listen.

        Args:
            address: Where.
            render: Returns the text of all series, or of those whose names are given.

        Raises:
            OSError: The port is taken, or the address is not one of this host.
        """
        self.render = render
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, str] = {}  # oldest first
        self._free_threads = threading.BoundedSemaphore(MOST_THREADS)
        super().__init__(address, _Handler, bind_and_activate=False)
        self.socket.close()  # made for IPv4 before the address was known
        self.socket = _listening_socket(address)
        self.server_address = self.socket.getsockname()
        self._shut_down: int | None = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.timeout = 0  # `handle_request` is called when a connection waits

    @property
    def port(self) -> int:
        """TCP port that it listens on."""
        return int(self.socket.getsockname()[1])

    def serve_until_shut_down(self) -> None:
        """Serve; unlike `serve_forever` without waking up twice a second to see whether it is over.

        Raises:
            OSError: Nobody can be waited for any more.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            if self._shut_down is not None:
                selector.register(self._shut_down, selectors.EVENT_READ)
            while all(key.fileobj is self for key, _ in selector.select()):
                self.handle_request()

    def shut_down(self) -> None:
        """End `serve_until_shut_down`, from any thread; nothing happens if the server is closed."""
        with self._lock:
            if self._shut_down is not None:
                os.eventfd_write(self._shut_down, 1)

    def server_close(self) -> None:
        """Stop listening, once `serve_until_shut_down` is over."""
        super().server_close()
        with self._lock:
            descriptor, self._shut_down = self._shut_down, None
        if descriptor is not None:
            os.close(descriptor)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        try:
            return self.socket.accept()
        except OSError:
            time.sleep(0.1)  # no descriptor is free; the connection stays in the queue and would be tried at once
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a thread for a connection."""
        if not self._free_threads.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._make_room(request, str(client_address[0]))
        try:
            super().process_request(request, client_address)
        except Exception:  # no thread could be started
            self._free_threads.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free_threads.release()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - of the base class
        """Log what ended a connection: most often the client, which left."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            log.debug("%s left: %s", client_address[0], error)
        else:
            log.error("Report this error: a scrape could not be answered.", exc_info=error)

    def _make_room(self, request: socket.socket, host: str) -> None:
        with self._lock:
            same = [other for other, address in self._connections.items() if address == host]
            cut = same[: max(0, len(same) - MOST_CONNECTIONS_OF_ADDRESS + 1)]
            if not cut and len(self._connections) >= MOST_CONNECTIONS:
                cut = [next(iter(self._connections))]
            for other in cut:
                del self._connections[other]
                with suppress(OSError):
                    other.shutdown(socket.SHUT_RDWR)
            self._connections[request] = host


def _listening_socket(address: Address) -> socket.socket:
    if address.host:
        family, *_, found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(found, family=family)
    if socket.has_dualstack_ipv6():
        with suppress(OSError):  # IPv6 can be compiled in and still be switched off
            return socket.create_server(("::", address.port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("0.0.0.0", address.port))  # noqa: S104 - the setting asks for all addresses


class _Request(io.RawIOBase):
    """What a client sends: up to a size, beyond which it seems to have ended, and up to a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._bytes_left = MOST_REQUEST_BYTES
        self._deadline = time.monotonic() + REQUEST_SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the request takes too long")
        self._connection.settimeout(seconds)
        count = self._connection.recv_into(memoryview(buffer)[: self._bytes_left])
        self._connection.settimeout(REQUEST_SECONDS)
        self._bytes_left -= count
        return count


class _Handler(BaseHTTPRequestHandler):
    """Answers one request; HTTP/1.0, so the connection ends with it."""

    server: ScrapeServer
    server_version = "gpumon"
    sys_version = ""
    timeout = REQUEST_SECONDS

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_Request(self.connection))

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/metrics":
            # `name[]` chooses series, as in all of Prometheus's own client libraries.
            self._answer(CONTENT_TYPE, self.server.render(parse_qs(query).get("name[]", [])))
        elif path == "/":
            self._answer("text/html; charset=utf-8", PAGE)
        else:
            self.send_error(HTTPStatus.NOT_FOUND, explain="The metrics are at /metrics.")

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - of the base class
        log.debug(f"%s: {format}", self.client_address[0], *args)

    def _answer(self, content_type: str, body: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
