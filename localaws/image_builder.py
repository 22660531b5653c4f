"""Image Builder's recipes, which moto does not have: made, listed page by page, shown, deleted; nothing is built.

Shapes and limits are those of botocore's service model `imagebuilder` (REST with JSON).
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from localaws.request_origin import account_of, region_of, service_of
from localaws.wsgi import Answer, WSGIApp, take_body

IMAGE, CONTAINER = "image-recipe", "container-recipe"
_OPERATION = re.compile(r"/(Create|List|Get|Delete)(Image|Container)Recipes?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_LARGEST_BODY_BYTES = 1_000_000
_LARGEST_PAGE, _USUAL_PAGE = 100, 25
_FILTERS = {"name": "name", "parentImage": "parentImage", "platform": "platform"}


@dataclass(frozen=True)
class Recipe:
    """A version of a recipe.

    Attributes:
        arn: of it, which ends with name and version.
        asked: what it was made from (CreateImageRecipe, CreateContainerRecipe).
        created_at: UTC.
    """

    arn: str
    asked: Mapping[str, Any]
    created_at: datetime

    @property
    def image_id(self) -> str:
        """The AMI that it builds on, or in: an id, an ARN, or `ssm:` and a parameter; empty where none is named."""
        of_container = self.asked.get("instanceConfiguration", {}).get("image", "")
        return str(of_container if "containerType" in self.asked else self.asked["parentImage"])

    @property
    def owner(self) -> str:
        """Its account."""
        return self.arn.split(":")[4]

    def shown(self) -> dict[str, Any]:
        """As GetImageRecipe and GetContainerRecipe show it."""
        of_request = {"semanticVersion", "clientToken", "dryRun"}
        known = {name: value for name, value in self.asked.items() if name not in of_request}
        return {**known, **self._common(), "version": self.asked["semanticVersion"]}

    def summary(self) -> dict[str, Any]:
        """As the lists show it."""
        named = {name: self.asked[name] for name in ("name", "parentImage", "containerType", "tags")
                 if name in self.asked}  # fmt: skip
        return {**named, **self._common(), **({"instanceImage": self.image_id} if self._names_an_instance else {})}

    @property
    def _names_an_instance(self) -> bool:
        return "containerType" in self.asked and bool(self.image_id)

    def _common(self) -> dict[str, Any]:
        created = f"{self.created_at:%Y-%m-%dT%H:%M:%S.000Z}"
        return {"arn": self.arn, "platform": "Linux", "owner": self.owner, "dateCreated": created}


class ImageBuilder:
    """Answers calls on recipes.

    Args:
        api: the application that knows accounts.
        clock: UTC.
    """

    def __init__(self, api: WSGIApp, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._api = api
        self._clock = clock
        self._lock = threading.Lock()
        self._recipes: dict[str, Recipe] = {}

    def of(self, kind: str, account_id: str, region: str) -> list[Recipe]:
        """Every version of every recipe of an account.

        Args:
            kind: `IMAGE` or `CONTAINER`.
            account_id: its owner.
            region: where.
        """
        prefix = f"arn:aws:imagebuilder:{region}:{account_id}:{kind}/"
        with self._lock:
            return [recipe for arn, recipe in self._recipes.items() if arn.startswith(prefix)]

    def answer(self, environ: dict[str, Any]) -> Answer | None:
        """The answer to a call on recipes; None for any other request.

        Args:
            environ: of the request (PEP 3333); its body stays readable.
        """
        operation = _OPERATION.fullmatch(str(environ.get("PATH_INFO", "")))
        if operation is None or service_of(environ) != "imagebuilder":
            return None
        serve: Callable[[dict[str, Any], str, str], Answer] = {
            "Create": self._create,
            "List": self._list,
            "Get": self._get,
            "Delete": self._delete,
        }[operation[1]]
        return serve(environ, IMAGE if operation[2] == "Image" else CONTAINER, region_of(environ))

    def _create(self, environ: dict[str, Any], kind: str, region: str) -> Answer:
        asked = _body(environ)
        version = str(asked.get("semanticVersion", ""))
        if not _VERSION.fullmatch(version):
            return _refusal("InvalidVersionNumberException", f"{version} is no version such as 1.0.0.")
        name = re.sub(r"[^a-z0-9-]", "-", str(asked.get("name", "")).lower())
        arn = f"arn:aws:imagebuilder:{region}:{account_of(self._api, environ)}:{kind}/{name}/{version}"
        with self._lock:
            if arn in self._recipes:
                return _refusal("ResourceAlreadyExistsException", f"{arn} exists already.")
            self._recipes[arn] = Recipe(arn, asked, self._clock())
        return _success({"clientToken": asked.get("clientToken", ""), _member(kind, "Arn"): arn})

    def _list(self, environ: dict[str, Any], kind: str, region: str) -> Answer:
        asked = _body(environ)
        size = int(asked.get("maxResults", _USUAL_PAGE))
        begin = str(asked.get("nextToken", "0"))
        if not begin.isdecimal():
            return _refusal("InvalidPaginationTokenException", "The pagination token is not valid.")
        if not 1 <= size <= _LARGEST_PAGE:
            return _refusal("InvalidRequestException", f"maxResults must be from 1 to {_LARGEST_PAGE}.")
        # Recipes of Amazon, of vendors and of accounts that share theirs do not exist here.
        own = self.of(kind, account_of(self._api, environ), region) if asked.get("owner", "Self") == "Self" else []
        found = [recipe.summary() for recipe in own]
        for wanted in asked.get("filters", []):
            if wanted.get("name") not in _FILTERS:
                return _refusal("InvalidRequestException", f"{wanted.get('name')} is no filter of recipes.")
            found = [each for each in found if each.get(_FILTERS[wanted["name"]]) in wanted.get("values", [])]
        end = int(begin) + size
        more = {"nextToken": str(end)} if end < len(found) else {}
        return _success({_member(kind, "SummaryList"): found[int(begin) : end], **more})

    def _get(self, environ: dict[str, Any], kind: str, _region: str) -> Answer:
        arn = _asked_arn(environ, kind)
        with self._lock:
            recipe = self._recipes.get(arn)
        return _success({_member(kind, ""): recipe.shown()}) if recipe else _unknown(arn)

    def _delete(self, environ: dict[str, Any], kind: str, _region: str) -> Answer:
        arn = _asked_arn(environ, kind)
        with self._lock:
            recipe = self._recipes.pop(arn, None)
        return _success({_member(kind, "Arn"): arn}) if recipe else _unknown(arn)


def _member(kind: str, suffix: str) -> str:
    """How a member of an answer is called, e.g. `imageRecipeArn`."""
    return f"{'imageRecipe' if kind == IMAGE else 'containerRecipe'}{suffix}"


def _asked_arn(environ: Mapping[str, Any], kind: str) -> str:
    return "".join(parse_qs(environ.get("QUERY_STRING", "")).get(_member(kind, "Arn"), [])[:1])


def _body(environ: dict[str, Any]) -> dict[str, Any]:
    """Of a request; empty where it is no JSON object, which no client of AWS sends."""
    try:
        found = json.loads(take_body(environ, _LARGEST_BODY_BYTES) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _success(members: Mapping[str, Any]) -> Answer:
    return _answer("200 OK", {"requestId": str(uuid.uuid4()), **members})


def _unknown(arn: str) -> Answer:
    return _refusal("ResourceNotFoundException", f"{arn} does not exist.", "404 Not Found")


def _refusal(code: str, message: str, status: str = "400 Bad Request") -> Answer:
    refused = _answer(status, {"message": message})
    return refused._replace(headers=[*refused.headers, ("x-amzn-ErrorType", code)])


def _answer(status: str, members: Mapping[str, Any]) -> Answer:
    return Answer(status, [("Content-Type", "application/json")], json.dumps(members).encode())
