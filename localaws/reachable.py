"""Wait until an instance that was just launched lets people in.

EC2 boots an instance while it is pending; moto calls it running at once. Whoever connects to a running instance is
refused here while it boots, and the usual tools ask again after 5 s only: so RunInstances answers when it has booted.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable

from localaws.network import on_subnet

_SSH_PORT = 22
_PATIENCE_SECONDS = 10.0
_ATTEMPT_SECONDS = 0.5  # also while nobody answers yet, which the kernel alone would notice after 3 s
_ASK_AGAIN_SECONDS = 0.02


def private_addresses(answer: bytes) -> list[str]:
    """The addresses in this subnet of the instances that an answer of RunInstances (XML) tells of."""
    found = re.findall(rb"<privateIpAddress>([0-9.]+)</privateIpAddress>", answer)
    return sorted({address for address in map(bytes.decode, found) if on_subnet(address)})


def wait_for_ssh(addresses: Iterable[str], patience_seconds: float = _PATIENCE_SECONDS, port: int = _SSH_PORT) -> bool:
    """Return when every address accepts connections, or False when patience ends: a machine may have no sshd."""
    deadline = time.monotonic() + patience_seconds
    return all(_wait(address, port, deadline) for address in addresses)


def _wait(address: str, port: int, deadline: float) -> bool:
    while time.monotonic() < deadline:
        try:
            socket.create_connection((address, port), timeout=_ATTEMPT_SECONDS).close()
        except OSError:  # refused, no route or no answer: it boots
            time.sleep(_ASK_AGAIN_SECONDS)
        else:
            return True
    return False
