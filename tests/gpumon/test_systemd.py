from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from gpumon.systemd import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    is_path = request.param == "path"
    address = str(tmp_path / "notify") if is_path else f"@gpumon-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.bind(address if is_path else "\0" + address[1:])
        connection.settimeout(5)
        yield address, connection


def test_states_arrive_as_systemd_expects_them(listener: tuple[str, socket.socket]) -> None:
    address, connection = listener
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})

    notifier.ready("reading GPUs")
    notifier.watchdog()
    notifier.status("no driver")
    notifier.stopping()

    received = [connection.recv(100).decode() for _ in range(4)]
    assert received == ["READY=1\nSTATUS=reading GPUs", "WATCHDOG=1", "STATUS=no driver", "STOPPING=1\nSTATUS=stopping"]


def test_the_watchdog_is_pinged_twice_per_limit() -> None:
    assert Notifier.from_environment({"WATCHDOG_USEC": "60000000"}).ping_seconds == 30.0


@pytest.mark.parametrize(
    "environment", [{}, {"WATCHDOG_USEC": "often"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}]
)
def test_there_is_no_watchdog_where_systemd_asks_for_none_of_this_process(environment: dict[str, str]) -> None:
    assert Notifier.from_environment(environment).ping_seconds is None


def test_without_systemd_nothing_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    Notifier.from_environment({}).ready("reading GPUs")

    assert not caplog.records


def test_a_socket_that_is_gone_costs_a_log_line_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Notifier(str(tmp_path / "gone")).watchdog()

    assert "systemd does not listen" in caplog.text
