from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from gpunodes.aws import aws_errors
from gpunodes.channel.reach import region_errors
from gpunodes.errors import AwsError, PreflightError
from tests.gpunodes.lifecycle.api_in_process import Api


@pytest.mark.parametrize(
    "code", ["AuthFailure", "OptInRequired", "UnrecognizedClientException", "InvalidClientTokenId"]
)
def test_region_that_does_not_know_the_account_is_said_to_be_it(code: str) -> None:
    sentence = rf"Region ap-east-1 does not know this account \({code}\), so it is switched off, .*refresh.toml\.$"
    with pytest.raises(PreflightError, match=sentence), region_errors("ap-east-1"), aws_errors("asking"):
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "DescribeImages")


def test_other_errors_of_a_region_stay_what_they_are() -> None:
    with pytest.raises(AwsError, match="UnauthorizedOperation"), region_errors("us-west-2"), aws_errors("asking"):
        raise ClientError({"Error": {"Code": "UnauthorizedOperation", "Message": "no"}}, "DescribeImages")


def test_region_of_the_offline_cloud_that_is_off_is_said_to_be() -> None:
    there = Api().clients.in_region("ap-east-1")

    said = r"AuthFailure.*is switched off"
    with pytest.raises(PreflightError, match=said), region_errors("ap-east-1"), aws_errors("looking for images"):
        there.ec2.describe_images(Owners=["self"])
