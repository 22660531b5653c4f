"""Tells systemd how the service is doing (sd_notify(3)), without a library."""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)


class Notifier:
    """Sends state changes to the socket that systemd named; does nothing where systemd named none.

    Attributes:
        ping_seconds: How often to call `watchdog` so that systemd is content (half of its limit), or None: no watchdog.
    """

    def __init__(self, address: str | None = None, ping_seconds: float | None = None) -> None:
        self._address = address
        self.ping_seconds = ping_seconds

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Notifier:
        """Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID."""
        microseconds = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        ping_seconds = int(microseconds) / 2e6 if mine and microseconds.isdecimal() and int(microseconds) else None
        return cls(environment.get("NOTIFY_SOCKET") or None, ping_seconds)

    def ready(self, status: str) -> None:
        """The service does its work from now on; `status` is one line for ``systemctl status``."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """One line for ``systemctl status``."""
        self._send(f"STATUS={status}")

    def watchdog(self) -> None:
        """The service still makes progress."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The service has begun to stop."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def _send(self, state: str) -> None:
        if self._address is None:
            return
        # "@" stands for the zero byte that begins the name of an abstract socket.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
                connection.connect(address)
                connection.sendall(state.encode())
        except OSError as error:
            log.warning("systemd does not listen on %s: %s", self._address, error)
