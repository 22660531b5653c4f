"""Denied is denied: what an inline policy of an instance's role forbids, the API refuses that instance.

moto asks nobody for permission. Whoever wants to see what becomes of an instance that may not publish needs a refusal.
Only an explicit Deny without conditions counts, and only for the calls in `ENFORCED`; everything else is allowed.
"""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from localaws.wsgi import Answer, json_error

ENFORCED = frozenset({"cloudwatch:PutMetricData"})
_SERVICE_PREFIX = {"monitoring": "cloudwatch"}  # the name in a signature, and the one in a policy
_CREDENTIAL = re.compile(r"Credential=(?P<key>[^/,\s]+)/\d+/[^/]+/(?P<service>[^/]+)/aws4_request")
_REMEMBERED_SECONDS = 1.0


class Roles(Protocol):
    """What is asked of the account."""

    def role_of(self, access_key_id: str) -> str | None:
        """Name of the role whose credentials these are; None where they are no role's."""

    def inline_policies(self, role_name: str) -> list[dict[str, Any]]:
        """The documents of a role's inline policies."""


class Denials:
    """Whether a request is one that a role's policy forbids.

    Args:
        roles: the account.
        clock: seconds, monotonic; policies are looked up again after a second.
    """

    def __init__(self, roles: Roles, clock: Callable[[], float] = time.monotonic) -> None:
        self._roles = roles
        self._clock = clock
        self._known: dict[str, tuple[float, list[dict[str, Any]]]] = {}

    def forbids(self, environ: dict[str, Any]) -> str | None:
        """The call of a request that is forbidden, e.g. `cloudwatch:PutMetricData`; None where it may pass.

        Args:
            environ: of the request (PEP 3333); only calls of AWS's JSON protocol are known, which boto3 speaks here.
        """
        credential = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
        if credential is None:
            return None
        operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        action = f"{_SERVICE_PREFIX.get(credential['service'], credential['service'])}:{operation}"
        if action not in ENFORCED:
            return None
        role = self._roles.role_of(credential["key"])
        return action if role and any(_denies(document, action) for document in self._policies(role)) else None

    def _policies(self, role: str) -> list[dict[str, Any]]:
        asked_at, documents = self._known.get(role, (float("-inf"), []))
        if self._clock() - asked_at > _REMEMBERED_SECONDS:
            documents = self._roles.inline_policies(role)
            self._known[role] = (self._clock(), documents)
        return documents


def refusal(action: str) -> Answer:
    """How AWS refuses a call of its JSON protocol."""
    message = f"User is not authorized to perform: {action} with an explicit deny in an identity-based policy"
    return json_error("403 Forbidden", "com.amazonaws.cloudwatch#AccessDenied", message)


def _denies(document: dict[str, Any], action: str) -> bool:
    return any(
        statement.get("Effect") == "Deny"
        and "Condition" not in statement
        and any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in _listed(statement.get("Action")))
        for statement in _listed(document.get("Statement"))
    )


def _listed(value: Any) -> Iterable[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
