"""Recipes of Image Builder through boto3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

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


def refused(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


def test_recipe_of_an_image_is_shown_as_it_was_made(account: Account) -> None:
    arn = account.image_recipe(IMAGE, "1.2.3")

    recipe = account.builder.get_image_recipe(imageRecipeArn=arn)["imageRecipe"]

    assert arn == f"arn:aws:imagebuilder:us-east-1:{account.id}:image-recipe/gpu/1.2.3"
    assert (recipe["name"], recipe["version"], recipe["parentImage"], recipe["owner"]) == (
        "gpu", "1.2.3", IMAGE, account.id,
    )  # fmt: skip


def test_recipe_of_a_container_is_shown_as_it_was_made(account: Account) -> None:
    arn = account.container_recipe(IMAGE)

    recipe = account.builder.get_container_recipe(containerRecipeArn=arn)["containerRecipe"]

    assert (recipe["arn"], recipe["version"], recipe["instanceConfiguration"]) == (arn, "1.0.0", {"image": IMAGE})


def test_every_version_is_listed_page_by_page_with_what_it_builds_on(account: Account) -> None:
    made = [account.image_recipe(IMAGE, f"1.0.{number}") for number in range(27)]

    pages = list(account.builder.get_paginator("list_image_recipes").paginate())

    assert [len(page["imageRecipeSummaryList"]) for page in pages] == [25, 2]
    listed = [each for page in pages for each in page["imageRecipeSummaryList"]]
    assert [each["arn"] for each in listed] == made
    assert {each["parentImage"] for each in listed} == {IMAGE}


def test_recipes_of_containers_say_in_the_list_in_which_image_they_are_built(account: Account) -> None:
    account.container_recipe(IMAGE)
    account.container_recipe("", name="usual")

    listed = account.builder.list_container_recipes(owner="Self", maxResults=100)["containerRecipeSummaryList"]

    assert [(each["name"], each.get("instanceImage")) for each in listed] == [("box", IMAGE), ("usual", None)]


def test_list_is_that_of_an_account_and_a_region_with_filters(account: Account, endpoint_url: str) -> None:
    account.image_recipe(IMAGE, name="one")
    account.image_recipe("ami-11111111111111111", name="two")
    wanted = [{"name": "parentImage", "values": [IMAGE]}]
    elsewhere = account.client("imagebuilder", region_name="eu-west-1")
    with ExitStack() as stack:
        others = Account(endpoint_url, stack).builder.list_image_recipes()["imageRecipeSummaryList"]

    found = account.builder.list_image_recipes(filters=wanted)["imageRecipeSummaryList"]

    assert [each["name"] for each in found] == ["one"]
    assert others == elsewhere.list_image_recipes()["imageRecipeSummaryList"] == []
    assert account.builder.list_image_recipes(owner="Amazon")["imageRecipeSummaryList"] == []


def test_deleted_recipe_is_gone(account: Account) -> None:
    arn = account.image_recipe(IMAGE)

    account.builder.delete_image_recipe(imageRecipeArn=arn)

    assert account.builder.list_image_recipes()["imageRecipeSummaryList"] == []
    assert refused(account.builder.get_image_recipe, imageRecipeArn=arn) == "ResourceNotFoundException"
    assert refused(account.builder.delete_image_recipe, imageRecipeArn=arn) == "ResourceNotFoundException"


def test_what_cannot_be_is_refused_by_name(account: Account) -> None:
    account.image_recipe(IMAGE)
    component = {"componentArn": "arn:aws:imagebuilder:us-east-1:aws:component/update-linux/1.0.0"}
    asked = {"name": "gpu", "parentImage": IMAGE, "components": [component]}
    listing, making = account.builder.list_image_recipes, account.builder.create_image_recipe

    assert refused(making, **asked, semanticVersion="1.0.0") == "ResourceAlreadyExistsException"
    assert refused(making, **asked, semanticVersion="1.0.x") == "InvalidVersionNumberException"
    assert refused(listing, nextToken="elsewhere") == "InvalidPaginationTokenException"
    assert refused(listing, filters=[{"name": "colour", "values": ["red"]}]) == "InvalidRequestException"
