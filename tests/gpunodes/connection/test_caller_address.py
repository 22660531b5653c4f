from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
import urllib3

from gpunodes.connection.caller_address import CHECK_IP_URL, caller_network
from gpunodes.errors import PreflightError
from gpunodes.http_get import fetch


def test_the_answer_becomes_a_network_of_one_address() -> None:
    asked: list[str] = []

    def ask(url: str) -> str:
        asked.append(url)
        return "8.8.4.4\n"

    assert caller_network(ask) == "8.8.4.4/32"
    assert asked == [CHECK_IP_URL]
    assert CHECK_IP_URL == "https://checkip.amazonaws.com"


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("", "which is no IPv4 address"),
        ("<html>log in to the hotel's network</html>", "which is no IPv4 address"),
        ("2001:4860:4860::8888", "which is no IPv4 address"),
        ("8.8.8.8, 10.0.0.1", "which is no IPv4 address"),
        ("8.8.8.0/24", "which is no IPv4 address"),
        ("10.1.2.3", "10.1.2.3, which is no public address"),
        ("127.0.0.1", "which is no public address"),
        ("0.0.0.0", "which is no public address"),
        ("100.64.0.1", "which is no public address"),
        ("224.0.0.1", "which is no public address"),
    ],
)
def test_an_answer_that_is_no_public_address_is_refused(answer: str, complaint: str) -> None:
    with pytest.raises(PreflightError, match=complaint) as refused:
        caller_network(lambda _url: answer)

    assert "set ssh_source_cidr" in str(refused.value)


@pytest.mark.parametrize(
    "error", [urllib3.exceptions.ConnectTimeoutError("late"), OSError("no route"), ValueError("HTTP")]
)
def test_nobody_answering_is_said_with_the_way_out(error: Exception) -> None:
    def fail(_url: str) -> str:
        raise error

    with pytest.raises(PreflightError, match=r"did not say this machine's address .* set ssh_source_cidr"):
        caller_network(fail)


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_arguments: object) -> None:
            pass

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def respond(status: int, body: bytes, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def test_no_more_than_an_address_is_read() -> None:
    with serving(respond(200, b"8" * 10_000)) as url:
        assert fetch(url) == "8" * 64


@pytest.mark.parametrize("status", [302, 403, 500])
def test_another_status_is_no_answer(status: int) -> None:
    with serving(respond(status, b"8.8.8.8", Location="/")) as url, pytest.raises(ValueError, match=str(status)):
        fetch(url)


def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    silent = threading.Event()

    def wait_for_the_end(_handler: BaseHTTPRequestHandler) -> None:
        silent.wait(5)

    with serving(wait_for_the_end) as url:
        with pytest.raises(urllib3.exceptions.HTTPError):
            fetch(url, timeout_seconds=0.05)
        silent.set()
