"""Calls of the offline cloud's API that are refused, throttled or lost, by their names, as AWS would in each protocol.

botocore asks whoever is registered before it sends a request (`before-send`); everything else goes on to the API.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError

DENIED = "denied"
THROTTLED = "throttled"
LOST = "lost"  # nothing can be connected to
BROKEN = "broken"  # the connection ended before there was an answer
FAILED = "failed"  # the API itself has an error
UNKNOWN = "unknown"  # the API has no such call

_CODES = {
    DENIED: {"ec2": "UnauthorizedOperation", "auto-scaling": "AccessDenied", "ssm": "AccessDeniedException",
             "imagebuilder": "ForbiddenException"},
    THROTTLED: {"ec2": "RequestLimitExceeded", "auto-scaling": "Throttling", "ssm": "ThrottlingException",
                "imagebuilder": "CallRateLimitExceededException"},
    FAILED: {"ec2": "InternalError", "auto-scaling": "InternalFailure", "ssm": "InternalServerError",
             "imagebuilder": "ServiceException"},
    UNKNOWN: {"ec2": "InvalidAction", "auto-scaling": "InvalidAction", "ssm": "UnknownOperationException",
              "imagebuilder": "UnknownOperationException"},
}  # fmt: skip
_STATUSES = {DENIED: 403, THROTTLED: 429, FAILED: 500, UNKNOWN: 400}


class FailingCalls:
    """Which calls fail, and how.

    Attributes:
        how: name of a call, as in the API reference, -> one of the troubles above.
        seen: calls that were made, with or without trouble.
    """

    def __init__(self) -> None:
        self.how: dict[str, str] = {}
        self.seen: list[str] = []

    def attach(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """Clients that are made from now on go through this."""

        def attached(*arguments: Any, **more: Any) -> Any:
            client = make(*arguments, **more)
            client.meta.events.register_first("before-send", self._answer, unique_id="failing-calls")
            return client

        return attached

    def _answer(self, request: Any, event_name: str, **_more: Any) -> AWSResponse | None:
        _, service, call = event_name.split(".")
        self.seen.append(call)
        how = self.how.get(call)
        if how == LOST:
            raise EndpointConnectionError(endpoint_url=request.url)
        if how == BROKEN:
            raise ConnectionClosedError(endpoint_url=request.url)
        if how is None:
            return None
        headers, body = _refusal(service, _CODES[how][service])
        return AWSResponse(request.url, _STATUSES[how], headers, _Raw(body))  # type: ignore[arg-type]


def _refusal(service: str, code: str) -> tuple[dict[str, str], bytes]:
    message = "You are not authorized, too fast, or unlucky."
    if service == "ec2":
        body = f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors></Response>"
        return {}, body.encode()
    if service == "auto-scaling":
        body = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        return {}, body.encode()
    return {"x-amzn-ErrorType": code}, json.dumps({"__type": code, "message": message}).encode()


class _Raw(io.BytesIO):
    def stream(self, **_arguments: Any) -> Iterator[bytes]:
        yield self.read()
