"""Who names an image in an account: instances, launch templates, parameters, recipes, as the API itself tells it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from localaws.ec2_query import ask, parsed
from localaws.image_aliases import ImageAliases
from localaws.image_builder import ImageBuilder
from localaws.request_origin import account_of, for_service, region_of
from localaws.wsgi import WSGIApp, call

INSTANCE, TEMPLATE, PARAMETER = "ec2:Instance", "ec2:LaunchTemplate", "ssm:Parameter"
IMAGE_RECIPE, CONTAINER_RECIPE = "imagebuilder:ImageRecipe", "imagebuilder:ContainerRecipe"
KINDS = (INSTANCE, TEMPLATE, PARAMETER, IMAGE_RECIPE, CONTAINER_RECIPE)

_EC2_VERSION = "2016-11-15"
_IMAGES_TYPE = "aws:ec2:image"


class Scope(NamedTuple):
    """What of an account is looked at.

    Attributes:
        states: of instances; empty for any.
        version_depth: so many versions of a launch template, newest first.
    """

    states: tuple[str, ...]
    version_depth: int


class Referrer(NamedTuple):
    """A resource that names an image.

    Attributes:
        kind: one of `KINDS`.
        image_id: that it names.
        arn: of it.
    """

    kind: str
    image_id: str
    arn: str


class Referrers:
    """Asks an account for all that names an image.

    Args:
        api: the application that knows instances, templates and parameters.
        recipes: Image Builder's.
    """

    def __init__(self, api: WSGIApp, recipes: ImageBuilder) -> None:
        self._api = api
        self._recipes = recipes
        self._aliases = ImageAliases(api, api)
        self._finders: Mapping[str, Callable[[Mapping[str, Any], Scope], Iterator[tuple[str, str]]]] = {
            INSTANCE: self._instances,
            TEMPLATE: self._templates,
            PARAMETER: self._parameters,
            IMAGE_RECIPE: lambda environ, _: self._recipes_of("image-recipe", environ),
            CONTAINER_RECIPE: lambda environ, _: self._recipes_of("container-recipe", environ),
        }

    def find(self, environ: Mapping[str, Any], scopes: Mapping[str, Scope]) -> list[Referrer]:
        """All of an account, each resource once for each image that it names.

        Args:
            environ: of a request to EC2 in the name of that account.
            scopes: for each kind that is looked for what of it counts.
        """
        return [
            Referrer(kind, image_id, arn)
            for kind, scope in scopes.items()
            for image_id, arn in dict.fromkeys(self._finders[kind](environ, scope))
            if image_id.startswith("ami-")
        ]

    def _instances(self, environ: Mapping[str, Any], scope: Scope) -> Iterator[tuple[str, str]]:
        for reservation in self._pages(environ, "DescribeInstances", "reservationSet"):
            prefix = f"arn:aws:ec2:{region_of(environ)}:{reservation.findtext('ownerId')}:instance"
            for instance in reservation.findall("instancesSet/item"):
                if not scope.states or instance.findtext("instanceState/name") in scope.states:
                    yield instance.findtext("imageId", ""), f"{prefix}/{instance.findtext('instanceId')}"

    def _templates(self, environ: Mapping[str, Any], scope: Scope) -> Iterator[tuple[str, str]]:
        prefix = f"arn:aws:ec2:{region_of(environ)}:{account_of(self._api, environ)}:launch-template"
        for template in self._pages(environ, "DescribeLaunchTemplates", "launchTemplates"):
            template_id = template.findtext("launchTemplateId", "")
            asked = {"LaunchTemplateId": template_id}
            versions = self._pages(environ, "DescribeLaunchTemplateVersions", "launchTemplateVersionSet", **asked)
            newest_first = sorted(versions, key=lambda version: -int(version.findtext("versionNumber", "0")))
            for version in newest_first[: scope.version_depth]:
                image_id = version.findtext("launchTemplateData/imageId", "")
                yield self._aliases.resolved(environ, image_id), f"{prefix}/{template_id}"

    def _parameters(self, environ: Mapping[str, Any], _scope: Scope) -> Iterator[tuple[str, str]]:
        """Of parameters of images, by what they hold now."""
        prefix = f"arn:aws:ssm:{region_of(environ)}:{account_of(self._api, environ)}:parameter"
        asked: dict[str, Any] = {"Path": "/", "Recursive": True}
        while True:
            page = self._ask_ssm(environ, "GetParametersByPath", asked)
            for parameter in page.get("Parameters", []):
                if parameter.get("DataType") == _IMAGES_TYPE:
                    yield str(parameter["Value"]), f"{prefix}/{parameter['Name'].lstrip('/')}"
            if not page.get("NextToken"):
                return
            asked["NextToken"] = page["NextToken"]

    def _recipes_of(self, kind: str, environ: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for recipe in self._recipes.of(kind, account_of(self._api, environ), region_of(environ)):
            is_parameter = recipe.image_id.startswith("ssm:")
            image_id = f"resolve:{recipe.image_id}" if is_parameter else recipe.image_id
            yield self._aliases.resolved(environ, image_id), recipe.arn

    def _pages(self, environ: Mapping[str, Any], action: str, items: str, **asked: str) -> Iterator[Element]:
        form = {"Action": action, "Version": _EC2_VERSION, **asked}
        while True:
            page = parsed(ask(self._api, environ, form))
            yield from page.findall(f"{items}/item")
            token = page.findtext("nextToken", "")
            if not token:
                return
            form["NextToken"] = token

    def _ask_ssm(self, environ: Mapping[str, Any], operation: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        as_ssm = for_service(environ, "ssm", f"AmazonSSM.{operation}")
        found: dict[str, Any] = json.loads(call(self._api, as_ssm, json.dumps(asked).encode()).body)
        return found
