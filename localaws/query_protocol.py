"""AWS's "query" protocol, which Auto Scaling speaks: a form with dots in its names, and XML with `member` in its lists.

The rest of localaws asks moto in the same way: calls are put together and answers read with botocore's own models.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from botocore import parsers, serialize
from botocore.loaders import Loader
from botocore.model import ServiceModel

from localaws.ec2_query import Form, ask
from localaws.wsgi import Answer, WSGIApp, signed_for

_NAMESPACE = "http://autoscaling.amazonaws.com/doc/2011-01-01/"
_SIGNED_AS = {"cloudwatch": "monitoring"}
_HEADERS = [("Content-Type", "text/xml; charset=utf-8")]


class RefusedCallError(Exception):
    """An application refused a call.

    Attributes:
        code: as AWS names the error.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Calls:
    """Puts calls to an application of this process in the name of whoever made a request.

    Args:
        application: such as moto's.
        environ: of that request (PEP 3333): same account, same region.
    """

    def __init__(self, application: WSGIApp, environ: Mapping[str, Any]) -> None:
        self._application = application
        self._environ = {name: value for name, value in environ.items() if name != "HTTP_X_AMZ_TARGET"}

    def __call__(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make a call, as boto3 would, and return what boto3 would.

        Raises:
            RefusedCallError: it was refused.
        """
        answer = ask(self._application, self._as(service), form_of(service, operation, **parameters))
        response = {"body": answer.body, "headers": dict(answer.headers), "status_code": int(answer.status[:3])}
        model = _model(service).operation_model(operation)
        found: dict[str, Any] = parsers.create_parser(_protocol(service)).parse(response, model.output_shape)
        if not answer.is_success:
            error = found.get("Error", {})
            raise RefusedCallError(error.get("Code", "InternalFailure"), error.get("Message", answer.status))
        return found

    def _as(self, service: str) -> dict[str, Any]:
        signed = signed_for(self._environ, _SIGNED_AS.get(service, service))
        form = "application/x-www-form-urlencoded; charset=utf-8"
        return {**signed, "CONTENT_TYPE": form, "REQUEST_METHOD": "POST"}


def form_of(service: str, operation: str, **parameters: Any) -> dict[str, str]:
    """A call as a form, given what boto3 would be given."""
    serializer = serialize.create_serializer(_protocol(service), include_validation=False)
    request = serializer.serialize_to_request(parameters, _model(service).operation_model(operation))
    return {name: str(value) for name, value in request["body"].items()}


def nested(form: Form) -> dict[str, Any]:
    """The parameters of a form as boto3 was given them, but every value is text."""
    root: dict[str, Any] = {}
    for name, value in form.items():
        place = root
        *path, last = name.split(".")
        for step in path:
            place = place.setdefault(step, {})
        place[last] = value
    plain: dict[str, Any] = _with_lists(root)
    return plain


def answered(action: str, result: Mapping[str, Any]) -> Answer:
    """A call of Auto Scaling that was answered."""
    root = Element(f"{action}Response", xmlns=_NAMESPACE)
    root.append(_element(f"{action}Result", result))
    root.append(_element("ResponseMetadata", {"RequestId": str(uuid.uuid4())}))
    return Answer("200 OK", _HEADERS, ElementTree.tostring(root))


def refused(code: str, message: str) -> Answer:
    """A call that was refused, as Auto Scaling says so."""
    root = Element("ErrorResponse", xmlns=_NAMESPACE)
    root.append(_element("Error", {"Type": "Sender", "Code": code, "Message": message}))
    root.append(_element("RequestId", str(uuid.uuid4())))
    return Answer("400 Bad Request", _HEADERS, ElementTree.tostring(root))


def _protocol(service: str) -> str:
    return "ec2" if service == "ec2" else "query"


@cache
def _model(service: str) -> Any:
    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


def _with_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if list(value) == ["member"] and isinstance(value["member"], dict):
        return [_with_lists(value["member"][number]) for number in sorted(value["member"], key=int)]
    return {name: _with_lists(found) for name, found in value.items()}


def _element(tag: str, value: Any) -> Element:
    made = Element(tag)
    if isinstance(value, Mapping):
        made.extend(_element(name, found) for name, found in value.items() if found is not None)
    elif isinstance(value, list):
        made.extend(_element("member", found) for found in value)
    elif isinstance(value, datetime):
        made.text = f"{value:%Y-%m-%dT%H:%M:%SZ}"
    else:
        made.text = str(value).lower() if isinstance(value, bool) else str(value)
    return made
