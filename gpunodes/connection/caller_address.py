"""The public IPv4 address that AWS sees this machine at: asked of AWS's own https://checkip.amazonaws.com."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import urllib3

from gpunodes.errors import PreflightError
from gpunodes.http_get import fetch

CHECK_IP_URL = "https://checkip.amazonaws.com"
_SAY_IT = "set ssh_source_cidr in gpunodes.toml to the network you bake from, such as your address with /32"


def caller_network(ask: Callable[[str], str] = fetch) -> str:
    """This machine's address as seen from AWS, as a network of one address, such as `8.8.8.8/32`.

    Args:
        ask: gives a URL's answer.

    Raises:
        PreflightError: nobody answered, or the answer is no public IPv4 address.
    """
    try:
        answer = ask(CHECK_IP_URL).strip()
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise PreflightError(f"{CHECK_IP_URL} did not say this machine's address ({error}); {_SAY_IT}.") from error
    try:
        address = ipaddress.IPv4Address(answer)
    except ValueError as error:
        raise PreflightError(
            f"{CHECK_IP_URL} answered {answer[:40]!r}, which is no IPv4 address; {_SAY_IT}."
        ) from error
    if not address.is_global or address.is_multicast:
        raise PreflightError(f"{CHECK_IP_URL} answered {address}, which is no public address; {_SAY_IT}.")
    return f"{address}/32"
