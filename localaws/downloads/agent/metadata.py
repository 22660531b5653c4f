"""Asks the instance metadata service (IMDSv2) who this instance is."""

import json
import os
import time
import urllib.request
from collections.abc import Mapping

from .errors import MetadataError

DEFAULT_ENDPOINT = "http://169.254.169.254"
_TIMEOUT_SECONDS = 2
_PLACEHOLDERS = {"InstanceId": "instanceId", "InstanceType": "instanceType", "ImageId": "imageId"}


def read_identity(endpoint: str | None = None, patience_seconds: float = 30) -> Mapping[str, str]:
    """The instance identity document: `instanceId`, `instanceType`, `imageId`, `region`, ...

    Args:
        endpoint: else $AWS_EC2_METADATA_SERVICE_ENDPOINT, as in every AWS SDK, else the link-local address.
        patience_seconds: how long to try; the network may come up after the agent.

    Raises:
        MetadataError: no answer in that time.
    """
    base = (endpoint or os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return _fetch_identity(base)
        except (OSError, ValueError) as error:
            if time.monotonic() >= deadline:
                raise MetadataError(f"Make {base} answer with an instance identity document: {error}.") from error
        time.sleep(0.2)


def resolve(pairs: Mapping[str, str], identity: Mapping[str, str]) -> dict[str, str]:
    """Fill the placeholders in; a pair that the agent does not know, or that has no value here, is left out."""
    found = {}
    for name, placeholder in pairs.items():
        value = identity.get(_PLACEHOLDERS.get(name, ""))
        if value and placeholder == f"${{aws:{name}}}":
            found[name] = value
    return found


def _fetch_identity(base: str) -> Mapping[str, str]:
    token = _request(f"{base}/latest/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    document = _request(f"{base}/latest/dynamic/instance-identity/document", "GET", {"X-aws-ec2-metadata-token": token})
    identity = json.loads(document)
    return {key: value for key, value in identity.items() if isinstance(value, str)}


def _request(url: str, method: str, headers: Mapping[str, str]) -> str:
    request = urllib.request.Request(url, method=method, headers=dict(headers))  # noqa: S310 - our own endpoint
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
        return str(answer.read().decode())
