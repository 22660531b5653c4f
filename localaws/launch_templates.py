"""Launch templates and their versions, page by page to the last one: moto shows the first ones, and no way on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localaws.ec2_query import Form, ask, is_true, paged, parsed, refusal, with_body
from localaws.image_aliases import ImageAliases
from localaws.wsgi import Answer, WSGIApp

_LISTS = {"DescribeLaunchTemplates": "launchTemplates", "DescribeLaunchTemplateVersions": "launchTemplateVersionSet"}
_LARGEST_PAGE = 200
_ALL = "1000000"


class LaunchTemplates:
    """Answers DescribeLaunchTemplates and DescribeLaunchTemplateVersions.

    Args:
        moto: the application that knows templates.
        aliases: looks up what image ids stand for, where that is asked for.
    """

    def __init__(self, moto: WSGIApp, aliases: ImageAliases) -> None:
        self._moto = moto
        self._aliases = aliases

    def answer(self, environ: Mapping[str, Any], form: Form) -> Answer | None:
        """The answer to these calls; None for any other.

        Args:
            environ: of the request (PEP 3333).
            form: its parameters.
        """
        items = _LISTS.get(form.get("Action", ""))
        if items is None:
            return None
        size = form.get("MaxResults", "1")
        if not size.isdecimal() or not 1 <= int(size) <= _LARGEST_PAGE:
            return refusal("InvalidParameterValue", f"MaxResults must be from 1 to {_LARGEST_PAGE}.")
        asked = {name: value for name, value in form.items() if name not in {"MaxResults", "NextToken"}}
        found = ask(self._moto, environ, {**asked, "MaxResults": _ALL})
        if not found.is_success:
            return found
        return self._page(environ, form, found, items)

    def _page(self, environ: Mapping[str, Any], form: Form, found: Answer, items: str) -> Answer:
        root = parsed(found)
        listed = root.find(items)
        page = paged(form, [] if listed is None else list(listed), _LARGEST_PAGE)
        if isinstance(page, Answer):
            return page
        shown, token = page
        if listed is not None:
            listed[:] = shown
        root.extend(token)
        if is_true(form, "ResolveAlias"):
            for image in root.iter("imageId"):
                image.text = self._aliases.resolved(environ, image.text or "") or image.text
        return with_body(found, root)
