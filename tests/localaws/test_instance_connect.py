from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from moto.server import DomainDispatcherApplication, create_backend_app

from localaws import api, instance_connect, metadata
from localaws.instance_connect import Push, PushedKeys
from tests.localaws.test_metadata import INSTANCE

ID, OTHER_ID = "i-0123456789abcdef0", "i-0fedcba9876543210"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJcnmU0aVVTjgHvI5MQSwC8nnWDDbVaGyEvGJdbXsDjF"
OTHER_KEY = KEY[:-1] + "G"


@dataclass
class Instances:
    """Two that run; tests change their states."""

    states: dict[str, str] = field(default_factory=lambda: {ID: "running", OTHER_ID: "running"})

    def state_of(self, instance_id: str) -> str | None:
        return self.states.get(instance_id)


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def instances() -> Instances:
    return Instances()


@pytest.fixture
def pushed(instances: Instances, clock: Clock) -> PushedKeys:
    return PushedKeys(instances, clock)


def seen_by(pushed: PushedKeys, instance_id: str, user: str) -> str | None:
    """What sshd's command on an instance is told of a user's keys."""
    tree = metadata.tree(
        {**INSTANCE, "InstanceId": instance_id},
        region="us-east-1",
        public_key=None,
        user_data="",
        role={},
        pushed_keys=pushed.of(instance_id),
    )
    return metadata.find(tree, f"meta-data/managed-ssh-keys/active-keys/{user}/")


def test_a_key_is_served_to_its_instance_for_its_user_for_60_seconds(pushed: PushedKeys, clock: Clock) -> None:
    pushed.add(Push(ID, "debian", KEY))

    clock.now += 59.9
    assert seen_by(pushed, ID, "debian") == f"{KEY}\n"
    assert seen_by(pushed, ID, "root") is None
    assert seen_by(pushed, OTHER_ID, "debian") is None
    clock.now += 0.1
    assert seen_by(pushed, ID, "debian") is None
    assert pushed.of(ID) == {}


def test_a_key_that_is_pushed_again_lives_another_minute_beside_others(pushed: PushedKeys, clock: Clock) -> None:
    pushed.add(Push(ID, "debian", KEY))
    clock.now += 40
    pushed.add(Push(ID, "debian", OTHER_KEY + "\n"))
    pushed.add(Push(ID, "debian", KEY))

    clock.now += 59
    assert sorted((seen_by(pushed, ID, "debian") or "").splitlines()) == [KEY, OTHER_KEY]
    clock.now += 1
    assert seen_by(pushed, ID, "debian") is None


def error_of(pushed: PushedKeys, push: Push) -> str:
    refused = pushed.refusal(push)
    assert refused is not None
    status, headers, body = refused
    assert status.startswith("400")
    assert dict(headers)["Content-Length"] == str(len(body))
    return str(json.loads(body)["__type"])


def test_a_push_to_a_running_instance_is_taken(pushed: PushedKeys) -> None:
    assert pushed.refusal(Push(ID, "debian", KEY)) is None


def test_a_push_to_no_instance_is_refused(pushed: PushedKeys) -> None:
    assert error_of(pushed, Push("i-00000000000000000", "debian", KEY)) == "EC2InstanceNotFoundException"


@pytest.mark.parametrize("state", ["pending", "stopped", "terminated"])
def test_a_push_to_an_instance_that_does_not_run_is_refused(
    pushed: PushedKeys, instances: Instances, state: str
) -> None:
    instances.states[ID] = state

    assert error_of(pushed, Push(ID, "debian", KEY)) == "EC2InstanceStateInvalidException"


@pytest.mark.parametrize(
    ("user", "key"),
    [("", KEY), ("a/b", KEY), ("..", KEY), ("a" * 33, KEY), ("debian", ""), ("debian", f"{KEY} x\n{OTHER_KEY}")],
)
def test_a_user_or_key_that_is_none_is_refused(pushed: PushedKeys, user: str, key: str) -> None:
    assert error_of(pushed, Push(ID, user, key)) == "InvalidArgsException"


def request(body: bytes, target: str = "AWSEC2InstanceConnectService.SendSSHPublicKey") -> dict[str, Any]:
    return {"HTTP_X_AMZ_TARGET": target, "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}


def test_other_calls_are_no_push() -> None:
    environ = request(b"{}", "AWSEC2InstanceConnectService.SendSerialConsoleSSHPublicKey")

    assert instance_connect.push_in(environ) is None
    assert instance_connect.push_in({}) is None


@given(
    st.one_of(st.binary(), st.recursive(st.none() | st.text(), st.lists).map(lambda any_: json.dumps(any_).encode()))
)
def test_any_body_is_read_without_an_error_and_stays_for_moto(body: bytes) -> None:
    environ = request(body)

    push = instance_connect.push_in(environ)

    assert push is not None
    assert PushedKeys(Instances()).refusal(push) is not None
    assert environ["wsgi.input"].read() == body


@contextmanager
def served(pushed: PushedKeys) -> Iterator[Any]:
    """boto3's client of an API that hears moto."""
    observed = api.ObservedApi(DomainDispatcherApplication(create_backend_app))
    observed.pushed_keys = pushed
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = api.serve(observed, listener)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        client = boto3.client(
            "ec2-instance-connect",
            region_name="us-east-1",
            endpoint_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )
        yield client
        client.close()
        server.shutdown()
        thread.join()
        server.server_close()


def test_boto3s_push_is_heard_and_its_refusal_understood(pushed: PushedKeys) -> None:
    with served(pushed) as client:
        answer = client.send_ssh_public_key(InstanceId=ID, InstanceOSUser="debian", SSHPublicKey=KEY)
        with pytest.raises(client.exceptions.EC2InstanceNotFoundException, match="i-00000000000000000 was not found"):
            client.send_ssh_public_key(InstanceId="i-00000000000000000", InstanceOSUser="debian", SSHPublicKey=KEY)
        with pytest.raises(ClientError, match="InvalidArgsException"):
            client.send_ssh_public_key(InstanceId=ID, InstanceOSUser="../x", SSHPublicKey=KEY)

    assert answer["Success"] is True
    assert pushed.of(ID) == {"debian": f"{KEY}\n"}
    assert pushed.of(OTHER_ID) == {}
