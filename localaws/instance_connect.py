"""EC2 Instance Connect: an SSH key that was pushed to an instance is in its metadata for a minute (SendSSHPublicKey).

moto answers the call, whatever instance it names, and forgets the key.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from localaws.wsgi import Answer, json_error, take_body

LIFE_SECONDS = 60.0
_TARGET = "AWSEC2InstanceConnectService.SendSSHPublicKey"
_LARGEST_BODY_BYTES = 16_384
# AWS allows a little more; these cannot lead out of the folder of keys, nor can a key bring others with it.
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9@._-]{0,31}")
_PUBLIC_KEY = re.compile(r"(ssh|ecdsa)-[a-z0-9-]+ [A-Za-z0-9+/=]+( [^\n]*)?\n?")


class Instances(Protocol):
    """What is asked of the account."""

    def state_of(self, instance_id: str) -> str | None:
        """State of an instance, as in DescribeInstances; None where there is none of this id."""


@dataclass(frozen=True)
class Push:
    """What a client asks for.

    Attributes:
        instance_id: that shall let somebody in.
        user: of the instance's system.
        public_key: OpenSSH format.
    """

    instance_id: str
    user: str
    public_key: str


def push_in(environ: dict[str, Any]) -> Push | None:
    """What a request asks for; None for every other call. Leaves the body readable for moto.

    Args:
        environ: of the request (PEP 3333).
    """
    if environ.get("HTTP_X_AMZ_TARGET") != _TARGET:
        return None
    try:
        asked = json.loads(take_body(environ, _LARGEST_BODY_BYTES) or b"{}")
    except ValueError:
        asked = {}
    if not isinstance(asked, dict):
        asked = {}
    return Push(*(str(asked.get(name, "")) for name in ("InstanceId", "InstanceOSUser", "SSHPublicKey")))


class PushedKeys:
    """The keys that were pushed and are not forgotten yet.

    Args:
        instances: the account.
        clock: seconds, monotonic.
    """

    def __init__(self, instances: Instances, clock: Callable[[], float] = time.monotonic) -> None:
        self._instances = instances
        self._clock = clock
        self._lock = threading.Lock()  # every request has a thread
        self._expires: dict[Push, float] = {}

    def refusal(self, push: Push) -> Answer | None:
        """How AWS refuses a push; None where it takes it."""
        if not _USER.fullmatch(push.user) or not _PUBLIC_KEY.fullmatch(push.public_key):
            return _refused("InvalidArgsException", "InstanceOSUser or SSHPublicKey is not valid.")
        state = self._instances.state_of(push.instance_id)
        if state is None:
            return _refused("EC2InstanceNotFoundException", f"Instance {push.instance_id} was not found.")
        if state != "running":
            return _refused("EC2InstanceStateInvalidException", f"Instance {push.instance_id} is {state}, not running.")
        return None

    def add(self, push: Push) -> None:
        """Let the instance see a key for a minute from now."""
        now = self._clock()
        with self._lock:
            self._expires = {other: expires for other, expires in self._expires.items() if expires > now}
            self._expires[push] = now + LIFE_SECONDS

    def of(self, instance_id: str) -> dict[str, str]:
        """The keys that an instance sees now: for each user its keys, one a line."""
        now = self._clock()
        with self._lock:
            alive = [push for push, expires in self._expires.items() if expires > now]
        keys: dict[str, str] = {}
        for push in alive:
            if push.instance_id == instance_id:
                keys[push.user] = keys.get(push.user, "") + push.public_key.rstrip("\n") + "\n"
        return keys


def _refused(code: str, message: str) -> Answer:
    return json_error("400 Bad Request", code, message)
