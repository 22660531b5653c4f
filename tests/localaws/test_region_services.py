"""Which services a region has, through boto3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app

from localaws.api import ObservedApi
from tests.localaws.conftest import served

PLACE = "/aws/service/global-infrastructure/services/{}/regions/{}"


@pytest.fixture
def ssm() -> Iterator[Any]:
    with served(ObservedApi(DomainDispatcherApplication(create_backend_app))) as url:
        client = boto3.client(
            "ssm", region_name="us-east-1", endpoint_url=url, aws_access_key_id="test", aws_secret_access_key="test"
        )
        yield client
        client.close()


def test_services_that_a_region_has_are_told_from_those_it_has_not(ssm: Any) -> None:
    ec2, nowhere = PLACE.format("ec2", "us-east-1"), PLACE.format("ec2", "mars-north-1")

    found = ssm.get_parameters(Names=[ec2, nowhere])

    assert [(each["Name"], each["Value"]) for each in found["Parameters"]] == [(ec2, "us-east-1")]
    assert found["InvalidParameters"] == [nowhere]


def test_whoever_asked_does_not_find_all_of_awss_parameters_in_the_account(ssm: Any) -> None:
    ssm.put_parameter(Name="/mine", Value="1", Type="String", Overwrite=True)
    ssm.get_parameters(Names=[PLACE.format("imagebuilder", "us-east-1")])

    pages = ssm.get_paginator("get_parameters_by_path").paginate(Path="/", Recursive=True)

    assert [each["Name"] for page in pages for each in page["Parameters"] if each["Name"].startswith("/aws/")] == []


def test_parameters_of_the_account_are_left_to_moto(ssm: Any) -> None:
    ssm.put_parameter(Name="/mine", Value="1", Type="String", Overwrite=True)

    assert ssm.get_parameters(Names=["/mine"])["Parameters"][0]["Value"] == "1"
