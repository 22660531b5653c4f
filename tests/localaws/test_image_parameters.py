"""Parameters of images, and launches by them, through boto3 against moto with the layers before it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import DomainDispatcherApplication, create_backend_app

from localaws.api import ObservedApi
from localaws.image_parameters import DATA_TYPE, VALIDATION_SECONDS, ImageParameters
from tests.localaws.conftest import served


class Clock:
    """UTC, moved by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def validate(self) -> None:
        self.now += timedelta(seconds=VALIDATION_SECONDS)


class Account:
    """Clients of an account, and the clock of its API."""

    def __init__(self, endpoint_url: str, clock: Clock) -> None:
        arguments: dict[str, Any] = {"region_name": "us-east-1", "endpoint_url": endpoint_url}
        arguments |= {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        self.ssm: Any = boto3.client("ssm", **arguments)
        self.ec2: Any = boto3.client("ec2", **arguments)
        self.clock = clock
        self.name = f"/gpunodes/{uuid.uuid4()}/ami-id"

    def image(self) -> str:
        made = self.ec2.register_image(Name=str(uuid.uuid4()), RootDeviceName="/dev/xvda")
        return str(made["ImageId"])

    def template(self, image_id: str) -> str:
        data = {"ImageId": image_id, "InstanceType": "t3.small"}
        made = self.ec2.create_launch_template(LaunchTemplateName=str(uuid.uuid4()), LaunchTemplateData=data)
        return str(made["LaunchTemplate"]["LaunchTemplateId"])

    def launch(self, **arguments: Any) -> str:
        launched = self.ec2.run_instances(MinCount=1, MaxCount=1, **arguments)["Instances"][0]
        self.ec2.terminate_instances(InstanceIds=[launched["InstanceId"]])
        return str(launched["ImageId"])

    def put(self, value: str, **more: Any) -> int:
        arguments = {"Name": self.name, "Value": value, "Type": "String", "DataType": DATA_TYPE, **more}
        return int(self.ssm.put_parameter(**arguments)["Version"])

    def value(self) -> tuple[str, int] | None:
        try:
            found = self.ssm.get_parameter(Name=self.name)["Parameter"]
        except self.ssm.exceptions.ParameterNotFound:
            return None
        return found["Value"], found["Version"]


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def endpoint_url(clock: Clock) -> Iterator[str]:
    moto = DomainDispatcherApplication(create_backend_app)
    observed = ObservedApi(moto)
    observed._image_parameters = ImageParameters(moto, observed, clock)
    with served(observed) as url:
        yield url


@pytest.fixture
def account(endpoint_url: str, clock: Clock) -> Iterator[Account]:
    made = Account(endpoint_url, clock)
    yield made
    made.ssm.close()
    made.ec2.close()


def test_value_is_there_once_it_was_validated(account: Account) -> None:
    image = account.image()

    version = account.put(image)
    at_once = account.value()
    account.clock.validate()

    assert (version, at_once, account.value()) == (1, None, (image, 1))


def test_new_version_takes_the_place_of_the_old_one_later(account: Account) -> None:
    first, second = account.image(), account.image()
    account.put(first)
    account.clock.validate()

    version = account.put(second, Overwrite=True)
    at_once = account.value()
    account.clock.validate()

    assert (version, at_once, account.value()) == (2, (first, 1), (second, 2))


def test_what_is_no_image_is_answered_and_then_dropped(account: Account) -> None:
    image = account.image()
    account.put(image)
    account.clock.validate()

    assert account.put("ami-0123456789abcdef0", Overwrite=True) == 2
    account.clock.validate()

    assert account.value() == (image, 1)


def test_disabled_image_is_not_valid(account: Account) -> None:
    image = account.image()
    account.ec2.disable_image(ImageId=image)

    account.put(image)
    account.clock.validate()

    assert account.value() is None


def test_parameter_stays_one_of_images_when_the_type_is_not_named_again(account: Account) -> None:
    image = account.image()
    account.put(image)
    account.clock.validate()

    account.ssm.put_parameter(Name=account.name, Value="no image", Overwrite=True)
    account.clock.validate()

    assert account.value() == (image, 1)


def test_parameter_that_exists_is_not_overwritten_unless_that_is_asked_for(account: Account) -> None:
    account.put(account.image())
    account.clock.validate()

    with pytest.raises(ClientError) as caught:
        account.put(account.image())

    assert caught.value.response["Error"]["Code"] == "ParameterAlreadyExists"


def test_text_is_stored_at_once(account: Account) -> None:
    account.put("no image", DataType="text")

    assert account.value() == ("no image", 1)


def test_history_and_labels_are_those_of_valid_versions(account: Account) -> None:
    images = [account.image(), account.image()]
    for image in images:
        account.put(image, Overwrite=True)
        account.clock.validate()
    account.ssm.label_parameter_version(Name=account.name, ParameterVersion=1, Labels=["previous"])

    history = account.ssm.get_parameter_history(Name=account.name)["Parameters"]

    assert [entry["Value"] for entry in history] == images
    assert account.ssm.get_parameter(Name=f"{account.name}:previous")["Parameter"]["Value"] == images[0]


def test_launch_by_the_parameter_boots_the_image_that_it_names_then(account: Account) -> None:
    images = [account.image(), account.image()]
    alias = f"resolve:ssm:{account.name}"
    launched = []
    for image in images:
        account.put(image, Overwrite=True)
        account.clock.validate()
        launched.append(account.launch(ImageId=alias))

    assert launched == images


@pytest.mark.parametrize("version", [{}, {"Version": "$Latest"}, {"Version": "1"}])
def test_launch_template_may_name_the_parameter(account: Account, version: dict[str, str]) -> None:
    image = account.image()
    account.put(image)
    account.clock.validate()
    template = account.template(f"resolve:ssm:{account.name}")

    launched = account.launch(LaunchTemplate={"LaunchTemplateId": template, **version})

    assert launched == image


def test_alias_is_shown_resolved_only_where_that_is_asked_for(account: Account) -> None:
    image = account.image()
    account.put(image)
    account.clock.validate()
    template = account.template(alias := f"resolve:ssm:{account.name}")

    def shown(**more: Any) -> str:
        found = account.ec2.describe_launch_template_versions(LaunchTemplateId=template, **more)
        return str(found["LaunchTemplateVersions"][0]["LaunchTemplateData"]["ImageId"])

    assert (shown(), shown(ResolveAlias=True)) == (alias, image)


def test_launch_by_a_template_of_a_disabled_image_is_refused(account: Account) -> None:
    image = account.image()
    template = account.template(image)
    account.ec2.disable_image(ImageId=image)

    with pytest.raises(ClientError) as caught:
        account.launch(LaunchTemplate={"LaunchTemplateId": template})

    assert caught.value.response["Error"]["Code"] == "InvalidAMIID.Unavailable"


@pytest.mark.parametrize("value", [None, "no image"])
def test_parameter_without_an_image_launches_nothing(account: Account, value: str | None) -> None:
    if value:
        account.put(value, DataType="text")

    with pytest.raises(ClientError) as caught:
        account.launch(ImageId=f"resolve:ssm:{account.name}")

    assert caught.value.response["Error"]["Code"] == "InvalidParameterValue"
