from __future__ import annotations

import contextlib
import http.server
import json
import threading
from typing import TYPE_CHECKING, ClassVar

import pytest

from gpumon.errors import IdentityUnavailableError
from gpumon.identity import InstanceIdentity, fetch_identity

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = {"instanceId": "i-1", "instanceType": "g4dn.xlarge", "imageId": "ami-1", "region": "us-east-1", "x": 1}


class FakeMetadata(http.server.BaseHTTPRequestHandler):
    """Version 2 only: no document without the token that a PUT gave."""

    document: ClassVar[bytes] = b""
    refuses: ClassVar[bool] = False

    def do_PUT(self) -> None:
        has_ttl = self.headers["X-aws-ec2-metadata-token-ttl-seconds"] is not None
        if self.path != "/latest/api/token" or not has_ttl or self.refuses:
            self.send_error(403)
            return
        self._answer(b"a-token")

    def do_GET(self) -> None:
        if self.headers["X-aws-ec2-metadata-token"] != "a-token":
            self.send_error(401)
        elif self.path != "/latest/dynamic/instance-identity/document":
            self.send_error(404)
        else:
            self._answer(self.document)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass


class Endpoint:
    def __init__(self, url: str, handler: type[FakeMetadata]) -> None:
        self.url = url
        self.handler = handler


@contextlib.contextmanager
def serve(handler: type[FakeMetadata]) -> Iterator[str]:
    """Serve metadata on loopback; give the base URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    handler = type("Handler", (FakeMetadata,), {"document": json.dumps(DOCUMENT).encode()})
    with serve(handler) as url:
        yield Endpoint(url, handler)


def test_the_identity_comes_from_the_document_with_a_token(endpoint: Endpoint) -> None:
    assert fetch_identity(endpoint.url + "/") == InstanceIdentity("i-1", "g4dn.xlarge", "ami-1", "us-east-1")


def test_a_proxy_of_the_environment_is_not_asked(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    assert fetch_identity(endpoint.url).instance_id == "i-1"


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b"\xff", b'{"instanceId": "i-1"}'])
def test_a_document_that_is_none_is_unavailable(endpoint: Endpoint, document: bytes) -> None:
    endpoint.handler.document = document

    with pytest.raises(IdentityUnavailableError, match=endpoint.url):
        fetch_identity(endpoint.url)


def test_a_service_that_refuses_tokens_is_unavailable(endpoint: Endpoint) -> None:
    endpoint.handler.refuses = True

    with pytest.raises(IdentityUnavailableError, match="403"):
        fetch_identity(endpoint.url)


def test_a_service_that_is_not_there_is_unavailable(endpoint: Endpoint) -> None:
    url = endpoint.url.rsplit(":", 1)[0] + ":1"

    with pytest.raises(IdentityUnavailableError, match="Enable the instance metadata service"):
        fetch_identity(url, timeout_seconds=0.2)
