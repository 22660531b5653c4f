"""What the parts that stand before moto's API share: a request's body, which moto still has to read, and refusals."""

from __future__ import annotations

import io
import json
from typing import Any

Answer = tuple[str, list[tuple[str, str]], bytes]
"""Status, headers and body."""


def take_body(environ: dict[str, Any], largest_bytes: int) -> bytes | None:
    """The body of a request (PEP 3333), left readable; None where its length is not stated, or larger than allowed.

    Args:
        environ: of the request; its body is read and put back.
        largest_bytes: that are read.
    """
    stated_length = environ.get("CONTENT_LENGTH") or ""
    length = int(stated_length) if stated_length.isdecimal() else 0
    if not 0 < length <= largest_bytes:
        return None
    body: bytes = environ["wsgi.input"].read(length)
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def json_error(status: str, code: str, message: str) -> Answer:
    """How AWS refuses a call of its JSON protocol.

    Args:
        status: of HTTP, e.g. `400 Bad Request`.
        code: the error's name, e.g. `ThrottlingException`.
        message: for people.
    """
    body = json.dumps({"__type": code, "message": message}).encode()
    return status, [("Content-Type", "application/x-amz-json-1.0"), ("Content-Length", str(len(body)))], body
