"""A region that the account did not switch on answers no call: EC2 and the others do not know the credentials there."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any

from localaws.ec2_query import ask, parsed, refusal
from localaws.layout import REGION
from localaws.wsgi import Answer, WSGIApp, json_error

_SCOPE = re.compile(r"Credential=[^/,\s]+/\d+/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")
_OFF = "not-opted-in"


def region_of(environ: Mapping[str, Any]) -> str:
    """The region that a request is signed for; the home region where it is not signed."""
    found = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
    return found["region"] if found else REGION


class Regions:
    """Knows which regions are switched off, as moto's DescribeRegions says.

    Args:
        moto: the application that knows regions.
    """

    def __init__(self, moto: WSGIApp) -> None:
        self._moto = moto
        self._lock = threading.Lock()
        self._off: frozenset[str] | None = None

    def refusal(self, environ: Mapping[str, Any]) -> Answer | None:
        """How a region that is switched off refuses a request; None where it is on."""
        region = region_of(environ)
        if region == REGION or region not in self._switched_off(environ):
            return None
        found = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
        if found and found["service"] == "ec2":
            return refusal("AuthFailure", "AWS was not able to validate the provided access credentials")
        said = "The security token included in the request is invalid."
        return json_error("400 Bad Request", "UnrecognizedClientException", said)

    def _switched_off(self, environ: Mapping[str, Any]) -> frozenset[str]:
        with self._lock:
            if self._off is None:
                signed = _SCOPE.sub(
                    f"Credential=localaws/20260101/{REGION}/ec2/aws4_request", environ["HTTP_AUTHORIZATION"]
                )
                form = "application/x-www-form-urlencoded; charset=utf-8"
                mine = {name: value for name, value in environ.items() if name != "HTTP_X_AMZ_TARGET"}
                as_ec2 = {**mine, "REQUEST_METHOD": "POST", "PATH_INFO": "/", "QUERY_STRING": "", "CONTENT_TYPE": form}
                asked = {"Action": "DescribeRegions", "Version": "2016-11-15", "AllRegions": "true"}
                found = parsed(ask(self._moto, {**as_ec2, "HTTP_AUTHORIZATION": signed}, asked))
                items = found.findall("regionInfo/item")
                off = (item.findtext("regionName", "") for item in items if item.findtext("optInStatus") == _OFF)
                self._off = frozenset(off)
            return self._off
