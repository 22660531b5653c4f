from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.parsers import ResponseParserError

from gpunodes.errors import AwsError, PreflightError, UsageError
from gpunodes.preflight import account
from gpunodes.preflight.account import home_region

REGIONS = [
    {"RegionName": "us-east-1", "OptInStatus": "opt-in-not-required"},
    {"RegionName": "ap-east-1", "OptInStatus": "not-opted-in"},
    {"RegionName": "af-south-1", "OptInStatus": "opted-in"},
]
WHO = {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/ann"}
EXPIRED = ClientError({"Error": {"Code": "ExpiredToken"}}, "GetCallerIdentity")
CLOSED_REGION = ClientError({"Error": {"Code": "AuthFailure"}}, "DescribeRegions")
DENIED = ClientError({"Error": {"Code": "UnauthorizedOperation"}}, "DescribeRegions")
UNREACHABLE = EndpointConnectionError(endpoint_url="https://ec2.us-nowhere-1.amazonaws.com")


@dataclass
class FakeAws:
    """EC2 and STS of a region; `error` is what every call meets."""

    error: Exception | None = None
    subnets: tuple[dict[str, Any], ...] = ()

    def get_caller_identity(self) -> dict[str, str]:
        self._fail()
        return WHO

    def describe_regions(self, AllRegions: bool, RegionNames: list[str] | None = None) -> dict[str, Any]:  # noqa: N803
        self._fail()
        assert AllRegions
        return {"Regions": [each for each in REGIONS if not RegionNames or each["RegionName"] in RegionNames]}

    def get_paginator(self, operation: str) -> FakeAws:
        assert operation == "describe_subnets"
        return self

    def paginate(self, **_filters: Any) -> list[dict[str, Any]]:
        self._fail()
        return [{"Subnets": []}, {"Subnets": list(self.subnets)}]

    def _fail(self) -> None:
        if self.error:
            raise self.error


def never() -> FakeAws:
    pytest.fail("another region was asked without need")


def home(error: Exception | None = None) -> Callable[[], FakeAws]:
    return lambda: FakeAws(error)


def test_identity_is_account_and_arn() -> None:
    seen = account.identity(FakeAws(), never)

    assert seen.evidence == {"account": WHO["Account"], "arn": WHO["Arn"]}


def test_good_credentials_that_a_closed_region_refuses_are_good() -> None:
    assert account.identity(FakeAws(CLOSED_REGION), home()).fact == "123456789012"


def test_expired_credentials_are_one_sentence() -> None:
    with pytest.raises(PreflightError) as caught:
        account.identity(FakeAws(EXPIRED), home(EXPIRED))

    assert str(caught.value) == "AWS does not accept the credentials (ExpiredToken); log in again and repeat."
    assert caught.value.exit_code == 2


def test_open_region_is_asked_alone() -> None:
    assert account.region(FakeAws(), "af-south-1", never).evidence["opt_in_status"] == "opted-in"


@pytest.mark.parametrize("error", [CLOSED_REGION, ResponseParserError("html")])
def test_region_that_is_not_opted_in_refuses_and_the_home_region_says_why(error: Exception) -> None:
    with pytest.raises(PreflightError, match="Your account has not opted in to the region ap-east-1; enable it"):
        account.region(FakeAws(error), "ap-east-1", home())


def test_region_that_does_not_exist_is_a_usage_error_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        account.region(FakeAws(UNREACHABLE), "us-esat-1", home())

    assert str(caught.value) == "There is no region `us-esat-1`; did you mean `us-east-1`?"


@pytest.mark.parametrize(("error", "home_error"), [(UNREACHABLE, UNREACHABLE), (DENIED, DENIED), (UNREACHABLE, None)])
def test_what_the_home_region_cannot_explain_stays_as_it_was(error: Exception, home_error: Exception | None) -> None:
    with pytest.raises(AwsError, match="looking up the region") as caught:
        account.region(FakeAws(error), "us-east-1", home(home_error))

    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("region", "home_of_it"),
    [("eu-west-1", "us-east-1"), ("cn-northwest-1", "cn-north-1"), ("us-gov-east-1", "us-gov-west-1")],
)
def test_every_partition_has_a_home(region: str, home_of_it: str) -> None:
    assert home_region(region) == home_of_it


def test_subnet_without_a_free_address_is_a_usage_error() -> None:
    full = {"AvailabilityZone": "us-east-1a", "AvailableIpAddressCount": 0}

    with pytest.raises(UsageError, match="Subnet subnet-1 has no free address; set another subnet_id"):
        account.subnet(FakeAws(subnets=(full,)), "subnet-1")


def test_subnet_on_a_later_page_is_found() -> None:
    found = {"AvailabilityZone": "us-east-1a", "AvailableIpAddressCount": 3}

    assert account.subnet(FakeAws(subnets=(found,)), "subnet-1").fact.zone == "us-east-1a"
