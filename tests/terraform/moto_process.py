"""A moto server in a process of its own, with one image; in this process it would share its state with other tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AMI_ID = "ami-0123456789abcdef0"
REGION = "eu-central-1"
_IMAGE = {
    "ami_id": AMI_ID,
    "name": "image",
    "owner_id": "123456789012",
    "architecture": "x86_64",
    "root_device_name": "/dev/xvda",
    "root_device_type": "ebs",
    "virtualization_type": "hvm",
    "hypervisor": "xen",
    "description": "",
    "image_type": "machine",
    "image_location": "here",
    "public": False,
    "state": "available",
    "platform": None,
    "sriov": "simple",
    "creation_date": "2026-01-01T00:00:00.000Z",
}


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """The server's URL, on a free port of loopback; `folder` gets its log."""
    images, log = folder / "images.json", folder / "moto.log"
    images.write_text(json.dumps([_IMAGE]))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
    environment |= {"MOTO_AMIS_PATH": str(images), "MOTO_IAM_LOAD_MANAGED_POLICIES": "true", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with (
        log.open("w") as output,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment) as server,
    ):
        try:
            yield _url(server, log)
        finally:
            server.terminate()


def _url(server: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the server says where it listens."""
    for _ in range(600):
        if found := re.search(r"Running on (http://\S+)", log.read_text()):
            return found.group(1)
        try:
            server.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        break
    message = f"moto did not start: {log.read_text()}"
    raise AssertionError(message)
