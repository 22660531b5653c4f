"""Where to listen: the text of a setting, as an address."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from gpumon.errors import SettingsError

_LISTEN = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<host>[0-9A-Za-z.-]{0,253})):(?P<port>[0-9]{1,5})")
_MOST_PORT = 65535


class Address(NamedTuple):
    """Where to listen.

    Attributes:
        host: An IP address, or a name of this host; "" for all of its addresses.
        port: TCP port; 0 lets the system choose.
    """

    host: str
    port: int

    @property
    def is_name(self) -> bool:
        """Say whether somebody has to be asked for the address, which may take long."""
        return bool(self.host) and not _is_ip_address(self.host)


def parse_listen(text: str, where: str = "the settings") -> Address:
    """Return the address in a text like ``:9400``, ``127.0.0.1:9400``, ``localhost:9400`` or ``[::1]:9400``.

    Raises:
        SettingsError: `text` is none of these.
    """
    found = _LISTEN.fullmatch(text)
    if found is not None and int(found["port"]) <= _MOST_PORT:
        six, host = found["six"], found["host"]
        is_right = _is_ip_address(six) and ":" in six if six else _is_host(host)
        if is_right:
            return Address(six or host, int(found["port"]))
    raise SettingsError(
        f"Set prometheus_listen in {where} to :9400, 127.0.0.1:9400 or [::1]:9400, for example: it is {text[:80]!r}."
    )


def _is_host(text: str) -> bool:
    return not text or _is_ip_address(text) or any(letter.isalpha() for letter in text)


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
