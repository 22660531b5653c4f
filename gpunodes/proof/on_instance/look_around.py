"""Says what a fresh instance is like, as one JSON document; runs on the instance as root with any Python 3.9 or newer.

boot_seconds: systemd's time from its start to the end of boot; null while it is still booting
cloud_init_errors: what cloud-init's result says; null while there is none
failed_units: systemd units
imds_v1_status, imds_v2_status: HTTP status of a metadata request without and with a token; null where nobody answered
listeners: port, protocol, address and process of each socket that takes what comes from outside
unix_time: by this machine's clock
boot_id: another after every boot
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import pathlib
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException

_METADATA = "169.254.169.254"
_INSTANCE_ID = "/latest/meta-data/instance-id"
_LISTENING = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}  # states in /proc/net, see proc(5)


def main() -> None:
    """Print the document."""
    json.dump(
        {
            "boot_seconds": boot_seconds(),
            "cloud_init_errors": cloud_init_errors(),
            "failed_units": failed_units(),
            "imds_v1_status": metadata("GET", _INSTANCE_ID)[0],
            "imds_v2_status": imds_v2_status(),
            "listeners": listeners(pathlib.Path("/proc")),
            "boot_id": pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "unix_time": time.time(),
        },
        sys.stdout,
    )


def boot_seconds() -> float | None:
    """From systemd's start to the end of boot (org.freedesktop.systemd1.Manager), which is waited for a minute."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        output("systemctl", "is-system-running", "--wait", seconds=60)
    names = ["UserspaceTimestampMonotonic", "FinishTimestampMonotonic"]
    shown = output("systemctl", "show", *[f"--property={name}" for name in names])
    stamps = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    begun, finished = (int(stamps.get(name) or 0) for name in names)
    return (finished - begun) / 1e6 if finished else None


def cloud_init_errors() -> list[str] | None:
    """What `/run/cloud-init/result.json` lists."""
    try:
        result = json.loads(pathlib.Path("/run/cloud-init/result.json").read_text())
    except FileNotFoundError:
        return None
    return [str(error) for error in result["v1"]["errors"]]


def failed_units() -> list[str]:
    """Names."""
    lines = output("systemctl", "list-units", "--failed", "--plain", "--no-legend", "--full").splitlines()
    return [line.split()[0] for line in lines if line.strip()]


def imds_v2_status() -> int | None:
    """With a session token."""
    status, token = metadata("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    if status != 200:
        return status
    return metadata("GET", _INSTANCE_ID, {"X-aws-ec2-metadata-token": token})[0]


def metadata(method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int | None, str]:
    """Status and text of an answer of the instance metadata service; no status where there is none."""
    connection = HTTPConnection(_METADATA, timeout=5)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, HTTPException):
        return None, ""
    finally:
        connection.close()


def listeners(proc: pathlib.Path) -> list[dict[str, object]]:
    """Sockets of TCP and UDP that wait for whoever comes, on any address but loopback's."""
    owners = processes_by_socket(proc)
    found = {}
    for table, state in _LISTENING.items():
        for line in lines_of(proc / "net" / table):
            words = line.split()
            address, port = address_of(words[1])
            if words[3] != state or port == 0 or address.is_loopback:
                continue
            protocol = table.rstrip("6")
            found[protocol, port, str(address)] = owners.get(words[9], "")
    return [
        {"port": port, "protocol": protocol, "address": address, "process": process}
        for (protocol, port, address), process in sorted(found.items())
    ]


def lines_of(table: pathlib.Path) -> list[str]:
    """Without the heading; none where the kernel has no IPv6."""
    return table.read_text().splitlines()[1:] if table.exists() else []


def address_of(field: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    """Address and port as /proc/net writes them: 32-bit words in the machine's order, in hexadecimal."""
    address, port = field.split(":")
    raw = bytes.fromhex(address)
    words = [raw[begin : begin + 4] for begin in range(0, len(raw), 4)]
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    found = ipaddress.ip_address(socket.inet_ntop(family, packed))
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found, int(port, 16)


def processes_by_socket(proc: pathlib.Path) -> dict[str, str]:
    """Name of the process that holds each socket, by inode."""
    owners = {}
    for descriptor in proc.glob("[0-9]*/fd/*"):
        try:
            link = str(descriptor.readlink())
            if link.startswith("socket:["):
                name = (descriptor.parents[1] / "comm").read_text().strip()
                owners[link[len("socket:[") : -1]] = name
        except OSError:  # it was closed, or the process ended meanwhile
            continue
    return owners


def output(*command: str, seconds: float = 30) -> str:
    """What a program prints, within so many seconds."""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds).stdout


if __name__ == "__main__":
    main()
