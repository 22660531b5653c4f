"""Reports on who uses an image in other accounts, through boto3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localaws.image_usage import WRITING_SECONDS
from tests.localaws.account_of_tests import Account, Clock, served

OTHER = "ami-0123456789abcdef0"
KINDS = ("ec2:Instance", "ec2:LaunchTemplate", "imagebuilder:ImageRecipe", "imagebuilder:ContainerRecipe")


class Report:
    """A report that was asked for."""

    def __init__(self, owner: Account, clock: Clock, image: str, **more: Any) -> None:
        asked = {"ResourceTypes": [{"ResourceType": kind} for kind in KINDS], **more}
        self._ec2, self._clock = owner.ec2, clock
        self.id = self._ec2.create_image_usage_report(ImageId=image, **asked)["ReportId"]

    def state(self) -> str:
        [report] = self._ec2.describe_image_usage_reports(ReportIds=[self.id])["ImageUsageReports"]
        return str(report["State"])

    def entries(self, **more: Any) -> list[tuple[str, str, int]]:
        pages = self._ec2.get_paginator("describe_image_usage_report_entries").paginate(ReportIds=[self.id], **more)
        return [
            (each["AccountId"], each["ResourceType"], each["UsageCount"])
            for page in pages
            for each in page["ImageUsageReportEntries"]
        ]

    def written(self) -> list[tuple[str, str, int]]:
        self._clock.now += timedelta(seconds=WRITING_SECONDS)
        return self.entries()


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def endpoint_url(clock: Clock) -> Iterator[str]:
    with served(clock) as url:
        yield url


@pytest.fixture
def accounts(endpoint_url: str) -> Iterator[tuple[Account, Account]]:
    """Whoever owns images, and whoever they are shared with."""
    with ExitStack() as stack:
        yield Account(endpoint_url, stack), Account(endpoint_url, stack)


def shared(owner: Account, *users: Account) -> str:
    image = owner.image()
    owner.ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": user.id} for user in users]})
    return image


def test_report_is_pending_and_empty_first_and_available_later(accounts: tuple[Account, Account], clock: Clock) -> None:
    owner, user = accounts
    image = shared(owner, user)
    user.launch(image)

    report = Report(owner, clock, image)
    at_once = report.state(), report.entries()
    later = report.written(), report.state()

    assert at_once == ("pending", [])
    assert later == ([(user.id, "ec2:Instance", 1)], "available")


def test_resources_are_counted_by_account_and_kind_and_the_owners_own_are_not(
    accounts: tuple[Account, Account], clock: Clock
) -> None:
    owner, user = accounts
    image = shared(owner, user)
    owner.launch(image)
    for _ in range(2):
        user.launch(image)
    user.template(image, image)
    user.image_recipe(image)

    found = Report(owner, clock, image).written()

    assert found == [
        (user.id, "ec2:Instance", 2), (user.id, "ec2:LaunchTemplate", 1), (user.id, "imagebuilder:ImageRecipe", 1),
    ]  # fmt: skip


def test_twenty_newest_versions_of_a_template_count_unless_more_are_asked_for(
    accounts: tuple[Account, Account], clock: Clock
) -> None:
    owner, user = accounts
    image = shared(owner, user)
    user.template(image, *([OTHER] * 20))
    option = {"OptionName": "version-depth", "OptionValues": ["10000"]}
    deep = [{"ResourceType": "ec2:LaunchTemplate", "ResourceTypeOptions": [option]}]

    assert Report(owner, clock, image).written() == []
    assert Report(owner, clock, image, ResourceTypes=deep).written() == [(user.id, "ec2:LaunchTemplate", 1)]


def test_entries_come_page_by_page(accounts: tuple[Account, Account], clock: Clock) -> None:
    owner, user = accounts
    image = shared(owner, user)
    user.launch(image)
    user.template(image)
    report = Report(owner, clock, image)
    whole = report.written()

    first = owner.ec2.describe_image_usage_report_entries(ReportIds=[report.id], MaxResults=1)

    assert (len(first["ImageUsageReportEntries"]), "NextToken" in first) == (1, True)
    assert report.entries(PaginationConfig={"PageSize": 1}) == whole


def test_report_may_be_of_some_accounts(accounts: tuple[Account, Account], clock: Clock, endpoint_url: str) -> None:
    owner, user = accounts
    with ExitStack() as stack:
        third = Account(endpoint_url, stack)
        image = shared(owner, user, third)
        user.launch(image)
        third.launch(image)

        found = Report(owner, clock, image, AccountIds=[third.id]).written()

    assert found == [(third.id, "ec2:Instance", 1)]


def test_report_is_the_accounts_own_and_gone_when_it_is_deleted_or_a_month_old(
    accounts: tuple[Account, Account], clock: Clock
) -> None:
    owner, user = accounts
    reports = [Report(owner, clock, shared(owner, user)) for _ in range(2)]

    with pytest.raises(ClientError) as of_others:
        user.ec2.describe_image_usage_reports(ReportIds=[reports[0].id])
    owner.ec2.delete_image_usage_report(ReportId=reports[0].id)
    with pytest.raises(ClientError) as deleted:
        reports[0].state()
    clock.now += timedelta(days=31)
    with pytest.raises(ClientError) as expired:
        reports[1].state()

    codes = {caught.value.response["Error"]["Code"] for caught in (of_others, deleted, expired)}
    assert codes == {"InvalidImageUsageReportId.NotFound"}


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"ImageId": OTHER, "ResourceTypes": [{"ResourceType": "ec2:Instance"}]}, "InvalidAMIID.NotFound"),
        ({"ImageId": OTHER, "ResourceTypes": []}, "MissingParameter"),
        ({"ImageId": OTHER, "ResourceTypes": [{"ResourceType": "ssm:Parameter"}]}, "InvalidParameterValue"),
        ({"ImageId": OTHER, "ResourceTypes": [{"ResourceType": "ec2:Volume"}]}, "InvalidParameterValue"),
    ],
)
def test_what_cannot_be_is_refused_by_name(accounts: tuple[Account, Account], asked: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as caught:
        accounts[0].ec2.create_image_usage_report(**asked)

    assert caught.value.response["Error"]["Code"] == code
