"""Images of channels in an account of moto's."""

from __future__ import annotations

import uuid
from typing import Any

from gpunodes.aws import Clients
from tests.gpunodes.fakes import base_image


def make_image(clients: Clients, state: str = "proven", channel: str = "stable", **more: str) -> str:
    """An image as a bake and a proof leave it; `more` are tags without their prefix."""
    launched = clients.ec2.run_instances(ImageId=base_image(clients), MinCount=1, MaxCount=1)["Instances"][0]
    made = clients.ec2.create_image(InstanceId=launched["InstanceId"], Name=str(uuid.uuid4()))["ImageId"]
    tags = {"state": state, "channel": channel, **({"proof-sha256": "0" * 64} if state == "proven" else {}), **more}
    pairs = [{"Key": f"gpunodes:{key.replace('_', '-')}", "Value": value} for key, value in tags.items()]
    clients.ec2.create_tags(Resources=[made], Tags=pairs)
    return str(made)


def tags_of(clients: Clients, ami_id: str) -> dict[str, Any]:
    """Its tags, without their prefix."""
    [image] = clients.ec2.describe_images(ImageIds=[ami_id])["Images"]
    return {tag["Key"].removeprefix("gpunodes:"): tag["Value"] for tag in image["Tags"]}
