"""The offline cloud's API in this very process: no sockets, a clock of its own, calls that fail and calls that kill.

What happens between two calls can be anything: another process may run from its begin to its end there.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore import UNSIGNED
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from gpunodes.aws import Clients
from gpunodes.errors import GpunodesError
from gpunodes.target import Target
from localaws.api import ObservedApi
from localaws.image_copies import ImageCopies
from localaws.image_lifecycle import ImageLifecycle
from localaws.image_parameters import ImageParameters
from localaws.image_usage import ImageUsage
from localaws.instance_refresh import InstanceRefreshes
from localaws.referrers import Referrers
from localaws.request_origin import in_account
from tests.gpunodes.lifecycle import moto_in_process

_BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
_PER_CALL = timedelta(seconds=1.1)  # longer than it takes until a parameter is valid
_NO_SUCH_CALL = b"<Response><Errors><Error><Code>InvalidAction</Code></Error></Errors></Response>"  # of EC2
_SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260301/{}/{}/aws4_request, SignedHeaders=host, Signature=0"
_TARGET = Target(
    name="offline",
    region=moto_in_process.REGION,
    flavor="debian-12",
    endpoint_url="http://127.0.0.1:9",
    credentials={"aws_access_key_id": "test", "aws_secret_access_key": "test"},
    tolerates_missing_calls=True,
)
_SESSION = boto3.Session(region_name=_TARGET.region, **_TARGET.credentials)  # type: ignore[arg-type]


class Crash(BaseException):
    """The process was killed: nothing of ours may catch it."""


@dataclass(frozen=True)
class Trouble:
    """What befalls a process; each number counts the calls that pass before.

    Attributes:
        fail_in: then one gets no answer; None for never.
        was_heard: whether that one was carried out all the same.
        crash_in: then the process is killed after a call was done; None for never.
        meet_in: then `meeting` happens before the next call; None for never.
        meeting: such as another process.
    """

    fail_in: int | None = None
    was_heard: bool = False
    crash_in: int | None = None
    meet_in: int | None = None
    meeting: Callable[[], object] = lambda: None


@dataclass
class Process:
    """Somebody who makes calls.

    Attributes:
        trouble: that befalls it.
        calls: how many it made.
        is_dead: killed: then no call is made any more, not even by a clean-up.
        ended_by: an error of ours, or the crash; None where it got to its end.
        runs: ids of those that it began.
    """

    trouble: Trouble = field(default_factory=Trouble)
    calls: int = 0
    is_dead: bool = False
    ended_by: BaseException | None = None
    runs: list[str] = field(default_factory=list)

    def die(self) -> NoReturn:
        """It is killed between two calls."""
        self.is_dead = True
        raise Crash


@dataclass(frozen=True)
class Call:
    """A call that is about to be made.

    Attributes:
        action: as in the API reference.
        asked: its parameters: EC2's form, or SSM's document.
    """

    action: str
    asked: Mapping[str, Any]


class Api:
    """ObservedApi over moto, reached through botocore's own hook before a request is sent.

    Attributes:
        now: UTC; moved by each call, and by hand.
        watch: told of each call before it is made.
        calls: how many were made.
        account_id: in whose name they are made.
        lacks: names of calls that it does not have.
    """

    def __init__(self) -> None:
        moto_in_process.reset()
        self.now = _BEGIN
        self.watch: Callable[[Call], None] = lambda _call: None
        self.calls = 0
        self._processes = [Process()]
        self._observed = ObservedApi(moto_in_process.application)
        self._observed._images = self.images = ImageLifecycle(moto_in_process.application, self.clock)
        self._observed._image_copies = ImageCopies(moto_in_process.application, self.images.answer, self.clock)
        self._observed._image_parameters = ImageParameters(moto_in_process.application, self._observed, self.clock)
        referrers = Referrers(self._observed, self._observed._image_builder)
        self._observed._image_usage = ImageUsage(self._observed, referrers, self.clock)
        self.account_id = moto_in_process.ACCOUNT
        self.lacks: set[str] = set()
        self._observed._refreshes = InstanceRefreshes(self._observed._without_waiting, clock=self.clock)
        self.clients = ClientsInProcess()
        ClientsInProcess.api = self

    def clock(self) -> datetime:
        """UTC."""
        return self.now

    def wait(self, seconds: float) -> None:
        """Sleep."""
        self.now += timedelta(seconds=seconds)

    @property
    def runs_of_this_process(self) -> list[str]:
        """Of whoever makes calls now."""
        return self._processes[-1].runs

    def settle(self) -> None:
        """Let what was written become valid."""
        self.now += timedelta(seconds=2)
        self._observed._image_parameters._settle()

    @contextmanager
    def process(self, trouble: Trouble | None = None) -> Iterator[Process]:
        """What is called meanwhile is its own process's, which may end by its trouble, or an error of ours."""
        made = Process(trouble or Trouble())
        self._processes.append(made)
        try:
            yield made
        except (Crash, GpunodesError) as error:
            made.ended_by = error
        finally:
            self._processes.remove(made)

    def send(self, service: str, region: str, request: Any) -> AWSResponse:
        """Answer a request of botocore's (`before-send`)."""
        process = self._processes[-1]
        trouble, number = process.trouble, process.calls
        process.calls += 1
        self.calls += 1
        self.now += _PER_CALL
        if process.is_dead:
            raise Crash
        if number == trouble.meet_in:
            trouble.meeting()
        if number == trouble.fail_in and not trouble.was_heard:
            raise EndpointConnectionError(endpoint_url=request.url)
        response = self._answer(service, region, request)
        if number == trouble.fail_in:
            raise ReadTimeoutError(endpoint_url=request.url)
        if number == trouble.crash_in:
            process.is_dead = True
            raise Crash
        return response

    def _answer(self, service: str, region: str, request: Any) -> AWSResponse:
        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        environ = in_account(_environ(service, region, request, body), self.account_id)
        call = _call(environ, body)
        if call.action in self.lacks:
            return AWSResponse(request.url, 400, {}, _Raw(_NO_SUCH_CALL))  # type: ignore[arg-type]
        self.watch(call)
        started: list[Any] = []
        try:
            chunks = self._observed(environ, lambda status, found, *_: started.extend((status, found)))
            content = b"".join(chunks)
        except NotImplementedError:  # of moto, of calls that it lacks; its server would say
            return AWSResponse(request.url, 501, {}, _Raw(b""))  # type: ignore[arg-type]
        return AWSResponse(request.url, int(started[0].split()[0]), dict(started[1]), _Raw(content))  # type: ignore[arg-type]


