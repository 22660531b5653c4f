"""DescribeImageReferences: which resources of an account name an image, of those that EC2 looks at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localaws.ec2_query import Form, element, is_true, listed, paged, refusal, success, text
from localaws.referrers import KINDS, Referrers, Scope
from localaws.wsgi import Answer

_MOST_IMAGES = 10
_USUAL_DEPTH, _LARGEST_DEPTH = 10, 10_000
_USUAL_PAGE = 100
_STATES = frozenset({"pending", "running", "shutting-down", "terminated", "stopping", "stopped"})


class ImageReferences:
    """Answers DescribeImageReferences.

    Args:
        referrers: knows who names what.
    """

    def __init__(self, referrers: Referrers) -> None:
        self._referrers = referrers

    def answer(self, environ: Mapping[str, Any], form: Form) -> Answer | None:
        """The answer to it; None for any other call.

        Args:
            environ: of the request (PEP 3333).
            form: its parameters.
        """
        if form.get("Action") != "DescribeImageReferences":
            return None
        image_ids = listed(form, "ImageId")
        if refused := _refused(form, image_ids):
            return refused
        try:
            scopes = wanted_scopes(form, _USUAL_DEPTH, is_true(form, "IncludeAllResourceTypes"))
        except ValueError as error:
            return refusal("InvalidParameterValue", str(error))
        found = [each for each in self._referrers.find(environ, scopes) if each.image_id in image_ids]
        items = [
            element("item", text("imageId", each.image_id), text("resourceType", each.kind), text("arn", each.arn))
            for each in found
        ]
        page = paged(form, items, _USUAL_PAGE)
        if isinstance(page, Answer):
            return page
        shown, token = page
        return success("DescribeImageReferences", element("imageReferenceSet", *shown), *token)


def wanted_scopes(form: Form, usual_depth: int, has_all: bool) -> dict[str, Scope]:
    """What of which kind of resource a form asks for.

    Args:
        form: with `ResourceType.1.ResourceType` and options of it.
        usual_depth: so many versions of a launch template, where it does not say how many.
        has_all: whether every kind counts, and what is named only has other options.

    Raises:
        ValueError: it asks for what there is not.
    """
    scopes = {kind: Scope((), usual_depth) for kind in KINDS} if has_all else {}
    number = 1
    while kind := form.get(f"ResourceType.{number}.ResourceType", ""):
        if kind not in KINDS:
            raise ValueError(f"{kind} is no resource type that can be looked for.")
        scopes[kind] = _scope(form, f"ResourceType.{number}", usual_depth)
        number += 1
    return scopes


def _scope(form: Form, prefix: str, usual_depth: int) -> Scope:
    states: tuple[str, ...] = ()
    depth = usual_depth
    number = 1
    while name := form.get(f"{prefix}.ResourceTypeOption.{number}.OptionName", ""):
        values = listed(form, f"{prefix}.ResourceTypeOption.{number}.OptionValue")
        if name == "state-name" and set(values) <= _STATES:
            states = tuple(values)
        elif name == "version-depth" and len(values) == 1 and values[0].isdecimal():
            depth = int(values[0])
        else:
            raise ValueError(f"{', '.join(values)} is no value of the option {name}.")
        number += 1
    if not 1 <= depth <= _LARGEST_DEPTH:
        raise ValueError(f"version-depth must be from 1 to {_LARGEST_DEPTH}.")
    return Scope(states, depth)


def _refused(form: Form, image_ids: list[str]) -> Answer | None:
    if not image_ids:
        return refusal("MissingParameter", "The request must contain the parameter ImageId")
    if len(image_ids) > _MOST_IMAGES:
        return refusal("InvalidParameterValue", f"No more than {_MOST_IMAGES} images can be looked for at once.")
    if not is_true(form, "IncludeAllResourceTypes") and "ResourceType.1.ResourceType" not in form:
        return refusal("MissingParameter", "Either IncludeAllResourceTypes or ResourceTypes must be specified")
    return None
