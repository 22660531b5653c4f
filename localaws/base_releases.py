"""The releases of the base image: each an AMI, and one of them is what its publisher calls the latest.

Debian names its latest image in a public parameter of Systems Manager. A second release waits here to be published, so
that whatever follows a base image can be seen following it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from localaws.images import Image
from localaws.wsgi import Answer, take_body

PARAMETER = "/aws/service/debian/release/12/latest/amd64"
RELEASE_FILE = "etc/localaws-release"
"""On the instance: the number of its base image's release, where that is not the first."""
_PUBLISHER = "136693071363"  # the account of Debian's own images
_JSON = "application/x-amz-json-1.1"
_LARGEST_BODY_BYTES = 64_000


@dataclass(frozen=True)
class Release:
    """A release of the base image.

    Attributes:
        number: from 1.
        image: its AMI id and layers.
        made_at: UTC.
    """

    number: int
    image: Image
    made_at: datetime

    def ami(self) -> dict[str, Any]:
        """As in the file of MOTO_AMIS_PATH."""
        return {
            "ami_id": self.image.image_id,
            "name": f"debian-12-gpu-offline-{self.made_at:%Y%m%d}",
            "description": "Debian 12 with a simulated NVIDIA driver (localaws)",
            "owner_id": _PUBLISHER,
            "architecture": "x86_64",
            "virtualization_type": "hvm",
            "hypervisor": "xen",
            "root_device_name": "/dev/xvda",
            "root_device_type": "ebs",
            "creation_date": f"{self.made_at:%Y-%m-%dT%H:%M:%S.000Z}",
            "public": True,
            "state": "available",
        }


def image_ids(digest: str) -> tuple[str, str]:
    """The AMI ids of the releases: made of the base system's digest, so a changed base has others."""
    second = hashlib.sha256(f"{digest} 2".encode()).hexdigest()
    return f"ami-{digest[:17]}", f"ami-{second[:17]}"


def make(digest: str, layers: tuple[Path, ...], folder: Path, now: datetime) -> list[Release]:
    """The releases; the second differs from the first by one file.

    Args:
        digest: of the base system.
        layers: of the base system, uppermost first.
        folder: for the layer of the second.
        now: UTC; the first was made a day before, the second an hour before.
    """
    first, second = image_ids(digest)
    (folder / RELEASE_FILE).parent.mkdir(parents=True)
    (folder / RELEASE_FILE).write_text("2\n")
    return [
        Release(1, Image(first, layers), now - timedelta(days=1)),
        Release(2, Image(second, (folder, *layers)), now - timedelta(hours=1)),
    ]


class PublicParameter:
    """Answers GetParameter of Debian's public parameter, which moto does not have.

    Args:
        latest: the AMI id that it holds now.
        clock: UTC.
    """

    def __init__(self, latest: Callable[[], str], clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._latest = latest
        self._clock = clock

    def answer(self, environ: dict[str, Any]) -> Answer | None:
        """The answer to a read of the parameter; None for any other request.

        Args:
            environ: of the request (PEP 3333); its body stays readable.
        """
        if environ.get("HTTP_X_AMZ_TARGET") != "AmazonSSM.GetParameter":
            return None
        try:
            asked = json.loads(take_body(environ, _LARGEST_BODY_BYTES) or b"")
        except ValueError:
            return None  # moto says what is wrong with it
        if not isinstance(asked, dict) or asked.get("Name") != PARAMETER:
            return None
        parameter = {
            "Name": PARAMETER,
            "Type": "String",
            "Value": self._latest(),
            "Version": 1,
            "LastModifiedDate": self._clock().timestamp(),
            "ARN": f"arn:aws:ssm:us-east-1::parameter{PARAMETER}",
            "DataType": "aws:ec2:image",
        }
        return Answer("200 OK", [("Content-Type", _JSON)], json.dumps({"Parameter": parameter}).encode())
