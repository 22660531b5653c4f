"""What a run made in the account: one resource, and what all kinds have in common; `resource_kinds` has their table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import AwsError
from gpunodes.operation import runs
from gpunodes.operation.runs import TAG_EXPIRES_AT, TAG_RUN_ID, TAG_STATE, Run

ALIVE = ["pending", "running", "stopping", "stopped"]
_PAGE_SIZE = 200  # the most that every one of these calls allows
_STILL_IN_USE = frozenset({"DependencyViolation", "DeleteConflict", "InvalidSnapshot.InUse", "VolumeInUse"})
_IN_USE_PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0)
_RUN_IN_NAME = re.compile(r"gpunodes-(\d{8}-\d{6}-[0-9a-f]{4})(?:-.*)?")


@dataclass(frozen=True)
class Resource:
    """One thing in the account.

    Attributes:
        kind: name of its kind in the table.
        id: EC2's id, or IAM's or the key pair's name.
        run_id: the run that made it.
        created_at: UTC; None where the API does not say.
        expires_at: UTC; None where nothing says.
        is_sealed: an image that has a state, or a snapshot of one; no leftover of its run any more.
        is_protected: an image that may not be deregistered.
        snapshots: of an image.
    """

    kind: str
    id: str
    run_id: str
    created_at: datetime | None = None
    expires_at: datetime | None = None
    is_sealed: bool = False
    is_protected: bool = False
    snapshots: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A kind of thing that a run makes: one row of the table.

    Attributes:
        name: for people, e.g. "security group".
        find: those of one run, or with None those of every run in the region; all pages. Raises botocore's errors.
        delete: one; no error where it is gone already. Raises botocore's errors.
    """

    name: str
    find: Callable[[Clients, str | None], Iterable[Resource]]
    delete: Callable[[Clients, Resource], None]


def find(kind: Kind, clients: Clients, run_id: str | None) -> list[Resource]:
    """All of a kind, of one run or with None of every run.

    Raises:
        AwsError: a call was refused; nothing is then known of the kind.
    """
    with aws_errors(f"looking for {kind.name}s"):
        return list(kind.find(clients, run_id))


def delete(kind: Kind, clients: Clients, resource: Resource, wait: Callable[[float], None]) -> None:
    """Delete one; where EC2 says that it is still in use, a few times again: an ended instance lets go late.

    Raises:
        AwsError: it could not be deleted.
    """
    for pause_seconds in (*_IN_USE_PAUSES_SECONDS, None):
        try:
            with aws_errors(f"deleting the {kind.name} {resource.id}"):
                kind.delete(clients, resource)
        except AwsError as error:
            if pause_seconds is None or _code(error.__cause__) not in _STILL_IN_USE:
                raise
            wait(pause_seconds)
        else:
            return


def run_of_name(name: str) -> str:
    """The run id in a name that a run gives, as `gpunodes-RUN` or `gpunodes-RUN-bake`; empty for any other name."""
    match = _RUN_IN_NAME.fullmatch(name)
    return match[1] if match else ""


def tags_of(described: Mapping[str, Any]) -> dict[str, str]:
    """Tags of anything that EC2 describes."""
    return {tag["Key"]: tag["Value"] for tag in described.get("Tags", [])}


def unless_gone(call: Callable[..., Any], **arguments: Any) -> Any:
    """Make a call; None where what it is about does not exist any more."""
    try:
        return call(**arguments)
    except ClientError as error:
        code = _code(error)
        if ".NotFound" in code or code in {"NoSuchEntity", "InvalidAMIID.Unavailable"}:
            return None
        raise


def of_run(run_id: str | None) -> list[dict[str, Any]]:
    """EC2's filter for the tags of one run, or with None of every run."""
    if run_id is None:
        return [{"Name": "tag-key", "Values": [TAG_RUN_ID]}]
    return [{"Name": f"tag:{TAG_RUN_ID}", "Values": [run_id]}]


def named_by(run_id: str | None) -> list[str]:
    """EC2's filter values for names that one run, or with None every run, gives."""
    return ["gpunodes-*"] if run_id is None else [f"gpunodes-{run_id}", f"gpunodes-{run_id}-*"]


def expiry_of_run(run_id: str) -> datetime | None:
    """When everything temporary of a run is over; None for an id that holds no time."""
    try:
        return runs.expires_at(Run(run_id, Path()))
    except ValueError:
        return None


def expiry_in(tags: Mapping[str, str]) -> datetime | None:
    """The expiry that tags name; None where they name none, or no time."""
    try:
        expires_at = datetime.fromisoformat(tags.get(TAG_EXPIRES_AT, ""))
    except ValueError:
        return None
    return expires_at if expires_at.tzinfo else expires_at.replace(tzinfo=UTC)


def resource(kind: str, identifier: str, described: Mapping[str, Any], created: Any = None, name: str = "") -> Resource:
    """What EC2 or IAM describes as one of ours; without tags the run is that of its name."""
    tags = tags_of(described)
    run_id = tags.get(TAG_RUN_ID) or run_of_name(name)
    expires_at = expiry_in(tags)
    if expires_at is None and TAG_RUN_ID not in tags:
        expires_at = expiry_of_run(run_id)
    is_sealed = TAG_STATE in tags
    return Resource(kind, identifier, run_id, _time(created) or _start_of_run(run_id), expires_at, is_sealed)


def pages(clients: Clients, operation: str, key: str, filters: Sequence[Mapping[str, Any]], **more: Any) -> list[Any]:
    """All pages of one of EC2's Describe calls."""
    paginator = clients.ec2.get_paginator(operation)
    answer = paginator.paginate(Filters=list(filters), PaginationConfig={"PageSize": _PAGE_SIZE}, **more)
    return [found for page in answer for found in page[key]]


def _start_of_run(run_id: str) -> datetime | None:
    try:
        return datetime.strptime(run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _time(value: Any) -> datetime | None:
    """EC2 gives times as datetimes, only images' as texts."""
    return datetime.fromisoformat(value) if isinstance(value, str) and value else value or None


def _code(error: BaseException | None) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else ""
