"""Lists of launch templates and of their versions through boto3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from botocore.exceptions import ClientError

from tests.localaws.account_of_tests import Account, Clock, served

IMAGE = "ami-0123456789abcdef0"


@pytest.fixture(scope="module")
def endpoint_url() -> Iterator[str]:
    with served(Clock()) as url:
        yield url


@pytest.fixture
def account(endpoint_url: str) -> Iterator[Account]:
    with ExitStack() as stack:
        yield Account(endpoint_url, stack)


def test_all_templates_are_listed(account: Account) -> None:
    made = {account.template(IMAGE) for _ in range(17)}

    whole = account.ec2.describe_launch_templates()["LaunchTemplates"]
    pages = list(account.ec2.get_paginator("describe_launch_templates").paginate(PaginationConfig={"PageSize": 5}))

    assert {each["LaunchTemplateId"] for each in whole} == made
    assert [len(page["LaunchTemplates"]) for page in pages] == [5, 5, 5, 2]
    assert {each["LaunchTemplateId"] for page in pages for each in page["LaunchTemplates"]} == made


def test_all_versions_of_a_template_are_listed(account: Account) -> None:
    template = account.template(*([IMAGE] * 17))

    whole = account.ec2.describe_launch_template_versions(LaunchTemplateId=template)["LaunchTemplateVersions"]
    paginator = account.ec2.get_paginator("describe_launch_template_versions")
    pages = list(paginator.paginate(LaunchTemplateId=template, PaginationConfig={"PageSize": 10}))

    assert sorted(each["VersionNumber"] for each in whole) == list(range(1, 18))
    assert [len(page["LaunchTemplateVersions"]) for page in pages] == [10, 7]


def test_versions_may_be_chosen(account: Account) -> None:
    template = account.template(*([IMAGE] * 3))

    found = account.ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=["$Latest"])

    assert [each["VersionNumber"] for each in found["LaunchTemplateVersions"]] == [3]


def test_page_that_is_too_large_is_refused(account: Account) -> None:
    with pytest.raises(ClientError) as caught:
        account.ec2.describe_launch_templates(MaxResults=201)

    assert caught.value.response["Error"]["Code"] == "InvalidParameterValue"
