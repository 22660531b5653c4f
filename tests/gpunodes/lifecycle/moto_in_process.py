"""moto without a server: a request goes to the class that answers for its service, and nothing is looked up twice.

Through moto's server application, with its routing by host and its Flask application per service, a call takes three
times as long: too long for thousands of sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from moto.autoscaling.responses import AutoScalingResponse
from moto.backends import get_backend
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.request import Request
from moto.ec2.responses import EC2Response
from moto.iam.responses import IamResponse
from moto.kms.responses import KmsResponse
from moto.ssm.responses import SimpleSystemManagerResponse
from moto.sts.responses import TokenResponse
from werkzeug.exceptions import HTTPException

_ANSWERS_FOR: dict[str, Any] = {
    "autoscaling": AutoScalingResponse,
    "cloudwatch": CloudWatchResponse,
    "ec2": EC2Response,
    "iam": IamResponse,
    "kms": KmsResponse,
    "ssm": SimpleSystemManagerResponse,
    "sts": TokenResponse,
}
ACCOUNT, REGION = "123456789012", "us-east-1"


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer a request (PEP 3333); 501 for a service that no lifecycle needs."""
    service = "".join(environ.get("HTTP_AUTHORIZATION", "").split("/")[3:4])
    answers = _ANSWERS_FOR.get("cloudwatch" if service == "monitoring" else service)
    if answers is None:
        start_response("501 Not Implemented", [])
        return [b""]
    environ["SCRIPT_NAME"] = ""
    request = Request(environ)
    try:
        status, headers, body = answers.dispatch(request, request.raw_url, request.headers)
    except HTTPException as error:
        status, headers, body = int(error.code or 500), dict(error.get_headers()), str(error.get_body())
    start_response(f"{status} {HTTPStatus(status).phrase}", [(name, str(value)) for name, value in headers.items()])
    return [body.encode() if isinstance(body, str) else body]


def backend(service: str) -> Any:
    """What moto keeps of a service; what it says there costs no call."""
    return get_backend(service)[ACCOUNT]["aws" if service == "iam" else REGION]


def reset() -> None:
    """Forget everything."""
    for service in _ANSWERS_FOR:
        for account in list(get_backend(service).values()):
            for region in list(account.values()):
                region.reset()
