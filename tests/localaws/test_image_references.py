"""DescribeImageReferences through boto3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localaws.image_parameters import VALIDATION_SECONDS
from tests.localaws.account_of_tests import Account, Clock, served

OTHER = "ami-0123456789abcdef0"


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def endpoint_url(clock: Clock) -> Iterator[str]:
    with served(clock) as url:
        yield url


@pytest.fixture
def account(endpoint_url: str) -> Iterator[Account]:
    with ExitStack() as stack:
        yield Account(endpoint_url, stack)


def references(account: Account, *images: str, **asked: Any) -> list[tuple[str, str]]:
    """Kind, and what the resource is called."""
    asked = asked or {"IncludeAllResourceTypes": True}
    pages = account.ec2.get_paginator("describe_image_references").paginate(ImageIds=list(images), **asked)
    return [(each["ResourceType"], each["Arn"].split(":", 5)[5]) for page in pages for each in page["ImageReferences"]]


def template_depth(versions: int) -> dict[str, Any]:
    option = {"OptionName": "version-depth", "OptionValues": [str(versions)]}
    return {"ResourceTypes": [{"ResourceType": "ec2:LaunchTemplate", "ResourceTypeOptions": [option]}]}


def test_image_that_nobody_names_has_no_references(account: Account) -> None:
    account.launch(account.image())

    assert references(account, account.image()) == []


def test_every_kind_of_resource_is_found(account: Account) -> None:
    image = account.image()
    instance, template = account.launch(image), account.template(image)
    account.ssm.put_parameter(Name="/team/ami", Value=image, Type="String", DataType="text")
    account.image_recipe(image)
    account.container_recipe(image)

    assert references(account, image) == [
        ("ec2:Instance", f"instance/{instance}"),
        ("ec2:LaunchTemplate", f"launch-template/{template}"),
        ("imagebuilder:ImageRecipe", "image-recipe/gpu/1.0.0"),
        ("imagebuilder:ContainerRecipe", "container-recipe/box/1.0.0"),
    ]


def test_stopped_instance_counts_unless_other_states_are_asked_for(account: Account) -> None:
    image = account.image()
    instance = account.launch(image)
    account.ec2.stop_instances(InstanceIds=[instance])
    option = {"OptionName": "state-name", "OptionValues": ["running"]}
    running = {"ResourceTypes": [{"ResourceType": "ec2:Instance", "ResourceTypeOptions": [option]}]}

    assert references(account, image) == [("ec2:Instance", f"instance/{instance}")]
    assert references(account, image, **running) == []


def test_ten_newest_versions_of_a_template_count_unless_more_are_asked_for(account: Account) -> None:
    image = account.image()
    template = account.template(image, *([OTHER] * 10))
    found = [("ec2:LaunchTemplate", f"launch-template/{template}")]

    assert references(account, image) == []
    assert references(account, image, **template_depth(10)) == []
    assert references(account, image, **template_depth(10000)) == found
    assert references(account, image, IncludeAllResourceTypes=True, **template_depth(10000)) == found


def test_parameter_of_images_counts_and_leads_templates_and_recipes_to_the_image(account: Account) -> None:
    image = account.image()
    account.ssm.put_parameter(Name="/team/ami", Value=image, Type="String")
    template = account.template("resolve:ssm:/team/ami")
    account.image_recipe("ssm:/team/ami")

    assert references(account, image) == [
        ("ec2:LaunchTemplate", f"launch-template/{template}"),
        ("imagebuilder:ImageRecipe", "image-recipe/gpu/1.0.0"),
    ]


def test_parameter_of_the_type_of_images_counts(account: Account, clock: Clock) -> None:
    image = account.image()
    account.ssm.put_parameter(Name="/team/typed", Value=OTHER, Type="String")
    account.ssm.put_parameter(Name="/team/image", Value=image, Type="String", DataType="aws:ec2:image")
    clock.now += timedelta(seconds=VALIDATION_SECONDS)

    assert references(account, image) == [("ssm:Parameter", "parameter/team/image")]


def test_answers_come_page_by_page_and_those_of_other_images_not_at_all(account: Account) -> None:
    image, other = account.image(), account.image()
    instances = sorted(account.launch(image) for _ in range(7))
    account.launch(other)

    page = account.ec2.describe_image_references(ImageIds=[image], IncludeAllResourceTypes=True, MaxResults=5)

    assert len(page["ImageReferences"]) == 5
    found = references(account, image, IncludeAllResourceTypes=True, PaginationConfig={"PageSize": 5})
    assert sorted(name for _, name in found) == [f"instance/{instance}" for instance in instances]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"ImageIds": [OTHER]}, "MissingParameter"),
        ({"ImageIds": [OTHER] * 11, "IncludeAllResourceTypes": True}, "InvalidParameterValue"),
        ({"ImageIds": [OTHER], "ResourceTypes": [{"ResourceType": "ec2:Volume"}]}, "InvalidParameterValue"),
        ({"ImageIds": [OTHER], **template_depth(10001)}, "InvalidParameterValue"),
        ({"ImageIds": [OTHER], "IncludeAllResourceTypes": True, "NextToken": "elsewhere"}, "InvalidNextToken"),
    ],
)
def test_what_cannot_be_is_refused_by_name(account: Account, asked: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as caught:
        account.ec2.describe_image_references(**asked)

    assert caught.value.response["Error"]["Code"] == code
