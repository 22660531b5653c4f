"""Image Builder recipes that build on an image (ListImageRecipes, GetImageRecipe, and the same of containers)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gpunodes.aws import Clients
from gpunodes.prune.references import MissingSourceError, Reference, Source


def of_recipes(clients: Clients) -> Iterator[Reference]:
    """Of every version of every recipe of this account.

    Raises:
        MissingSourceError: the API has no Image Builder, as an emulator may.
        AwsError: Image Builder refused.
    """
    found = clients.ask("imagebuilder", "looking for Image Builder recipes", _parents)
    if found is None:
        raise MissingSourceError("this API has no Image Builder")
    for kind, name, parent in found:
        if parent.startswith("ami-"):
            yield Reference(parent, kind, name)


def _parents(builder: Any) -> list[tuple[str, str, str]]:
    """Kind, name with version, and what each recipe builds on: an image's id, or the ARN of another recipe's image."""
    found = []
    for summary in _pages(builder.list_image_recipes, "imageRecipeSummaryList"):
        recipe = builder.get_image_recipe(imageRecipeArn=summary["arn"])["imageRecipe"]
        found.append(("image recipe", f"{recipe['name']} {recipe['version']}", str(recipe.get("parentImage", ""))))
    for summary in _pages(builder.list_container_recipes, "containerRecipeSummaryList"):
        recipe = builder.get_container_recipe(containerRecipeArn=summary["arn"])["containerRecipe"]
        image = str(recipe.get("instanceConfiguration", {}).get("image", ""))
        found.append(("container recipe", f"{recipe['name']} {recipe['version']}", image))
    return found


def _pages(call: Any, items: str) -> Iterator[dict[str, Any]]:
    token: dict[str, str] = {}
    while True:
        page = call(owner="Self", **token)
        yield from page.get(items, [])
        if not page.get("nextToken"):
            return
        token = {"nextToken": page["nextToken"]}


SOURCES = (Source("Image Builder recipes", of_recipes),)
