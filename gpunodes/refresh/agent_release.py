"""Which version of the CloudWatch agent AWS publishes now (info/latest/CWAGENT_VERSION beside the packages)."""

from __future__ import annotations

import re
from collections.abc import Callable

import urllib3

from gpunodes.http_get import fetch

LATEST = "latest"
_PATH = "info/latest/CWAGENT_VERSION"
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+~-]{0,40}")


def published(base_url: str, ask: Callable[[str], str] = fetch) -> str | None:
    """The version that a bake with `latest` would install; None where it could not be read.

    Args:
        base_url: where the agent's packages lie, without a slash at its end.
        ask: gives a URL's answer.
    """
    try:
        answer = ask(f"{base_url}/{_PATH}").strip()
    except (urllib3.exceptions.HTTPError, OSError, ValueError):
        return None
    return answer if _VERSION.fullmatch(answer) else None