def _environ(service: str, region: str, request: Any, body: bytes) -> dict[str, Any]:
    url = urlsplit(request.url)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "PATH_INFO": url.path or "/",
        "QUERY_STRING": url.query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "9",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "127.0.0.1:9",
        "HTTP_AUTHORIZATION": _SIGNED.format(region, service),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.url_scheme": "http",
    }
    for name, value in request.headers.items():
        key = name.upper().replace("-", "_")
        text = value.decode() if isinstance(value, bytes) else str(value)
        environ[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"] = text
    return environ


def _call(environ: Mapping[str, Any], body: bytes) -> Call:
    if target := environ.get("HTTP_X_AMZ_TARGET", ""):
        return Call(target.partition(".")[2], json.loads(body))
    form = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
    return Call(form.get("Action", ""), form)


class _Raw(io.BytesIO):
    def stream(self, **_arguments: Any) -> Iterator[bytes]:
        yield self.read()


class ClientsInProcess(Clients):
    """Clients whose requests never leave the process; they serve one API after the other."""

    api: Api

    def __init__(self, target: Target = _TARGET) -> None:
        super().__init__(target, _SESSION)

    def _there(self, target: Target) -> Clients:
        return ClientsInProcess(target)

    def _client(self, service: str, _config: Config, region: str | None = None) -> Any:
        return _made(service, region or self.target.region)


@cache
def _made(service: str, region: str) -> Any:
    config = Config(retries={"total_max_attempts": 1}, user_agent="test", signature_version=UNSIGNED)
    made = _SESSION.client(service, region, endpoint_url=_TARGET.endpoint_url, config=config)  # type: ignore[call-overload]
    made.meta.events.register("before-send", lambda request, **_: ClientsInProcess.api.send(service, region, request))
    return made
