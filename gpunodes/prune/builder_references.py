"""Image Builder recipes that build on an image, or in one (ListImageRecipes, ListContainerRecipes)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gpunodes.aws import Clients
from gpunodes.prune.aliases import PREFIX, Aliases
from gpunodes.prune.offered import ask
from gpunodes.prune.references import Reference, Source

_RECIPES_PER_PAGE = 100
_PARAMETER = "ssm:"


def of_recipes(clients: Clients) -> Iterator[Reference]:
    """Of every version of every recipe of this account, with parameters looked up.

    Raises:
        MissingSourceError: the region has no Image Builder.
        AwsError: Image Builder or SSM refused.
    """
    aliases = Aliases(clients)
    for kind, name, image in ask(clients, "imagebuilder", "looking for Image Builder recipes", _images):
        by_alias = f"{PREFIX}{image.removeprefix(_PARAMETER)}" if image.startswith(_PARAMETER) else image
        for ami_id in aliases.images_of(by_alias):
            if ami_id.startswith("ami-"):  # a recipe may also build on what another one made
                yield Reference(ami_id, kind, name)


def _images(builder: Any) -> list[tuple[str, str, str]]:
    """Kind, name with version, and what each recipe builds on."""
    found = []
    for recipe in _listed(builder.list_image_recipes, "imageRecipeSummaryList"):
        image = recipe.get("parentImage") or builder.get_image_recipe(imageRecipeArn=recipe["arn"])["imageRecipe"].get(
            "parentImage", ""
        )
        found.append(("image recipe", _name(recipe), str(image)))
    for recipe in _listed(builder.list_container_recipes, "containerRecipeSummaryList"):
        image = recipe.get("instanceImage") or _instance_image(builder, recipe["arn"])
        found.append(("container recipe", _name(recipe), str(image)))
    return found


def _instance_image(builder: Any, arn: str) -> str:
    """Where the list does not say it: such a recipe has AWS's own image, as a rule; empty then."""
    recipe = builder.get_container_recipe(containerRecipeArn=arn)["containerRecipe"]
    return str(recipe.get("instanceConfiguration", {}).get("image", ""))


def _name(recipe: dict[str, Any]) -> str:
    return f"{recipe['name']} {recipe['arn'].rpartition('/')[2]}"


def _listed(call: Any, items: str) -> Iterator[dict[str, Any]]:
    token: dict[str, str] = {}
    while True:
        page = call(owner="Self", maxResults=_RECIPES_PER_PAGE, **token)
        yield from page.get(items, [])
        if not page.get("nextToken"):
            return
        token = {"nextToken": page["nextToken"]}


SOURCES = (Source("Image Builder recipes", of_recipes),)
