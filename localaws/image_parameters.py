"""SSM parameters of the data type `aws:ec2:image`, which AWS validates after it has answered.

PutParameter answers at once with the version that there will be; a moment later the value is either there, or was no
image that the account can launch and is dropped without a word to the caller (AWS Systems Manager User Guide, "Native
parameter support for Amazon Machine Image IDs"). moto stores anything at once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from localaws.ec2_query import ask, parsed
from localaws.wsgi import Answer, WSGIApp, call, take_body

DATA_TYPE = "aws:ec2:image"
VALIDATION_SECONDS = 1.0
_JSON = "application/x-amz-json-1.1"
_LARGEST_BODY_BYTES = 64_000


@dataclass(frozen=True)
class _Pending:
    """A write that was answered and is not validated yet.

    Attributes:
        due_at: when it is, UTC.
        environ: of the request.
        body: of it.
        name: of the parameter.
        image_id: that it shall hold.
    """

    due_at: datetime
    environ: Mapping[str, Any]
    body: bytes
    name: str
    image_id: str


class ImageParameters:
    """Answers PutParameter of images in place of moto, and lets moto know of them once they are valid.

    Args:
        moto: the application that knows parameters.
        ec2: the application that knows images; what it does not show as available is not valid.
        clock: UTC.
    """

    def __init__(self, moto: WSGIApp, ec2: WSGIApp, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._moto = moto
        self._ec2 = ec2
        self._clock = clock
        self._lock = threading.Lock()
        self._pending: list[_Pending] = []

    def answer(self, environ: dict[str, Any]) -> Answer | None:
        """The answer to a write of an image's parameter; None for any other request, of which moto knows all.

        Args:
            environ: of the request (PEP 3333); its body stays readable where the answer is None.
        """
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if not target.startswith("AmazonSSM."):
            return None
        with self._lock:
            self._settle()
            if target != "AmazonSSM.PutParameter":
                return None
            body = take_body(environ, _LARGEST_BODY_BYTES) or b""
            try:
                asked = json.loads(body)
            except ValueError:
                return None  # moto says what is wrong with it
            return self._put(environ, body, asked) if isinstance(asked, dict) else None

    def _put(self, environ: dict[str, Any], body: bytes, asked: dict[str, Any]) -> Answer | None:
        name = str(asked.get("Name", ""))
        known = self._known(environ, name)
        if asked.get("DataType", known.get("DataType")) != DATA_TYPE or (known and not asked.get("Overwrite")):
            return None
        waiting = sum(1 for pending in self._pending if pending.name == name)
        version = int(known.get("Version", 0)) + waiting + 1
        due_at = self._clock() + timedelta(seconds=VALIDATION_SECONDS)
        self._pending.append(_Pending(due_at, dict(environ), body, name, str(asked.get("Value", ""))))
        answer = json.dumps({"Version": version, "Tier": "Standard"}).encode()
        return Answer("200 OK", [("Content-Type", _JSON)], answer)

    def _settle(self) -> None:
        """Let moto know of what is due, and valid."""
        now = self._clock()
        due = [pending for pending in self._pending if pending.due_at <= now]
        self._pending = [pending for pending in self._pending if pending.due_at > now]
        for pending in due:
            if self._is_available(pending.environ, pending.image_id):
                call(self._moto, pending.environ, pending.body)

    def _known(self, environ: Mapping[str, Any], name: str) -> dict[str, Any]:
        """The parameter as moto has it; empty where there is none."""
        asking = {**environ, "HTTP_X_AMZ_TARGET": "AmazonSSM.GetParameter"}
        found = call(self._moto, asking, json.dumps({"Name": name}).encode())
        return dict(json.loads(found.body)["Parameter"]) if found.is_success else {}

    def _is_available(self, environ: Mapping[str, Any], image_id: str) -> bool:
        """Asked in the name of whoever wrote the parameter: DescribeImages shows what that account can launch."""
        as_ec2 = {name: value for name, value in environ.items() if name != "HTTP_X_AMZ_TARGET"}
        as_ec2["HTTP_AUTHORIZATION"] = environ.get("HTTP_AUTHORIZATION", "").replace("/ssm/", "/ec2/")
        as_ec2["CONTENT_TYPE"] = "application/x-www-form-urlencoded; charset=utf-8"
        found = ask(self._ec2, as_ec2, {"Action": "DescribeImages", "Version": "2016-11-15", "ImageId.1": image_id})
        return found.is_success and [state.text for state in parsed(found).iter("imageState")] == ["available"]
