"""The parameter of a channel, `/gpunodes/<channel>/ami-id`: whoever launches by it gets the promoted image.

Its data type is `aws:ec2:image`. SSM answers a write of such a parameter before it has looked whether the value is an
image, and drops one that is none without a word: a write counts once it was read back. Its history is the way back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import AwsError, UsageError

_DATA_TYPE = "aws:ec2:image"
_READ_BACK_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 8.0
_ABSENT = frozenset({"ParameterNotFound", "ParameterVersionNotFound"})


@dataclass(frozen=True)
class Pointer:
    """What a channel names, or named.

    Attributes:
        ami_id: the image.
        version: of the parameter, from 1.
        written_at: UTC.
        labels: of that version.
    """

    ami_id: str
    version: int
    written_at: datetime
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChannelParameter:
    """The parameter of a channel.

    Attributes:
        clients: of the target (SSM).
        channel: such as `stable`.
        wait: sleeps for so many seconds.
    """

    clients: Clients
    channel: str
    wait: Callable[[float], None] = time.sleep

    @property
    def name(self) -> str:
        """In SSM; `resolve:ssm:` and this is an image id for EC2."""
        return f"/gpunodes/{self.channel}/ami-id"

    def read(self) -> Pointer | None:
        """What the channel names; None where nothing was promoted yet (GetParameter).

        Raises:
            AwsError: SSM refused.
        """
        with aws_errors(f"reading the parameter of channel {self.channel}"):
            try:
                found = self.clients.ssm.get_parameter(Name=self.name)["Parameter"]
            except ClientError as error:
                if error.response["Error"]["Code"] in _ABSENT:
                    return None
                raise
        return _pointer(found)

    def history(self) -> list[Pointer]:
        """What it named, newest first; SSM keeps a hundred versions (GetParameterHistory).

        Raises:
            AwsError: SSM refused.
        """
        with aws_errors(f"reading the history of channel {self.channel}"):
            pages = self.clients.ssm.get_paginator("get_parameter_history").paginate(Name=self.name)
            try:
                found = [_pointer(entry) for page in pages for entry in page["Parameters"]]
            except ClientError as error:
                if error.response["Error"]["Code"] in _ABSENT:
                    return []
                raise
        return sorted(found, key=lambda pointer: -pointer.version)

    def write(self, ami_id: str) -> Pointer:
        """Let the channel name an image, and read it back (PutParameter, GetParameter).

        Raises:
            UsageError: the image's id is none.
            AwsError: SSM refused, or did not take the value: then the channel names what it named before.
        """
        if not ami_id.startswith("ami-"):
            raise UsageError(f"`{ami_id}` is no AMI id; those look like ami-0123456789abcdef0.")
        with aws_errors(f"writing the parameter of channel {self.channel}"):
            version = self._put(ami_id)
        waited_seconds, pause_seconds = 0.0, _FIRST_PAUSE_SECONDS
        while (found := self.read()) is None or found.version < version:
            if waited_seconds >= _READ_BACK_SECONDS:
                raise AwsError(
                    f"SSM did not take {ami_id} for channel {self.channel} within a minute: it is no image that this"
                    " account can launch; look at it with `invoke explain`."
                )
            self.wait(pause_seconds)
            waited_seconds += pause_seconds
            pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
        if found.ami_id != ami_id:
            raise AwsError(
                f"Somebody else let channel {self.channel} name {found.ami_id} at the same time; settle who may, and"
                " repeat."
            )
        return found

    def label(self, pointer: Pointer, label: str) -> None:
        """Give a version a label, which leaves the version that had it (LabelParameterVersion).

        Raises:
            AwsError: SSM refused.
        """
        with aws_errors(f"labelling version {pointer.version} of channel {self.channel}"):
            answer = self.clients.ssm.label_parameter_version(
                Name=self.name, ParameterVersion=pointer.version, Labels=[label]
            )
        if answer.get("InvalidLabels"):
            raise AwsError(f"SSM does not take the label `{label}` for {self.name}; choose another name.")

    def _put(self, ami_id: str) -> int:
        place: dict[str, Any] = {"Name": self.name, "Value": ami_id, "Type": "String", "DataType": _DATA_TYPE}
        if self.read() is None:
            tags = [{"Key": "gpunodes", "Value": "true"}]  # only a new one takes tags
            return int(self.clients.ssm.put_parameter(**place, Tags=tags)["Version"])
        return int(self.clients.ssm.put_parameter(**place, Overwrite=True)["Version"])


def _pointer(entry: dict[str, Any]) -> Pointer:
    return Pointer(
        entry["Value"],
        int(entry["Version"]),
        entry["LastModifiedDate"].astimezone(UTC),
        tuple(entry.get("Labels", ())),
    )
