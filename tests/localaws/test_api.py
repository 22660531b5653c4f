from __future__ import annotations

import http.client
import io
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localaws import api
from localaws.api import Ec2Call, ObservedApi

_SIGNED_FOR = "AWS4-HMAC-SHA256 Credential=localaws/20260102/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=0"


class RecordingApp:
    """Reads the body as moto does, and answers with one status."""

    def __init__(self, status: str = "200 OK") -> None:
        self.status = status
        self.bodies: list[bytes] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        length = environ.get("CONTENT_LENGTH") or ""
        self.bodies.append(environ["wsgi.input"].read(int(length) if length.isdecimal() else -1))
        start_response(self.status, [("Content-Type", "text/xml"), ("Content-Length", "8")])
        return [b"<answer>"]


def request(body: bytes, *, service: str = "ec2", **changes: str) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": "application/x-www-form-urlencoded; charset=utf-8",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_AUTHORIZATION": _SIGNED_FOR.format(service),
        "wsgi.input": io.BytesIO(body),
        **changes,
    }


def send(observed: ObservedApi, environ: dict[str, Any]) -> tuple[str, bytes]:
    statuses: list[str] = []
    body = b"".join(observed(environ, lambda status, *_: statuses.append(status)))
    return statuses[0], body


def seen(observed: ObservedApi) -> list[Ec2Call]:
    return [observed.calls.get_nowait() for _ in range(observed.calls.qsize())]


_REBOOT = urlencode({"Action": "RebootInstances", "Version": "2016-11-15", "InstanceId.1": "i-1"}).encode()


def test_change_is_seen_and_answered() -> None:
    moto = RecordingApp()
    observed = ObservedApi(moto)

    assert send(observed, request(_REBOOT)) == ("200 OK", b"<answer>")

    parameters = {"Action": "RebootInstances", "Version": "2016-11-15", "InstanceId.1": "i-1"}
    assert seen(observed) == [Ec2Call("RebootInstances", parameters)]
    assert moto.bodies == [_REBOOT]


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        (b"Action=DescribeInstances&Version=2016-11-15", {}),
        (_REBOOT, {"service": "monitoring"}),
        (_REBOOT, {"HTTP_AUTHORIZATION": ""}),
        (_REBOOT, {"CONTENT_TYPE": "application/x-amz-json-1.1"}),
        (b"Version=2016-11-15", {}),
        (b"Action=RebootInstances&Padding=" + b"x" * 1_000_000, {}),
        (_REBOOT, {"CONTENT_LENGTH": ""}),
        (_REBOOT, {"CONTENT_LENGTH": "many"}),
        (_REBOOT, {"CONTENT_LENGTH": "-1"}),
    ],
    ids=["describe", "service", "unsigned", "json", "no-action", "large", "no-length", "bad-length", "negative"],
)
def test_what_changes_no_machine_only_passes_through(body: bytes, changes: dict[str, str]) -> None:
    moto = RecordingApp()
    observed = ObservedApi(moto)

    assert send(observed, request(body, **changes)) == ("200 OK", b"<answer>")

    assert seen(observed) == []
    assert moto.bodies == [body]


def test_a_launch_is_heard_before_its_answer_is_given_and_other_changes_are_not() -> None:
    launched: list[bytes] = []
    observed = ObservedApi(RecordingApp(), launched=launched.append)

    assert send(observed, request(b"Action=RunInstances&ImageId=ami-1")) == ("200 OK", b"<answer>")
    send(observed, request(_REBOOT))
    send(ObservedApi(RecordingApp("400 BAD REQUEST"), launched.append), request(b"Action=RunInstances"))

    assert launched == [b"<answer>"]
    assert [call.action for call in seen(observed)] == ["RunInstances", "RebootInstances"]


@pytest.mark.parametrize("status", ["400 BAD REQUEST", "503 SERVICE UNAVAILABLE"])
def test_call_that_failed_is_not_seen(status: str) -> None:
    observed = ObservedApi(RecordingApp(status))

    assert send(observed, request(_REBOOT))[0] == status

    assert seen(observed) == []


@given(st.one_of(st.binary(), st.binary().map(lambda tail: b"Action=RebootInstances&" + tail)))
def test_any_body_reaches_moto_whole(body: bytes) -> None:
    moto = RecordingApp()
    observed = ObservedApi(moto)

    assert send(observed, request(body))[0] == "200 OK"

    assert moto.bodies == [body]
    for call in seen(observed):
        assert call.action == call.parameters["Action"]
        assert not call.action.startswith("Describe")


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1)))
def test_parameters_are_what_the_client_wrote(parameters: dict[str, str]) -> None:
    written = {**parameters, "Action": "CreateImage"}
    observed = ObservedApi(RecordingApp())

    send(observed, request(urlencode(written).encode()))

    assert seen(observed) == [Ec2Call("CreateImage", written)]


def test_server_answers_on_a_socket_that_listens_already(capfd: pytest.CaptureFixture[str]) -> None:
    observed = ObservedApi(RecordingApp())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = api.serve(observed, listener)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        environ = request(_REBOOT)
        headers = {"Content-Type": environ["CONTENT_TYPE"], "Authorization": environ["HTTP_AUTHORIZATION"]}
        connection = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=30)
        for _ in range(2):
            connection.request("POST", "/", _REBOOT, headers)
            with connection.getresponse() as answer:
                assert answer.read() == b"<answer>"
        connection.close()
        server.shutdown()
        thread.join()
        server.server_close()

    assert [call.action for call in seen(observed)] == ["RebootInstances"] * 2
    assert capfd.readouterr() == ("", "")
