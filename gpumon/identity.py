"""Who this host is, from the EC2 instance metadata service (version 2 only)."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from urllib.request import ProxyHandler, Request, build_opener

from gpumon.errors import IdentityUnavailableError

TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path, not a secret
DOCUMENT_PATH = "/latest/dynamic/instance-identity/document"
TOKEN_SECONDS = 60
TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True)
class InstanceIdentity:
    """What the instance identity document says of this host."""

    instance_id: str
    instance_type: str
    image_id: str
    region: str


def fetch_identity(endpoint: str, timeout_seconds: float = TIMEOUT_SECONDS) -> InstanceIdentity:
    """Ask the metadata service at base URL `endpoint` who this host is: one token, one document.

    Raises:
        IdentityUnavailableError: It does not answer, refuses, or answers something else.
    """
    # The address is link-local: a proxy from the environment could only leak the request or break it.
    opener = build_opener(ProxyHandler({}))
    base = endpoint.rstrip("/")

    def ask(method: str, path: str, headers: dict[str, str]) -> bytes:
        request = Request(base + path, method=method, headers=headers)  # noqa: S310 - settings.py allows http only
        with opener.open(request, timeout=timeout_seconds) as answer:
            return bytes(answer.read())

    try:
        token = ask("PUT", TOKEN_PATH, {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}).decode("ascii")
        document = json.loads(ask("GET", DOCUMENT_PATH, {"X-aws-ec2-metadata-token": token}))
        return InstanceIdentity(
            document["instanceId"], document["instanceType"], document["imageId"], document["region"]
        )
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise IdentityUnavailableError(
            f"Enable the instance metadata service (version 2) for this instance: {base} did not say who it is"
            f" ({type(error).__name__}: {error})."
        ) from error
