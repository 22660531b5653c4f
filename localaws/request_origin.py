"""In whose name a request was made, and the same name for a request to another service."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from localaws.ec2_query import ask, parsed
from localaws.wsgi import WSGIApp

_SIGNED = re.compile(r"(?P<before>Credential=[^/,\s]+/\d+/(?P<region>[^/]+)/)(?P<service>[^/]+)(?=/aws4_request)")
_FORM = "application/x-www-form-urlencoded; charset=utf-8"
_STS_VERSION = "2011-06-15"


def account_of(api: WSGIApp, environ: Mapping[str, Any]) -> str:
    """The account in whose name a request was made (STS GetCallerIdentity).

    Args:
        api: the application that knows accounts.
        environ: of the request (PEP 3333).
    """
    form = {"Action": "GetCallerIdentity", "Version": _STS_VERSION}
    return parsed(ask(api, for_service(environ, "sts"), form)).findtext("GetCallerIdentityResult/Account", "")


def region_of(environ: Mapping[str, Any]) -> str:
    """The region that a request was signed for."""
    signed = _SIGNED.search(environ.get("HTTP_AUTHORIZATION", ""))
    return signed["region"] if signed else ""


def service_of(environ: Mapping[str, Any]) -> str:
    """The service that a request was signed for, e.g. `ec2`."""
    signed = _SIGNED.search(environ.get("HTTP_AUTHORIZATION", ""))
    return signed["service"] if signed else ""


def for_service(environ: Mapping[str, Any], service: str, target: str = "") -> dict[str, Any]:
    """The head of a request to another service in the same name: a form, or JSON where a target says so.

    Args:
        environ: of a request.
        service: as in its signature.
        target: of the JSON protocol, e.g. `AmazonSSM.GetParameter`.
    """
    authorization = environ.get("HTTP_AUTHORIZATION", "")
    made = {
        **environ,
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "CONTENT_TYPE": "application/x-amz-json-1.1" if target else _FORM,
        "HTTP_AUTHORIZATION": _SIGNED.sub(rf"\g<before>{service}", authorization),
        "HTTP_X_AMZ_TARGET": target,
    }
    return made if target else {name: value for name, value in made.items() if name != "HTTP_X_AMZ_TARGET"}


def in_account(environ: Mapping[str, Any], account_id: str) -> dict[str, Any]:
    """The head of the same request in the name of another account (moto's header for that)."""
    return {**environ, "HTTP_X_MOTO_ACCOUNT_ID": account_id}
