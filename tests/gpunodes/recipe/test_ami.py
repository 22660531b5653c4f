from __future__ import annotations

from typing import Any, cast

import pytest

from gpunodes.aws import Clients
from gpunodes.errors import UsageError
from gpunodes.recipe import ami
from tests.gpunodes import fakes
from tests.gpunodes.fakes import base_image


def make_image(clients: Clients, name: str, **tags: str) -> str:
    instance = clients.ec2.run_instances(ImageId=base_image(clients), MinCount=1, MaxCount=1)["Instances"][0][
        "InstanceId"
    ]
    image_id = clients.ec2.create_image(InstanceId=instance, Name=name)["ImageId"]
    if tags:
        clients.ec2.create_tags(Resources=[image_id], Tags=[{"Key": key, "Value": tags[key]} for key in tags])
    return str(image_id)


def test_describe_gives_the_image(clients: Clients) -> None:
    image_id = make_image(clients, "one")

    assert ami.describe(clients, image_id)["Name"] == "one"


@pytest.mark.parametrize(
    ("image_id", "complaint"),
    [
        ("ami-00000000000000000", r"There is no image ami-0{17} in this region; give the id"),
        ("i-0123456789abcdef0", r"`i-0123456789abcdef0` is no AMI id; those look like"),
        ("", r"`` is no AMI id"),
    ],
)
def test_describe_of_an_unknown_or_bad_id_is_a_usage_error(clients: Clients, image_id: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        ami.describe(clients, image_id)


def test_image_that_is_not_available_cannot_be_launched() -> None:
    clients = fakes.FakeClients([{"ImageId": "ami-1", "State": "pending"}])

    with pytest.raises(UsageError, match="ami-1 is pending; give one that is available"):
        ami.describe(cast("Clients", clients), "ami-1")


def test_state_now_is_that_of_the_image_also_when_it_is_gone(clients: Clients) -> None:
    image_id = make_image(clients, "one")

    assert ami.state_now(clients, image_id) == ami.AVAILABLE
    clients.ec2.deregister_image(ImageId=image_id)
    assert ami.state_now(clients, image_id) == "deregistered"
    disabled = fakes.FakeClients([{"ImageId": "ami-1", "State": "disabled"}])
    assert ami.state_now(cast("Clients", disabled), "ami-1") == "disabled"


def test_newest_image_is_that_with_the_latest_creation_date() -> None:
    images: list[dict[str, Any]] = [
        {"ImageId": "ami-2", "CreationDate": "2030-01-02T00:00:00.000Z"},
        {"ImageId": "ami-3", "CreationDate": "2030-01-10T00:00:00.000Z"},
        {"ImageId": "ami-1", "CreationDate": "2029-12-31T00:00:00.000Z"},
    ]

    assert ami.newest_to_prove(cast("Clients", fakes.FakeClients(images)))["ImageId"] == "ami-3"


def test_candidates_come_first_and_proven_images_where_there_is_none(clients: Clients) -> None:
    candidate = make_image(clients, "candidate", **{"gpunodes:state": "candidate"})
    proven = make_image(clients, "proven", **{"gpunodes:state": "proven"})
    make_image(clients, "no tag")

    assert ami.newest_to_prove(clients)["ImageId"] == candidate
    clients.ec2.deregister_image(ImageId=candidate)
    assert ami.newest_to_prove(clients)["ImageId"] == proven


def test_no_image_to_prove_is_a_usage_error(clients: Clients) -> None:
    make_image(clients, "failed", **{"gpunodes:state": "failed"})

    with pytest.raises(UsageError, match="There is no candidate and no proven image; bake one with `invoke build-ami`"):
        ami.newest_to_prove(clients)
