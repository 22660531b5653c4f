from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from gpunodes.aws import Clients
from gpunodes.connection.instance_connect import InstanceConnect
from gpunodes.errors import AwsError, PreflightError
from tests.gpunodes.fakes import INSTANCE_ID, FakeClock

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJcnmU0aVVTjgHvI5MQSwC8nnWDDbVaGyEvGJdbXsDjF"


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "SendSSHPublicKey")


@dataclass
class FakeApi:
    """Answers each push with the next of what it was given, then with success."""

    answers: list[Exception] = field(default_factory=list)
    pushes: list[tuple[str, str, str]] = field(default_factory=list)

    def send_ssh_public_key(self, *, InstanceId: str, InstanceOSUser: str, SSHPublicKey: str) -> Any:  # noqa: N803
        self.pushes.append((InstanceId, InstanceOSUser, SSHPublicKey))
        if self.answers:
            raise self.answers.pop(0)
        return {"Success": True}


def connect_to(api: FakeApi, clock: FakeClock | None = None) -> InstanceConnect:
    return InstanceConnect(api, INSTANCE_ID, "ubuntu", KEY, clock or FakeClock())


def test_the_key_is_pushed_for_the_user_of_the_instance() -> None:
    api = FakeApi()

    assert connect_to(api).admit() is None
    assert api.pushes == [(INSTANCE_ID, "ubuntu", KEY)]


def test_a_push_counts_while_a_login_can_still_be_done_in_its_minute() -> None:
    api, clock = FakeApi(), FakeClock()
    way_in = connect_to(api, clock)
    way_in.admit()

    clock.now += 39.9
    way_in.admit()
    assert len(api.pushes) == 1

    clock.now += 0.1
    way_in.admit()
    assert len(api.pushes) == 2


@pytest.mark.parametrize(
    "code",
    [
        "EC2InstanceNotFoundException",
        "EC2InstanceStateInvalidException",
        "EC2InstanceUnavailableException",
        "ServiceException",
        "ThrottlingException",
    ],
)
def test_what_may_be_otherwise_soon_is_told_and_asked_again_after_a_while(code: str) -> None:
    api, clock = FakeApi([refused(code)]), FakeClock()
    way_in = connect_to(api, clock)

    for _ in range(5):
        assert str(way_in.admit()) == f"EC2 Instance Connect answers {code}"
    assert len(api.pushes) == 1

    clock.now += 2
    assert way_in.admit() is None
    assert len(api.pushes) == 2


@pytest.mark.parametrize("code", ["AccessDeniedException", "AccessDenied", "AuthException"])
def test_a_missing_permission_is_named_in_one_sentence(code: str) -> None:
    with pytest.raises(
        AwsError,
        match=rf"^You may not push an SSH key to {INSTANCE_ID} as ubuntu; "
        r"have ec2-instance-connect:SendSSHPublicKey allowed for it, .*\.$",
    ):
        connect_to(FakeApi([refused(code)])).admit()


def test_arguments_that_aws_does_not_take_are_an_error_at_once() -> None:
    with pytest.raises(AwsError, match=r"refused while pushing the SSH key to i-\w+ \(InvalidArgsException"):
        connect_to(FakeApi([refused("InvalidArgsException")])).admit()


def test_credentials_that_expired_are_a_matter_of_logging_in_again() -> None:
    with pytest.raises(PreflightError, match="log in again"):
        connect_to(FakeApi([refused("ExpiredTokenException")])).admit()


def test_an_api_that_does_not_answer_is_an_error_at_once() -> None:
    with pytest.raises(AwsError, match="did not answer while pushing the SSH key"):
        connect_to(FakeApi([EndpointConnectionError(endpoint_url="https://example.org")])).admit()


def test_boto3s_own_client_takes_the_call(clients: Clients) -> None:
    api = clients.client("ec2-instance-connect")

    assert InstanceConnect(api, INSTANCE_ID, "ubuntu", KEY).admit() is None
