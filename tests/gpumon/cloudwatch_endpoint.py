"""An HTTP server in the place of CloudWatch: takes every request, remembers it, and answers as planned."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass
class Endpoint:
    """What came in, and what to answer.

    Attributes:
        url: Base URL.
        requests: Headers and body of every request.
        answers: Status and body of the next answers; afterwards it is 200 and an empty JSON document.
        silent: While set, no answer comes.
        delay_seconds: How long an answer takes.
    """

    url: str = ""
    requests: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    silent: bool = False
    delay_seconds: float = 0.0
    end: threading.Event = field(default_factory=threading.Event)


@contextmanager
def cloudwatch_endpoint() -> Iterator[Endpoint]:
    """Serve on a free port of the loopback interface."""
    endpoint = Endpoint()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            endpoint.requests.append((dict(self.headers), body))
            if endpoint.silent:
                endpoint.end.wait(30)
                return
            endpoint.end.wait(endpoint.delay_seconds)
            status, answer = endpoint.answers.pop(0) if endpoint.answers else (200, b"{}")
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield endpoint
    finally:
        endpoint.end.set()
        server.shutdown()
        thread.join()
        server.server_close()
