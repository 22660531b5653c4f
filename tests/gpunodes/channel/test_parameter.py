from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from gpunodes.aws import Clients
from gpunodes.channel.parameter import ChannelParameter
from gpunodes.errors import AwsError, UsageError

OLD, NEW = "ami-0000000000000000a", "ami-0000000000000000b"


@dataclass
class LateSsm:
    """SSM that shows a version only after so many looks, or never; the one version that counts."""

    looks_until_valid: int | None
    shown: tuple[str, int] | None = (OLD, 1)
    pending: tuple[str, int] | None = None
    put: list[dict[str, Any]] = field(default_factory=list)
    looks: int = 0

    @property
    def ssm(self) -> LateSsm:
        return self

    def put_parameter(self, **arguments: Any) -> dict[str, Any]:
        self.put.append(arguments)
        version = (self.shown[1] if self.shown else 0) + 1
        self.pending, self.looks = (arguments["Value"], version), 0
        return {"Version": version}

    def get_parameter(self, Name: str) -> dict[str, Any]:  # noqa: N803 - boto3's
        self.looks += 1
        if self.pending and self.looks_until_valid is not None and self.looks > self.looks_until_valid:
            self.shown, self.pending = self.pending, None
        if self.shown is None:
            raise ClientError({"Error": {"Code": "ParameterNotFound"}}, "GetParameter")
        value, version = self.shown
        return {"Parameter": {"Name": Name, "Value": value, "Version": version, "LastModifiedDate": datetime.now(UTC)}}


def late(fake: LateSsm) -> tuple[ChannelParameter, list[float]]:
    waits: list[float] = []
    return ChannelParameter(cast(Clients, fake), "stable", waits.append), waits


def test_channel_names_nothing_before_the_first_promotion(clients: Clients) -> None:
    parameter = ChannelParameter(clients, "stable")

    assert (parameter.read(), parameter.history()) == (None, [])


def test_what_was_written_is_read_back_with_its_history(clients: Clients) -> None:
    parameter = ChannelParameter(clients, "stable")

    written = [parameter.write(ami_id) for ami_id in (OLD, NEW)]
    parameter.label(written[0], "previous")

    assert [(pointer.ami_id, pointer.version) for pointer in parameter.history()] == [(NEW, 2), (OLD, 1)]
    assert parameter.read() == written[1]
    assert parameter.history()[1].labels == ("previous",)
    stored = clients.ssm.describe_parameters()["Parameters"][0]
    assert (stored["Name"], stored["DataType"]) == ("/gpunodes/stable/ami-id", "aws:ec2:image")


def test_label_moves_to_the_version_that_gets_it(clients: Clients) -> None:
    parameter = ChannelParameter(clients, "stable")
    for pointer in [parameter.write(ami_id) for ami_id in (OLD, NEW)]:
        parameter.label(pointer, "promoted")

    assert [pointer.labels for pointer in parameter.history()] == [("promoted",), ()]


def test_label_that_ssm_does_not_take_is_an_error(clients: Clients) -> None:
    parameter = ChannelParameter(clients, "stable")

    with pytest.raises(AwsError, match="does not take the label `aws-no`"):
        parameter.label(parameter.write(OLD), "aws-no")


@pytest.mark.parametrize("looks", [1, 3, 5])
def test_write_counts_once_its_version_is_visible(looks: int) -> None:
    parameter, waits = late(LateSsm(looks_until_valid=looks))

    written = parameter.write(NEW)

    assert (written.ami_id, written.version) == (NEW, 2)
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0][:looks]


def test_value_that_is_dropped_is_an_error_after_a_minute_and_the_channel_is_as_before() -> None:
    fake = LateSsm(looks_until_valid=None)
    parameter, waits = late(fake)

    with pytest.raises(AwsError, match=f"SSM did not take {NEW} for channel stable"):
        parameter.write(NEW)

    assert 60 <= sum(waits) < 70
    assert fake.shown == (OLD, 1)


def test_another_writer_at_the_same_time_is_noticed() -> None:
    fake = LateSsm(looks_until_valid=None)

    def other_wins(_seconds: float) -> None:
        fake.shown = ("ami-0000000000000000c", 3)

    parameter = ChannelParameter(cast(Clients, fake), "stable", other_wins)

    with pytest.raises(AwsError, match="Somebody else let channel stable name ami-0000000000000000c"):
        parameter.write(NEW)


def test_what_is_no_image_id_is_not_written(clients: Clients) -> None:
    parameter = ChannelParameter(clients, "stable")

    with pytest.raises(UsageError, match="`latest` is no AMI id"):
        parameter.write("latest")

    assert parameter.read() is None


def test_refusal_names_the_channel() -> None:
    class Refusing:
        @property
        def ssm(self) -> Any:
            return self

        def get_parameter(self, **_arguments: Any) -> Any:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetParameter")

    with pytest.raises(AwsError, match=r"reading the parameter of channel stable \(AccessDeniedException: no\)"):
        ChannelParameter(cast(Clients, Refusing()), "stable").read()
