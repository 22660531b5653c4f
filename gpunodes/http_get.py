"""A short text from a URL."""

from __future__ import annotations

import urllib3

_TIMEOUT_SECONDS = 3.0


def fetch(url: str, timeout_seconds: float = _TIMEOUT_SECONDS) -> str:
    """What a URL answers to GET, its first 64 bytes; no redirects and no second try.

    Args:
        url: http or https.
        timeout_seconds: for the connection, and again for the answer.

    Raises:
        urllib3.exceptions.HTTPError: it does not answer.
        ValueError: it answers with another status than 200.
    """
    with urllib3.PoolManager() as pool:
        answer = pool.request("GET", url, timeout=timeout_seconds, retries=False, redirect=False, preload_content=False)
        try:
            if answer.status != 200:
                raise ValueError(f"HTTP status {answer.status}")
            return answer.read(64).decode("ascii")
        finally:
            answer.close()
