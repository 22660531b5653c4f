"""What the parts that stand before moto's API share: requests whose body moto still has to read, and answers."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

WSGIApp = Callable[[dict[str, Any], Any], Iterable[bytes]]
_OK = "200 OK"


class Answer(NamedTuple):
    """What is sent back (PEP 3333).

    Attributes:
        status: with its reason phrase.
        headers: name and value.
        body: as the headers describe it.
    """

    status: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether the call did what it was asked to do."""
        return self.status == _OK

    def send(self, start_response: Callable[..., Any]) -> list[bytes]:
        """Answer a request with it; the length is that of the body."""
        others = [(name, value) for name, value in self.headers if name.lower() != "content-length"]
        start_response(self.status, [*others, ("Content-Length", str(len(self.body)))])
        return [self.body]


def call(application: WSGIApp, environ: Mapping[str, Any], body: bytes) -> Answer:
    """Put a request with this body to an application in the name of whoever made another one.

    Args:
        application: such as moto's.
        environ: of the other request: same account, same region.
        body: of this one.
    """
    mine = {**environ, "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
    started: list[Any] = []
    chunks = application(mine, lambda status, headers, *_: started.extend((status, headers)))
    whole = b"".join(chunks)  # an application may begin to answer only now
    return Answer(started[0], list(started[1]), whole)


def signed_for(environ: Mapping[str, Any], service: str) -> dict[str, Any]:
    """The same request as if it was signed for another service, by which moto tells one from the other.

    Args:
        environ: of a request (PEP 3333).
        service: as in a signature, e.g. `ec2` or `monitoring`.
    """
    signed = re.sub(r"/[a-z0-9-]+/aws4_request", f"/{service}/aws4_request", environ.get("HTTP_AUTHORIZATION", ""))
    return {**environ, "HTTP_AUTHORIZATION": signed}


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
    return Answer(status, [("Content-Type", "application/x-amz-json-1.0"), ("Content-Length", str(len(body)))], body)
