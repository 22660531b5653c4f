"""The offline cloud's API in this very process: no sockets, a clock of its own, calls that fail and calls that kill."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError
from moto.server import DomainDispatcherApplication, create_backend_app

from gpunodes.aws import Clients
from gpunodes.errors import GpunodesError
from gpunodes.target import Target
from localaws.api import ObservedApi
from localaws.image_lifecycle import ImageLifecycle
from localaws.image_parameters import ImageParameters

_PER_CALL = timedelta(seconds=1.1)  # longer than it takes until a parameter is valid


class Crash(BaseException):
    """The process was killed: nothing of ours may catch it."""


@dataclass
class Clock:
    """UTC, moved by hand."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now


class Api:
    """ObservedApi over moto, reached through botocore's own hook before a request is sent.

    Attributes:
        clock: of it.
        fail_in: so many calls pass, then one fails without an answer; None for never.
        crash_in: so many calls pass, then the process is killed, after the call was done; None for never.
        is_dead: whether the process was killed: then no call is made any more, not even by a clean-up.
        calls: how many were made.
    """

    def __init__(self) -> None:
        moto = DomainDispatcherApplication(create_backend_app)
        self.clock = Clock()
        self._observed = ObservedApi(moto)
        self._observed._images = ImageLifecycle(moto, self.clock)
        self._observed._image_parameters = ImageParameters(moto, self._observed, self.clock)
        self.fail_in: int | None = None
        self.crash_in: int | None = None
        self.is_dead = False
        self.calls = 0
        self._ask("POST", "/moto-api/reset")

    def clients(self) -> Clients:
        """Clients of an account there, as any machine would have them."""
        target = Target(
            name="offline",
            region="us-east-1",
            flavor="debian-12",
            endpoint_url="http://127.0.0.1:9",
            credentials={"aws_access_key_id": "test", "aws_secret_access_key": "test"},
            tolerates_missing_calls=True,
        )
        return _InProcess(target, self)

    @contextmanager
    def trouble(self, fail_in: int | None, crash_in: int | None) -> Iterator[None]:
        """Let a call fail, or kill the process after one; the block may end by that, or by an error of ours."""
        self.fail_in, self.crash_in = fail_in, crash_in
        try:
            yield
        except (Crash, GpunodesError):
            pass
        finally:
            self.fail_in, self.crash_in, self.is_dead = None, None, False

    def send(self, request: Any, **_more: Any) -> AWSResponse:
        """Answer a request of botocore's (`before-send`)."""
        self.calls += 1
        self.clock.now += _PER_CALL
        if self.is_dead:
            raise Crash
        if self.fail_in is not None:
            self.fail_in -= 1
            if self.fail_in < 0:
                self.fail_in = None
                raise EndpointConnectionError(endpoint_url=request.url)
        response = self._answer(request)
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                self.is_dead = True
                raise Crash
        return response

    def _answer(self, request: Any) -> AWSResponse:
        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        url = urlsplit(request.url)
        status, headers, content = self._ask(request.method, url.path or "/", url.query, request.headers, body)
        return AWSResponse(request.url, status, headers, _Raw(content))  # type: ignore[arg-type]

    def _ask(
        self, method: str, path: str, query: str = "", headers: Mapping[str, Any] | None = None, body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "9",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "127.0.0.1:9",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.url_scheme": "http",
        }
        for name, value in (headers or {}).items():
            key = name.upper().replace("-", "_")
            text = value.decode() if isinstance(value, bytes) else str(value)
            environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = text
        started: list[Any] = []
        try:
            chunks = self._observed(environ, lambda status, found, *_: started.extend((status, found)))
            content = b"".join(chunks)
        except Exception:  # noqa: BLE001 - as any server says of an application that fails, here of calls moto lacks
            return 500, {}, b""
        return int(started[0].split()[0]), dict(started[1]), content


class _Raw(io.BytesIO):
    def stream(self, **_arguments: Any) -> Iterator[bytes]:
        yield self.read()


class _InProcess(Clients):
    """Clients whose requests never leave the process."""

    def __init__(self, target: Target, api: Api) -> None:
        super().__init__(target)
        self._api = api
        self._made: dict[tuple[str, str | None], Any] = {}

    def _client(self, service: str, config: Config, region: str | None = None) -> Any:
        if (service, region) not in self._made:
            once = config.merge(Config(retries={"total_max_attempts": 1}))
            made = self._session.client(service, region, endpoint_url=self.target.endpoint_url, config=once)  # type: ignore[call-overload]
            made.meta.events.register("before-send", self._api.send)
            self._made[service, region] = made
        return self._made[service, region]
