"""The program that runs on the instance, on this machine."""

from __future__ import annotations

import ipaddress
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gpunodes.proof.on_instance import look_around


def test_it_prints_one_document_anywhere() -> None:
    printed = subprocess.run(
        [sys.executable, "-B", look_around.__file__], capture_output=True, text=True, check=True, cwd="/", timeout=60
    ).stdout

    assert set(json.loads(printed)) == {
        "boot_seconds", "cloud_init_errors", "failed_units", "imds_v1_status", "imds_v2_status",
        "listeners", "boot_id", "unix_time",
    }  # fmt: skip


def test_a_socket_that_takes_what_comes_from_outside_is_found_with_its_process() -> None:
    with socket.create_server(("0.0.0.0", 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("0.0.0.0", 0))
        doors = {("tcp", tcp.getsockname()[1]), ("udp", udp.getsockname()[1])}

        found = look_around.listeners(Path("/proc"))

    ours = [one for one in found if (one["protocol"], one["port"]) in doors]
    assert len(ours) == 2
    assert {one["process"] for one in ours} == {Path("/proc/self/comm").read_text().strip()}
    assert {one["address"] for one in ours} == {"0.0.0.0"}


def test_loopback_and_connections_are_no_doors() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        ports = {server.getsockname()[1], client.getsockname()[1]}

        found = look_around.listeners(Path("/proc"))

    assert not any(one["port"] in ports for one in found)


@pytest.mark.skipif(sys.byteorder != "little", reason="the lines are of a little-endian machine")
@pytest.mark.parametrize(
    ("field", "address", "port"),
    [
        ("0100007F:1F90", "127.0.0.1", 8080),
        ("00000000:0016", "0.0.0.0", 22),
        ("00000000000000000000000000000000:2460", "::", 9312),
        ("00000000000000000000000001000000:0050", "::1", 80),
        ("0000000000000000FFFF00000100007F:0050", "127.0.0.1", 80),
    ],
)
def test_addresses_are_read_as_the_kernel_writes_them(field: str, address: str, port: int) -> None:
    assert look_around.address_of(field) == (ipaddress.ip_address(address), port)


def test_a_kernel_without_ipv6_has_fewer_tables(tmp_path: Path) -> None:
    net = tmp_path / "net"
    net.mkdir()
    heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    line = (
        "   0: 00000000:{port} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
    )
    (net / "tcp").write_text(heading + line.format(port="0016", state="0A", inode=7))
    (net / "udp").write_text(heading + line.format(port="0044", state="07", inode=8))

    assert look_around.listeners(tmp_path) == [
        {"port": 22, "protocol": "tcp", "address": "0.0.0.0", "process": ""},
        {"port": 68, "protocol": "udp", "address": "0.0.0.0", "process": ""},
    ]
