"""Accounts of the offline cloud's API, without machines, for tests that drive it through boto3."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app

from localaws.api import ObservedApi
from tests.localaws import conftest


class Clock:
    """UTC, moved by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@contextmanager
def served(clock: Clock) -> Iterator[str]:
    """The address of an API whose reports, recipes and parameters go by a clock."""
    observed = ObservedApi(DomainDispatcherApplication(create_backend_app))
    for part in (observed._image_usage, observed._image_builder, observed._image_parameters):
        part._clock = clock
    with conftest.served(observed) as url:
        yield url


class Account:
    """Clients of an account that nobody else uses."""

    def __init__(self, endpoint_url: str, stack: ExitStack) -> None:
        self.id = str(uuid.uuid4().int)[:12].replace("0", "1")
        self._arguments = {"region_name": "us-east-1", "endpoint_url": endpoint_url}
        self._stack = stack
        key = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        sts: Any = stack.enter_context(_closing(boto3.client("sts", **self._arguments, **key)))  # type: ignore[call-overload]
        role = sts.assume_role(RoleArn=f"arn:aws:iam::{self.id}:role/test", RoleSessionName="test")["Credentials"]
        self._key = {
            "aws_access_key_id": role["AccessKeyId"],
            "aws_secret_access_key": role["SecretAccessKey"],
            "aws_session_token": role["SessionToken"],
        }
        self.ec2 = self.client("ec2")
        self.ssm = self.client("ssm")
        self.builder = self.client("imagebuilder")

    def client(self, service: str, **more: str) -> Any:
        made = boto3.client(service, **{**self._arguments, **self._key, **more})  # type: ignore[call-overload]
        return self._stack.enter_context(_closing(made))

    def image(self) -> str:
        made = self.ec2.register_image(Name=str(uuid.uuid4()), RootDeviceName="/dev/xvda")
        return str(made["ImageId"])

    def launch(self, image_id: str) -> str:
        launched = self.ec2.run_instances(ImageId=image_id, MinCount=1, MaxCount=1)["Instances"][0]
        return str(launched["InstanceId"])

    def template(self, *image_ids: str) -> str:
        """A launch template with a version for each of these."""
        first, *others = ({"ImageId": image_id, "InstanceType": "t3.small"} for image_id in image_ids)
        made = self.ec2.create_launch_template(LaunchTemplateName=str(uuid.uuid4()), LaunchTemplateData=first)
        template_id = str(made["LaunchTemplate"]["LaunchTemplateId"])
        for data in others:
            self.ec2.create_launch_template_version(LaunchTemplateId=template_id, LaunchTemplateData=data)
        return template_id

    def image_recipe(self, parent: str, version: str = "1.0.0", name: str = "gpu") -> str:
        component = {"componentArn": "arn:aws:imagebuilder:us-east-1:aws:component/update-linux/1.0.0"}
        made = self.builder.create_image_recipe(
            name=name, semanticVersion=version, parentImage=parent, components=[component]
        )
        return str(made["imageRecipeArn"])

    def container_recipe(self, image: str, name: str = "box") -> str:
        made = self.builder.create_container_recipe(
            containerType="DOCKER",
            name=name,
            semanticVersion="1.0.0",
            parentImage="debian:12",
            targetRepository={"service": "ECR", "repositoryName": "box"},
            **({"instanceConfiguration": {"image": image}} if image else {}),
        )
        return str(made["containerRecipeArn"])


@contextmanager
def _closing(client: Any) -> Iterator[Any]:
    yield client
    client.close()
