"""EC2 Instance Connect: an instance accepts a public key for a minute after it was pushed (SendSSHPublicKey).

The key goes to the instance's metadata; the package ec2-instance-connect on the instance lets sshd look there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from botocore.exceptions import ClientError

from gpunodes.aws import aws_errors
from gpunodes.errors import AwsError

PERMISSION = "ec2-instance-connect:SendSSHPublicKey"
_LIFE_SECONDS = 60.0
# What is left of the minute is for the tunnel and for SSH's own handshake.
_PUSH_AGAIN_SECONDS = _LIFE_SECONDS - 20.0
_ASK_AGAIN_SECONDS = 2.0  # whoever connects tries more often than AWS wants to be asked
_FORBIDDEN_CODES = frozenset({"AccessDenied", "AccessDeniedException", "AuthException"})
# The instance still starts, EC2 Instance Connect has not heard of it, or it has too much to do.
_LATER_CODES = frozenset({"EC2InstanceNotFoundException", "EC2InstanceStateInvalidException",
    "EC2InstanceUnavailableException", "ServiceException", "ServiceUnavailableException", "ThrottlingException",
    "TooManyRequestsException"})  # fmt: skip


class Api(Protocol):
    """What is asked of AWS; boto3's client `ec2-instance-connect` is one."""

    def send_ssh_public_key(self, *, InstanceId: str, InstanceOSUser: str, SSHPublicKey: str) -> Any:  # noqa: N803
        """Push a key."""


class InstanceConnect:
    """Lets one key into one instance.

    Args:
        api: of the instance's region.
        instance_id: that shall let us in.
        user: of the instance's system.
        public_key: in OpenSSH's format.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        api: Api,
        instance_id: str,
        user: str,
        public_key: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._instance_id, self._user, self._public_key = instance_id, user, public_key
        self._clock = clock
        self._next_push = float("-inf")
        self._refusal: AwsError | None = None

    def admit(self) -> AwsError | None:
        """Push the key where the last push is too old to log in with; return what AWS has against it for now.

        Raises:
            PreflightError: the credentials are no longer valid.
            AwsError: AWS will not take it, however often it is asked.
        """
        now = self._clock()
        if now >= self._next_push:
            self._refusal = self._push()
            self._next_push = now + (_PUSH_AGAIN_SECONDS if self._refusal is None else _ASK_AGAIN_SECONDS)
        return self._refusal

    def _push(self) -> AwsError | None:
        try:
            with aws_errors(f"pushing the SSH key to {self._instance_id}"):
                self._api.send_ssh_public_key(
                    InstanceId=self._instance_id, InstanceOSUser=self._user, SSHPublicKey=self._public_key
                )
        except AwsError as error:
            code = _code_of(error)
            if code in _LATER_CODES:
                later = AwsError(f"EC2 Instance Connect answers {code}")
                later.__cause__ = error
                return later
            if code in _FORBIDDEN_CODES:
                raise AwsError(
                    f"You may not push an SSH key to {self._instance_id} as {self._user}; "
                    f"have {PERMISSION} allowed for it, or set ssh_key in gpunodes.toml to key_pair."
                ) from error
            raise
        return None


def _code_of(error: AwsError) -> str:
    cause = error.__cause__
    return str(cause.response["Error"]["Code"]) if isinstance(cause, ClientError) else ""
