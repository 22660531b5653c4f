"""The instance metadata service: session tokens, identity, user data, keys, role credentials.

Version 1, without a token, answers those instances alone whose MetadataOptions say HttpTokens=optional.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

_TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN_HEADER = "X-aws-ec2-metadata-token"  # noqa: S105 - the header's name
_LONGEST_TTL_SECONDS = 21600
_TTL_PATTERN = re.compile(r"[0-9]{1,5}")
_VERSIONS = ("2021-03-23", "2021-07-15", "2022-09-24", "latest")
_VERSION_PATTERN = re.compile(r"^(latest|\d{4}-\d{2}-\d{2}|1\.0)$")

Tree = dict[str, Any]
"""Nested dicts; a leaf is the text that a GET returns."""


class Sessions:
    """Session tokens: each belongs to the address that asked for it and dies with its time to live."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # every request has a thread
        self._tokens: dict[str, tuple[str, float]] = {}

    def issue(self, address: str, ttl_seconds: int) -> str:
        """A new token for an address."""
        now = self._clock()
        token = secrets.token_urlsafe(40)
        with self._lock:
            self._tokens = {name: entry for name, entry in self._tokens.items() if entry[1] > now}
            self._tokens[token] = (address, now + ttl_seconds)
        return token

    def is_valid(self, address: str, token: str | None) -> bool:
        """Whether this address got this token and it has not expired."""
        owner, expires = self._tokens.get(token or "", ("", 0.0))
        return owner == address and expires > self._clock()


def find(tree: Tree, path: str) -> str | None:
    """The text of a leaf, the listing of a folder (folders end in a slash), or None where there is nothing."""
    node: Any = tree
    for part in [part for part in path.split("/") if part]:
        if not isinstance(node, dict) or part not in node or part.startswith("_"):
            return None
        node = node[part]
    if isinstance(node, str):
        return node
    return "\n".join(_listed(name, child) for name, child in node.items() if not name.startswith("_"))


def _listed(name: str, child: Any) -> str:
    if isinstance(child, str):
        return name
    if "openssh-key" in child:  # the one folder that EC2 lists with a value: number=name of the key pair
        return f"{name}={child.get('_key_name', '')}"
    return f"{name}/"


def serve(
    listener: socket.socket,
    tree_of: Callable[[str], Tree | None],
    requires_token: Callable[[str], bool] = lambda _: True,
) -> ThreadingHTTPServer:
    """A server on a socket that listens already; the caller runs `serve_forever`.

    Args:
        listener: bound to 169.254.169.254:80 where the instances are.
        tree_of: the metadata of the instance with this private address; None for an address that is no instance's.
        requires_token: whether version 1 refuses that instance.
    """
    seams = {"tree_of": staticmethod(tree_of), "requires_token": staticmethod(requires_token)}
    handler = type("_Handler", (_MetadataHandler,), {"sessions": Sessions(), **seams})
    server = ThreadingHTTPServer(listener.getsockname()[:2], handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.daemon_threads = True
    return server


class _MetadataHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "EC2ws"
    sys_version = ""
    timeout = 30
    sessions: ClassVar[Sessions]
    tree_of: ClassVar[Callable[[str], Tree | None]]
    requires_token: ClassVar[Callable[[str], bool]]

    def do_PUT(self) -> None:
        """Give a session token: PUT /latest/api/token."""
        ttl = self.headers.get(_TTL_HEADER, "")
        if self.path != "/latest/api/token":
            self._answer(HTTPStatus.NOT_FOUND)
        elif self.headers.get("X-Forwarded-For"):  # a token must not pass through an open proxy
            self._answer(HTTPStatus.FORBIDDEN)
        elif not _TTL_PATTERN.fullmatch(ttl) or not 0 < int(ttl) <= _LONGEST_TTL_SECONDS:
            self._answer(HTTPStatus.BAD_REQUEST)
        else:
            token = self.sessions.issue(self.client_address[0], int(ttl))
            self._answer(HTTPStatus.OK, token, {_TTL_HEADER: ttl})

    def do_GET(self) -> None:
        """Answer a metadata path, to those who have a token or need none."""
        address, token = self.client_address[0], self.headers.get(_TOKEN_HEADER)
        # A token that is wrong is refused even where none is needed, as EC2 does.
        needs_one = token is not None or type(self).requires_token(address)
        if needs_one and not self.sessions.is_valid(address, token):
            self._answer(HTTPStatus.UNAUTHORIZED)
            return
        tree = type(self).tree_of(address)
        version, _, path = self.path.split("?")[0].lstrip("/").partition("/")
        if not version:
            self._answer(HTTPStatus.OK, "\n".join(_VERSIONS))
            return
        text = find(tree, path) if tree is not None and _VERSION_PATTERN.match(version) else None
        if text is None:
            self._answer(HTTPStatus.NOT_FOUND)
        else:
            self._answer(HTTPStatus.OK, text)

    def _answer(self, status: HTTPStatus, text: str = "", headers: dict[str, str] | None = None) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - overrides http.server's
        """Say nothing: SDKs ask every few minutes."""


def tree(
    instance: dict[str, Any],
    *,
    region: str,
    public_key: str | None,
    user_data: str,
    role: Tree,
    pushed_keys: Mapping[str, str],
) -> Tree:
    """What an instance's metadata service tells.

    Args:
        instance: as in DescribeInstances.
        region: of the instance.
        public_key: OpenSSH format, of the instance's key pair; None without one.
        user_data: the decoded text; empty without any.
        role: the `iam` folder; empty for an instance without profile.
        pushed_keys: for each user the SSH keys that EC2 Instance Connect pushed for it, one a line.
    """
    zone = instance["Placement"]["AvailabilityZone"]
    address = instance["PrivateIpAddress"]
    host_name = f"ip-{address.replace('.', '-')}.ec2.internal"
    mac = instance["NetworkInterfaces"][0]["MacAddress"]
    key_name = instance.get("KeyName", "")
    keys = {"public-keys": {"0": {"openssh-key": public_key, "_key_name": key_name}}} if public_key else {}
    return {
        "meta-data": {
            "ami-id": instance["ImageId"],
            "ami-launch-index": "0",
            "hostname": host_name,
            "instance-id": instance["InstanceId"],
            "instance-life-cycle": "on-demand",
            "instance-type": instance["InstanceType"],
            "local-hostname": host_name,
            "local-ipv4": address,
            "mac": mac,
            "network": {"interfaces": {"macs": {mac: {"device-number": "0", "local-ipv4s": address, "mac": mac}}}},
            "placement": {"availability-zone": zone, "region": region},
            "security-groups": "\n".join(group["GroupName"] for group in instance.get("SecurityGroups", [])),
            "services": {"domain": "amazonaws.com", "partition": "aws"},
            **keys,
            **({"managed-ssh-keys": {"active-keys": dict(pushed_keys)}} if pushed_keys else {}),
            **({"iam": role} if role else {}),
        },
        "dynamic": {"instance-identity": {"document": _identity_document(instance, region, zone)}},
        **({"user-data": user_data} if user_data else {}),
    }


def _identity_document(instance: dict[str, Any], region: str, zone: str) -> str:
    document = {
        "accountId": instance.get("OwnerId", "123456789012"),
        "architecture": instance.get("Architecture", "x86_64"),
        "availabilityZone": zone,
        "imageId": instance["ImageId"],
        "instanceId": instance["InstanceId"],
        "instanceType": instance["InstanceType"],
        "pendingTime": instance["LaunchTime"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        "privateIp": instance["PrivateIpAddress"],
        "region": region,
        "version": "2017-09-30",
    }
    return json.dumps(document, indent=2)
