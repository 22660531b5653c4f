from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localaws import metadata
from localaws.metadata import Sessions, Tree

_TTL = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN = "X-aws-ec2-metadata-token"
INSTANCE: dict[str, Any] = {
    "InstanceId": "i-0123",
    "ImageId": "ami-1",
    "InstanceType": "g4dn.xlarge",
    "KeyName": "key",
    "LaunchTime": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "NetworkInterfaces": [{"MacAddress": "02:00:00:00:00:01"}],
    "OwnerId": "123456789012",
    "Placement": {"AvailabilityZone": "us-east-1a"},
    "PrivateIpAddress": "198.51.100.4",
    "SecurityGroups": [{"GroupName": "one", "GroupId": "sg-1"}, {"GroupName": "two", "GroupId": "sg-2"}],
}
ROLE: Tree = {"info": "{}", "security-credentials": {"reader": '{"Code": "Success"}'}}
FULL = metadata.tree(
    INSTANCE,
    region="us-east-1",
    public_key="ssh-ed25519 AAAA",
    user_data="#!/bin/sh",
    role=ROLE,
    pushed_keys={"debian": "ssh-ed25519 BBBB\n"},
)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """An instance that asks its metadata service."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, str, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), dict(answer.getheaders())
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, str]:
        return self.ask("GET", path, {_TOKEN: self.token()})[:2]

    def token(self) -> str:
        return self.ask("PUT", "/latest/api/token", {_TTL: "60"})[1]


@pytest.fixture
def trees() -> dict[str, Tree]:
    """Metadata by address of the instance; tests change it."""
    return {"127.0.0.1": FULL}


@pytest.fixture
def strict() -> dict[str, bool]:
    """Whether an address needs a token; tests change it."""
    return {"127.0.0.1": True}


@pytest.fixture
def client(trees: dict[str, Tree], strict: dict[str, bool]) -> Iterator[Client]:
    server = metadata.serve(socket.create_server(("127.0.0.1", 0)), trees.get, strict.__getitem__)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield Client(server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


def test_token_is_valid_for_its_address_until_it_expires() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    token = sessions.issue("198.51.100.4", 60)

    assert sessions.is_valid("198.51.100.4", token)
    assert not sessions.is_valid("198.51.100.5", token)
    clock.now += 59.9
    assert sessions.is_valid("198.51.100.4", token)
    clock.now += 0.1
    assert not sessions.is_valid("198.51.100.4", token)


def test_version_1_answers_where_a_token_is_optional_and_a_wrong_one_is_refused_all_the_same(
    client: Client, strict: dict[str, bool]
) -> None:
    path = "/latest/meta-data/instance-id"
    assert client.ask("GET", path)[0] == 401

    strict["127.0.0.1"] = False

    assert client.ask("GET", path)[:2] == (200, "i-0123")
    assert client.ask("GET", path, {"X-aws-ec2-metadata-token": "made-up"})[0] == 401


@pytest.mark.parametrize("token", [None, "", "x"])
def test_what_was_never_issued_is_no_token(token: str | None) -> None:
    sessions = Sessions(Clock())
    sessions.issue("198.51.100.4", 60)

    assert not sessions.is_valid("198.51.100.4", token)
    assert not sessions.is_valid("", token)


def test_tokens_differ_and_expired_ones_are_forgotten() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    first = sessions.issue("198.51.100.4", 60)
    clock.now += 61
    second = sessions.issue("198.51.100.4", 60)

    assert first != second
    assert set(sessions._tokens) == {second}


def test_token_opens_the_tree_and_says_how_long_it_lives(client: Client) -> None:
    status, token, headers = client.ask("PUT", "/latest/api/token", {_TTL: "21600"})

    assert (status, headers[_TTL]) == (200, "21600")
    assert client.ask("GET", "/latest/meta-data/instance-id", {_TOKEN: token})[:2] == (200, "i-0123")


@pytest.mark.parametrize("headers", [{}, {_TOKEN: ""}, {_TOKEN: "guessed"}])
@pytest.mark.parametrize("path", ["/", "/latest/meta-data/", "/latest/user-data", "/nothing"])
def test_without_a_valid_token_nothing_is_told(client: Client, path: str, headers: dict[str, str]) -> None:
    assert client.ask("GET", path, headers)[:2] == (401, "")


def test_token_of_another_address_is_refused(client: Client) -> None:
    token = client.token()
    connection = http.client.HTTPConnection("127.0.0.1", client._port, timeout=30, source_address=("127.0.0.2", 0))
    connection.request("GET", "/latest/meta-data/instance-id", headers={_TOKEN: token})
    assert connection.getresponse().status == 401
    connection.close()


@pytest.mark.parametrize("ttl", ["", "0", "21601", "-1", "1.5", "x", " ", "\xb2", "9" * 5000])
def test_time_to_live_that_is_none_is_a_bad_request(client: Client, ttl: str) -> None:
    assert client.ask("PUT", "/latest/api/token", {_TTL: ttl})[:2] == (400, "")


def test_time_to_live_must_be_stated(client: Client) -> None:
    assert client.ask("PUT", "/latest/api/token")[0] == 400


def test_token_does_not_pass_through_a_proxy(client: Client) -> None:
    assert client.ask("PUT", "/latest/api/token", {_TTL: "60", "X-Forwarded-For": "203.0.113.1"})[:2] == (403, "")


def test_nothing_else_can_be_put(client: Client) -> None:
    assert client.ask("PUT", "/latest/user-data", {_TTL: "60"})[0] == 404


@pytest.mark.parametrize("version", ["latest", "2021-03-23", "1.0"])
def test_every_version_has_the_same_tree(client: Client, version: str) -> None:
    assert client.get(f"/{version}/meta-data/ami-id") == (200, "ami-1")


@pytest.mark.parametrize(
    "path",
    [
        "/newest/meta-data/ami-id",
        "/latest/meta-data/nothing",
        "/latest/meta-data/ami-id/below",
        "/latest/meta-data/public-keys/0/_key_name",
        "/latest/meta-data/public-keys/1/openssh-key",
        "/latest/../latest/user-data",
    ],
)
def test_what_is_not_there_is_not_found(client: Client, path: str) -> None:
    assert client.get(path) == (404, "")


def test_address_that_is_no_instances_finds_nothing(client: Client, trees: dict[str, Tree]) -> None:
    trees.clear()

    assert client.get("/latest/meta-data/ami-id") == (404, "")


def test_root_lists_the_versions(client: Client) -> None:
    status, text = client.get("/")

    assert status == 200
    assert text.splitlines()[-1] == "latest"


@pytest.mark.parametrize(
    "path", ["/latest/user-data", "/latest/user-data/", "//latest//user-data", "/latest/user-data?x"]
)
def test_path_may_be_written_loosely(client: Client, path: str) -> None:
    assert client.get(path) == (200, "#!/bin/sh")


def test_one_connection_serves_several_requests(client: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client._port, timeout=30)
    connection.request("PUT", "/latest/api/token", headers={_TTL: "60"})
    token = connection.getresponse().read().decode()
    used = connection.sock
    connection.request("GET", "/latest/meta-data/nothing", headers={_TOKEN: token})
    assert connection.getresponse().read() == b""
    connection.request("GET", "/latest/meta-data/mac", headers={_TOKEN: token})
    assert connection.getresponse().read() == b"02:00:00:00:00:01"
    assert connection.sock is used
    connection.close()


@pytest.mark.parametrize(
    ("path", "listing"),
    [
        ("", "meta-data/\ndynamic/\nuser-data"),
        ("meta-data/placement", "availability-zone\nregion"),
        ("meta-data/public-keys/", "0=key"),
        ("meta-data/public-keys/0/", "openssh-key"),
        ("meta-data/iam/security-credentials/", "reader"),
        ("meta-data/network/interfaces/macs/", "02:00:00:00:00:01/"),
        ("dynamic/instance-identity/", "document"),
    ],
)
def test_folders_list_what_is_in_them(path: str, listing: str) -> None:
    assert metadata.find(FULL, path) == listing


def test_meta_data_lists_folders_with_a_slash() -> None:
    names = (metadata.find(FULL, "meta-data/") or "").splitlines()

    assert {"ami-id", "iam/", "instance-id", "placement/", "public-keys/"} <= set(names)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("meta-data/hostname", "ip-198-51-100-4.ec2.internal"),
        ("meta-data/local-ipv4", "198.51.100.4"),
        ("meta-data/instance-type", "g4dn.xlarge"),
        ("meta-data/placement/region", "us-east-1"),
        ("meta-data/placement/availability-zone", "us-east-1a"),
        ("meta-data/security-groups", "one\ntwo"),
        ("meta-data/network/interfaces/macs/02:00:00:00:00:01/local-ipv4s", "198.51.100.4"),
        ("meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA"),
        ("meta-data/iam/security-credentials/reader", '{"Code": "Success"}'),
    ],
)
def test_tree_tells_what_the_api_says(path: str, text: str) -> None:
    assert metadata.find(FULL, path) == text


def test_identity_document_is_what_the_api_says() -> None:
    document = json.loads(metadata.find(FULL, "dynamic/instance-identity/document") or "")

    assert document["accountId"] == "123456789012"
    assert document["instanceId"] == "i-0123"
    assert document["imageId"] == "ami-1"
    assert document["region"] == "us-east-1"
    assert document["pendingTime"] == "2026-01-02T03:04:05Z"


def test_bare_instance_has_no_keys_role_or_user_data() -> None:
    bare = {name: value for name, value in INSTANCE.items() if name not in {"KeyName", "SecurityGroups", "OwnerId"}}
    tree = metadata.tree(bare, region="us-east-1", public_key=None, user_data="", role={}, pushed_keys={})

    for path in ("meta-data/public-keys/", "meta-data/managed-ssh-keys/", "meta-data/iam/", "user-data"):
        assert metadata.find(tree, path) is None
    assert metadata.find(tree, "meta-data/security-groups") == ""
    assert metadata.find(tree, "meta-data/instance-id") == "i-0123"


_NAMES = st.sampled_from(
    ["meta-data", "public-keys", "0", "_key_name", "openssh-key", "iam", "security-credentials", "user-data", "", "_x"]
)


@given(st.one_of(st.text(), st.lists(st.one_of(_NAMES, st.text(max_size=5)), max_size=6).map("/".join)))
def test_no_path_raises_or_shows_what_is_private(path: str) -> None:
    found = metadata.find(FULL, path)

    assert found is None or isinstance(found, str)
    assert found is None or not any(line.startswith("_") for line in found.splitlines())
    assert found is None or "_key_name" not in path


@given(st.recursive(st.text(), lambda below: st.dictionaries(st.text(max_size=3), below), max_leaves=8), st.text("_a/"))
def test_no_tree_makes_a_path_raise(tree: Any, path: str) -> None:
    found = metadata.find({"a": tree}, path)

    assert found is None or isinstance(found, str)
