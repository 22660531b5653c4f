"""An HTTP server on loopback in the place of CloudWatch and of the instance metadata service (IMDSv2)."""

from __future__ import annotations

import http.server
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN_PATH = "/latest/api/token"
DOCUMENT_PATH = "/latest/dynamic/instance-identity/document"
TOKEN = "benchmark-token"
IDENTITY = {
    "instanceId": "i-0123456789abcdef0",
    "instanceType": "p5.48xlarge",
    "imageId": "ami-0123456789abcdef0",
    "region": "us-east-1",
}
_PUT_METRIC_DATA = "PutMetricData"


class Call(NamedTuple):
    """One PutMetricData call that was accepted."""

    monotonic_seconds: float
    body_bytes: int
    is_gzip: bool


@dataclass
class Stub:
    """What came in.

    Attributes:
        url: Base URL of both services.
        calls: Accepted PutMetricData calls, oldest first.
        strangers: Requests that neither service knows, which are refused: none is expected.
        arrived: Set at each accepted call.
    """

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)

    def calls_between(self, begin: float, end: float) -> list[Call]:
        """Return the calls accepted from `begin` until before `end`, in monotonic seconds."""
        return [call for call in self.calls if begin <= call.monotonic_seconds < end]


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, stub: Stub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stub = stub


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_cbor = self.headers.get("smithy-protocol") == "rpc-v2-cbor"
        target = self.path if is_cbor else self.headers.get("X-Amz-Target", "")
        if not target.endswith(_PUT_METRIC_DATA) or "Authorization" not in self.headers:
            self._refuse(400)
            return
        if is_cbor:
            self._answer(b"\xa0", "application/cbor", {"smithy-protocol": "rpc-v2-cbor"})
        else:
            self._answer(b"{}", "application/x-amz-json-1.0")
        is_gzip = self.headers.get("Content-Encoding") == "gzip"
        self.server.stub.calls.append(Call(time.monotonic(), len(body), is_gzip))
        self.server.stub.arrived.set()

    def do_PUT(self) -> None:
        if self.path == TOKEN_PATH and "X-aws-ec2-metadata-token-ttl-seconds" in self.headers:
            self._answer(TOKEN.encode(), "text/plain")
        else:
            self._refuse(400)

    def do_GET(self) -> None:
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            self._refuse(401)
        elif self.path == DOCUMENT_PATH:
            self._answer(json.dumps(IDENTITY).encode(), "application/json")
        else:
            self._refuse(404)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, body: bytes, content_type: str, more: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        headers = {"Content-Type": content_type, "Content-Length": str(len(body)), **(more or {})}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int) -> None:
        self.server.stub.strangers.append(f"{self.command} {self.path}")
        self._answer(b"", "text/plain", status=status)


@contextmanager
def serving() -> Iterator[Stub]:
    """Serve both on a free port of the loopback interface."""
    stub = Stub()
    server = _Server(stub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
