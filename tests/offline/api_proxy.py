"""A proxy before the offline cloud's API: it tells which calls pass, refuses them, or is a network that is cut."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from localaws.layout import Layout


@dataclass(frozen=True)
class Refusal:
    """An error as AWS words it."""

    code: str
    message: str
    status: int = 400

    def answer(self, headers: Any) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body, in the protocol in which the caller asked."""
        if headers.get("smithy-protocol") == "rpc-v2-cbor":
            named = {"smithy-protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"}
            body = b"\xa2" + b"".join(map(_cbor, ("__type", self.code, "message", self.message)))
            return self.status, {**named, "x-amzn-query-error": f"{self.code};Sender"}, body
        if "X-Amz-Target" in headers:
            return self.status, {}, json.dumps({"__type": self.code, "message": self.message}).encode()
        error = f"<Error><Code>{self.code}</Code><Message>{self.message}</Message></Error>"
        if "/ec2/" in headers.get("Authorization", ""):
            return self.status, {}, f"<Response><Errors>{error}</Errors><RequestID>1</RequestID></Response>".encode()
        return self.status, {}, f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>".encode()


def quota_of(vcpus: float) -> Callable[[bytes], dict[str, Any]]:
    """GetServiceQuota of an account with the same value for every quota."""
    return lambda body: {"Quota": {"QuotaCode": json.loads(body)["QuotaCode"], "Value": vcpus}}


_EXPIRED = Refusal("ExpiredToken", "The token is expired")


@dataclass
class ApiProxy:
    """What the tests decide.

    Attributes:
        before: called with a call's name before it is passed on, in the thread that serves it.
        after: the same, once its answer is there.
        is_cut: close every connection without an answer.
        is_expired: answer every call with an expired token.
        answers: by name of a call: what is answered instead of moto's, given the call's body; a dictionary is a
            success in JSON, None passes the call on.
        calls: names of the calls so far, such as `RunInstances`.
    """

    before: Callable[[str], None] = lambda _name: None
    after: Callable[[str], None] = lambda _name: None
    is_cut: bool = False
    is_expired: bool = False
    answers: dict[str, Callable[[bytes], Refusal | dict[str, Any] | None]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)


@contextmanager
def before(upstream: str) -> Iterator[tuple[ApiProxy, str]]:
    """A proxy before an API, and its own URL."""
    proxy = ApiProxy()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy, upstream))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield proxy, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def before_the_api(layout: Layout) -> Iterator[ApiProxy]:
    """Put a proxy between the offline cloud and whoever asks `localaws` for its endpoint."""
    facts = json.loads(layout.daemon_facts.read_text())
    with before(facts["endpoint_url"]) as (proxy, url):
        layout.daemon_facts.write_text(json.dumps({**facts, "endpoint_url": url}))
        try:
            yield proxy
        finally:
            layout.daemon_facts.write_text(json.dumps(facts))


def _handler(proxy: ApiProxy, upstream: str) -> type[BaseHTTPRequestHandler]:
    place = urlsplit(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with suppress(ConnectionResetError):  # who asks may have been killed
                super().handle()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            name = _name(self.path, self.headers, body)
            proxy.calls.append(name)
            proxy.before(name)
            if proxy.is_cut:
                self.close_connection = True
                return
            own = _EXPIRED if proxy.is_expired else proxy.answers.get(name, _pass)(body)
            if isinstance(own, Refusal):
                self._answer(*own.answer(self.headers))
                return
            self._answer(*(self._pass_on(body) if own is None else (200, {}, json.dumps(own).encode())))
            proxy.after(name)

        do_GET = do_PUT = do_POST  # noqa: N815 - the names that http.server looks for

        def _pass_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection(place.netloc, timeout=60)
            try:
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                return answer.status, dict(answer.getheaders()), answer.read()
            finally:
                connection.close()

        def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in {"content-length", "transfer-encoding", "connection", "server", "date"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: Any) -> None:
            """Nothing: pytest shows what matters."""

    return Handler


def _pass(_body: bytes) -> None:
    """No answer of the tests' own."""


def _cbor(text: str) -> bytes:
    """A text of less than 256 bytes (RFC 8949, major type 3)."""
    return b"\x78" + len(text.encode()).to_bytes() + text.encode()


def _name(path: str, headers: Any, body: bytes) -> str:
    """The call's name, in each of the protocols that boto3 and the Go SDK speak."""
    if target := headers.get("X-Amz-Target", ""):
        return str(target).rpartition(".")[2]
    if found := re.search(r"/operation/(\w+)", path):
        return found[1]
    return parse_qs(body.decode(errors="replace")).get("Action", ["?"])[0]
