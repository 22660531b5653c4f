"""Stand-ins for what the agent talks to."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from localaws.downloads.agent.publisher import Datum

IDENTITY = {"instanceId": "i-0123", "instanceType": "g4dn.xlarge", "imageId": "ami-0123", "region": "us-east-1"}


class RecordingSink:
    """Takes datapoints, or refuses them while `broken`."""

    def __init__(self) -> None:
        self.broken = False
        self.batches: list[list[Datum]] = []

    def put(self, namespace: str, data: Sequence[Datum]) -> None:
        assert namespace == "CWAgent"
        if self.broken:
            raise OSError("down")
        self.batches.append(list(data))


class _FakeMetadata(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        self._answer("token" if self.path == "/latest/api/token" else "")

    def do_GET(self) -> None:
        has_token = self.headers["X-aws-ec2-metadata-token"] == "token"
        known = self.path == "/latest/dynamic/instance-identity/document" and has_token
        self._answer(json.dumps(IDENTITY) if known else "")

    def _answer(self, text: str) -> None:
        self.send_response(200 if text else 401)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def fake_metadata() -> Iterator[str]:
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), _FakeMetadata)) as url:
        yield url
