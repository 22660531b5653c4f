from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from gpumon.addresses import Address, parse_listen
from gpumon.sinks import prometheus_server
from gpumon.sinks.prometheus_server import ScrapeServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Connect = Callable[..., socket.socket]

BODY = b"up 1\n"


class Renderer:
    """Answers with `body`, or raises."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.body = BODY
        self.asked: list[Sequence[str]] = []

    def __call__(self, names: Sequence[str]) -> bytes:
        self.asked.append(names)
        if self.error:
            raise self.error
        return self.body


@pytest.fixture
def renderer() -> Renderer:
    return Renderer()


@pytest.fixture
def server(renderer: Renderer) -> Iterator[ScrapeServer]:
    server = ScrapeServer(Address("127.0.0.1", 0), renderer)
    thread = threading.Thread(target=server.serve_until_shut_down)
    thread.start()
    yield server
    server.shut_down()
    thread.join(10)
    server.server_close()


def ask(server: ScrapeServer, method: str = "GET", path: str = "/metrics") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


@pytest.fixture
def connect(server: ScrapeServer) -> Iterator[Connect]:
    with ExitStack() as clients:

        def one_more(sent: bytes = b"") -> socket.socket:
            client = clients.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            client.sendall(sent)
            return client

        yield one_more


def is_cut_off(client: socket.socket) -> bool:
    client.settimeout(3)  # less than what ends every connection
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def test_metrics_are_text_of_known_length(server: ScrapeServer) -> None:
    status, headers, body = ask(server)

    assert (status, body) == (200, BODY)
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert headers["content-length"] == str(len(BODY))


def test_head_has_the_headers_alone(connect: Connect) -> None:
    client = connect(b"HEAD /metrics HTTP/1.0\r\n\r\n")

    received = b"".join(iter(lambda: client.recv(4096), b""))

    assert received.startswith(b"HTTP/1.0 200 ")
    assert f"Content-Length: {len(BODY)}".encode() in received
    assert received.endswith(b"\r\n\r\n")


def test_front_page_leads_to_the_metrics(server: ScrapeServer) -> None:
    status, _, body = ask(server, path="/")

    assert status == 200
    assert b"href=/metrics" in body


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/other", 404), ("POST", "/metrics", 501)])
def test_other_requests_are_refused(
    server: ScrapeServer, renderer: Renderer, method: str, path: str, status: int
) -> None:
    assert ask(server, method, path)[0] == status
    assert renderer.asked == []


def test_names_are_handed_on(server: ScrapeServer, renderer: Renderer) -> None:
    ask(server, path="/metrics?name[]=a&name[]=b&other=c")

    assert renderer.asked == [["a", "b"]]


def test_clients_that_never_finish_block_nobody(server: ScrapeServer, connect: Connect) -> None:
    slow = [connect(b"GET /metrics HTTP/1.0\r\nHost: ") for _ in range(40)]

    assert ask(server)[2] == BODY

    # A listening queue and threads need a moment; what counts is that the oldest are cut off without a time-out.
    assert is_cut_off(slow[0])


def test_only_so_many_connections_of_one_address_stay_open(connect: Connect) -> None:
    clients = [connect() for _ in range(10)]

    assert all(is_cut_off(client) for client in clients[:6])
    for client in clients[6:]:
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_connections_of_all_addresses_together_are_bounded(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_server, "MOST_CONNECTIONS_OF_ADDRESS", 100)

    clients = [connect() for _ in range(20)]

    assert all(is_cut_off(client) for client in clients[:4])


@pytest.mark.parametrize("endless", [b"GET /metrics HTTP/1.0\r\n" + b"X: y\r\n" * 10_000, b"G" * 100_000])
def test_endless_request_is_cut_off(server: ScrapeServer, connect: Connect, endless: bytes) -> None:
    client = connect()
    client.settimeout(10)

    with pytest.raises((ConnectionError, StopIteration)):  # noqa: PT012 - which of the calls meets it is open
        for _ in range(1000):
            client.sendall(endless)
        raise AssertionError("100 MB were taken")

    assert ask(server)[2] == BODY


def test_no_more_of_a_request_is_taken_than_its_limit() -> None:
    client, connection = socket.socketpair()
    with client, connection:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        client.sendall(b"x" * 100_000)

        taken = io.BufferedReader(prometheus_server._Request(connection)).read()

    assert len(taken) == prometheus_server.MOST_REQUEST_BYTES


def test_request_whose_time_is_over_gets_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_server, "REQUEST_SECONDS", 0.0)
    client, connection = socket.socketpair()
    with client, connection:
        client.sendall(b"x")

        with pytest.raises(TimeoutError, match="takes too long"):
            prometheus_server._Request(connection).readinto(bytearray(1))


def test_request_that_comes_drop_by_drop_ends_in_time(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prometheus_server, "REQUEST_SECONDS", 0.2)
    client = connect(b"GET /metrics HTTP/1.0\r\nX: ")
    client.settimeout(0.05)

    with pytest.raises(ConnectionError):  # noqa: PT012 - each drop may be the one that finds the connection closed
        for _ in range(100):
            client.sendall(b"x")
            with suppress(TimeoutError):
                if client.recv(1) == b"":
                    raise ConnectionResetError
    assert caplog.records == []


def test_reader_that_does_not_read_ends_in_time(
    connect: Connect, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus_server._Handler, "timeout", 0.2)
    monkeypatch.setattr(prometheus_server, "REQUEST_SECONDS", 0.2)
    renderer.body = b"x" * 50_000_000
    before = threading.active_count()
    client = connect(b"GET /metrics HTTP/1.0\r\n\r\n")

    received = len(client.recv(1))
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while more := client.recv(1 << 20):
        received += len(more)

    assert received < 50_000_000


def test_error_in_an_answer_is_reported_and_ends_only_that_connection(
    server: ScrapeServer, renderer: Renderer, caplog: pytest.LogCaptureFixture
) -> None:
    renderer.error = ValueError("a mistake")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        ask(server)
    renderer.error = None

    assert ask(server)[2] == BODY
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_client_that_leaves_is_no_error(
    server: ScrapeServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    for sent in (b"", b"GET", b"\x00\xff\r\n\r\n", b"GET /metrics HTTP/1.0\r\n\r\n"):
        connect(sent).close()

    assert ask(server)[2] == BODY
    assert caplog.records == []


def test_threads_end_with_their_connections(server: ScrapeServer) -> None:
    before = threading.active_count()
    for _ in range(100):
        ask(server)

    assert threading.active_count() <= before + 2
    assert server._connections == {} or len(server._connections) <= 2


def test_all_addresses_are_those_of_both_families() -> None:
    server = ScrapeServer(Address("", 0), lambda _names: BODY)
    try:
        for host in ["127.0.0.1", *(["::1"] if socket.has_dualstack_ipv6() else [])]:
            socket.create_connection((host, server.port), timeout=10).close()
    finally:
        server.server_close()


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python knows no IPv6")
def test_address_of_ipv6_can_be_chosen() -> None:
    server = ScrapeServer(parse_listen("[::1]:0"), lambda _names: BODY)
    try:
        socket.create_connection(("::1", server.port), timeout=10).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=10)
    finally:
        server.server_close()


def test_taken_port_is_an_error_of_the_system(server: ScrapeServer) -> None:
    with pytest.raises(OSError, match="in use"):
        ScrapeServer(Address("127.0.0.1", server.port), lambda _names: BODY)
