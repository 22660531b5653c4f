"""Releases of the base image, and the public parameter that names the latest, through boto3."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import DomainDispatcherApplication, create_backend_app

from localaws.api import ObservedApi
from localaws.base_releases import PARAMETER, PublicParameter, image_ids, make
from tests.localaws.conftest import served

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
DIGEST = "0123456789abcdef" * 4


def test_ids_look_like_those_of_images_and_follow_the_base_system() -> None:
    ids = [*image_ids(DIGEST), *image_ids("f" * 64)]

    assert ids[0] == "ami-0123456789abcdef0"
    assert {len(name) for name in ids} == {len(ids[0])}
    assert len(set(ids)) == 4


def test_the_second_release_adds_a_file_and_is_newer(tmp_path: Path) -> None:
    layers = (tmp_path / "driver", tmp_path / "debian")

    first, second = make(DIGEST, layers, tmp_path / "base-2", NOW)

    assert first.image.layers == layers
    assert second.image.layers == (tmp_path / "base-2", *layers)
    assert (tmp_path / "base-2" / "etc" / "localaws-release").read_text() == "2\n"
    assert (first.ami()["name"], second.ami()["name"]) == (
        "debian-12-gpu-offline-20261121",
        "debian-12-gpu-offline-20261122",
    )
    assert first.ami()["creation_date"] < second.ami()["creation_date"] < NOW.isoformat()


@pytest.fixture
def published() -> list[str]:
    """What was published, the latest last."""
    return ["ami-1"]


@pytest.fixture
def ssm(published: list[str]) -> Iterator[Any]:
    observed = ObservedApi(DomainDispatcherApplication(create_backend_app))
    observed.public_parameter = PublicParameter(lambda: published[-1])
    with served(observed) as url:
        client = boto3.client(
            "ssm", region_name="us-east-1", endpoint_url=url, aws_access_key_id="test", aws_secret_access_key="test"
        )
        yield client
        client.close()


def test_the_parameter_names_what_is_published_now(ssm: Any, published: list[str]) -> None:
    before = ssm.get_parameter(Name=PARAMETER)["Parameter"]
    published.append("ami-2")

    assert (before["Value"], before["DataType"], before["Type"]) == ("ami-1", "aws:ec2:image", "String")
    assert ssm.get_parameter(Name=PARAMETER)["Parameter"]["Value"] == "ami-2"


def test_other_parameters_are_those_of_the_account(ssm: Any) -> None:
    ssm.put_parameter(Name="/mine", Value="1", Type="String", Overwrite=True)

    assert ssm.get_parameter(Name="/mine")["Parameter"]["Value"] == "1"
    with pytest.raises(ClientError, match="ParameterNotFound"):
        ssm.get_parameter(Name="/aws/service/debian/release/13/latest/amd64")
