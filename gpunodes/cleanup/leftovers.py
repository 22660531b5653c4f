"""Remove what carries a run's id: the API is asked what exists, nothing is assumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError

from gpunodes.aws import Clients, aws_errors
from gpunodes.cleanup import resources
from gpunodes.cleanup.resource_kinds import (
    IMAGE,
    INSTANCE,
    INSTANCE_PROFILE,
    KEY_PAIR,
    KINDS,
    LAUNCH_TEMPLATE,
    ROLE,
    SECURITY_GROUP,
    SNAPSHOT,
    VOLUME,
)
from gpunodes.cleanup.resources import ALIVE, Kind, Resource
from gpunodes.errors import AwsError, GpunodesError, PreflightError
from gpunodes.operation.runs import TAG_STATE

_GONE_SECONDS = 300.0
_POLL_SECONDS = 2.0
_FILTER_VALUES = 200  # the most that EC2 allows in one filter

__all__ = ["ALIVE", "has_state", "remove_all", "remove_images", "remove_instances", "remove_key_pairs", "remove_roles"]


def remove_all(clients: Clients, run_id: str, wait: Callable[[float], None] = time.sleep) -> list[str]:
    """Remove everything of the run, of every kind, but sealed images and their snapshots; return what was removed.

    Raises:
        AwsError: a call was refused, or an instance does not end; what does not depend on that is gone all the same.
    """
    instances = _remove(INSTANCE, clients, run_id, wait)
    remaining = wait_until_ended(clients, instances, wait)
    others = [kind for kind in KINDS if kind is not INSTANCE]
    try:
        removed = instances + _remove_each(others, clients, run_id, wait, _is_not_sealed)
    except AwsError:
        if not remaining:
            raise
    if remaining:  # what it uses could not be removed because of it
        raise AwsError(f"Instances {', '.join(remaining)} do not terminate; look at them in the EC2 console.")
    return removed


def of_run(clients: Clients, run_id: str) -> list[Resource]:
    """What exists of a run, of every kind, as AWS says now; sealed images are meant to stay.

    Raises:
        AwsError: a call was refused.
    """
    return [found for kind in KINDS for found in resources.find(kind, clients, run_id) if not found.is_sealed]


def is_the_same_for_every_kind(error: GpunodesError) -> bool:
    """Whether nobody answers, or our login is over: whatever is asked next would only wait as long for the same."""
    return isinstance(error, PreflightError) or isinstance(error.__cause__, BotoCoreError)


def remove_instances(clients: Clients, run_id: str, wait: Callable[[float], None] = time.sleep) -> list[str]:
    """Terminate the run's instances, wait until they are, then delete what they used; return what was removed.

    That is their volumes, the launch templates of spot launches, and the security groups.

    Raises:
        AwsError: a call was refused, or an instance does not end.
    """
    instances = _remove(INSTANCE, clients, run_id, wait)
    if remaining := wait_until_ended(clients, instances, wait):
        raise AwsError(f"Instances {', '.join(remaining)} do not terminate; look at them in the EC2 console.")
    return instances + _remove_each((VOLUME, LAUNCH_TEMPLATE, SECURITY_GROUP), clients, run_id, wait)


def terminate_instances(clients: Clients, run_id: str) -> None:
    """Ask EC2 to terminate the run's instances; what follows can go on meanwhile."""
    _remove(INSTANCE, clients, run_id, time.sleep)


def remove_images(clients: Clients, run_id: str, *, sealed: bool = True) -> list[str]:
    """Deregister the run's images and delete their snapshots; for a bake that did not get to its end.

    Args:
        clients: of the target.
        run_id: of the bake.
        sealed: images with a state, too; without it only those that Packer made and nobody sealed.

    Returns:
        Ids of the images, and of snapshots that had lost theirs.
    """
    return _remove_each((IMAGE, SNAPSHOT), clients, run_id, time.sleep, lambda found: sealed or not found.is_sealed)


def remove_key_pairs(clients: Clients, run_id: str) -> list[str]:
    """Delete the run's key pairs."""
    return _remove(KEY_PAIR, clients, run_id, time.sleep)


def remove_roles(clients: Clients, run_id: str) -> list[str]:
    """Delete the run's roles and instance profiles, found by name: a run that was killed may not know of them."""
    return _remove_each((INSTANCE_PROFILE, ROLE), clients, run_id, time.sleep)


def has_state(image: dict[str, Any]) -> bool:
    """Whether an image was sealed: candidates and all that comes after have a state."""
    return TAG_STATE in resources.tags_of(image)


def wait_until_ended(clients: Clients, instance_ids: list[str], wait: Callable[[float], None]) -> list[str]:
    """Wait up to five minutes until instances are terminated; return those that are not.

    Raises:
        AwsError: EC2 does not say.
    """
    waited_seconds = 0.0
    while (remaining := _not_ended(clients, instance_ids)) and waited_seconds <= _GONE_SECONDS:
        wait(_POLL_SECONDS)
        waited_seconds += _POLL_SECONDS
    return remaining


def _not_ended(clients: Clients, instance_ids: list[str]) -> list[str]:
    not_ended: list[str] = []
    for begin in range(0, len(instance_ids), _FILTER_VALUES):
        filters = [
            {"Name": "instance-id", "Values": instance_ids[begin : begin + _FILTER_VALUES]},
            {"Name": "instance-state-name", "Values": [*ALIVE, "shutting-down"]},
        ]
        with aws_errors("waiting for instances to end"):
            found = resources.pages(clients, "describe_instances", "Reservations", filters)
        not_ended += [instance["InstanceId"] for reservation in found for instance in reservation["Instances"]]
    return not_ended


def _any(_resource: Resource) -> bool:
    return True


def _is_not_sealed(resource: Resource) -> bool:
    return not resource.is_sealed


def _remove_each(
    kinds: Sequence[Kind],
    clients: Clients,
    run_id: str,
    wait: Callable[[float], None],
    goes: Callable[[Resource], bool] = _any,
) -> list[str]:
    """Every kind, even where one before it could not be removed; the first failure is raised at the end."""
    removed: list[str] = []
    failures: list[GpunodesError] = []
    for kind in kinds:
        try:
            removed += _remove(kind, clients, run_id, wait, goes)
        except GpunodesError as error:
            if is_the_same_for_every_kind(error):
                raise
            failures.append(error)
    if failures:
        raise failures[0]
    return removed


def _remove(
    kind: Kind,
    clients: Clients,
    run_id: str,
    wait: Callable[[float], None],
    goes: Callable[[Resource], bool] = _any,
) -> list[str]:
    leftovers = [resource for resource in resources.find(kind, clients, run_id) if goes(resource)]
    for resource in leftovers:
        resources.delete(kind, clients, resource, wait)
    return [resource.id for resource in leftovers]
