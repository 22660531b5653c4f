"""Remove what carries a run's id: the API is asked what exists, nothing is assumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gpunodes import resources
from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import AwsError
from gpunodes.resource_kinds import (
    IMAGE,
    INSTANCE,
    INSTANCE_PROFILE,
    KEY_PAIR,
    LAUNCH_TEMPLATE,
    ROLE,
    SECURITY_GROUP,
    SNAPSHOT,
    VOLUME,
)
from gpunodes.resources import ALIVE, Kind, Resource
from gpunodes.runs import TAG_STATE

_GONE_SECONDS = 300.0
_POLL_SECONDS = 2.0
_FILTER_VALUES = 200  # the most that EC2 allows in one filter

__all__ = ["ALIVE", "has_state", "remove_images", "remove_instances", "remove_key_pairs", "remove_roles"]


def remove_instances(clients: Clients, run_id: str, wait: Callable[[float], None] = time.sleep) -> list[str]:
    """Terminate the run's instances, wait until they are, then delete what they used; return what was removed.

    That is their volumes, the launch templates of spot launches, and the security groups.

    Raises:
        AwsError: a call was refused, or an instance does not end.
    """
    instances = _remove(INSTANCE, clients, run_id, wait)
    if remaining := wait_until_ended(clients, instances, wait):
        raise AwsError(f"Instances {', '.join(remaining)} do not terminate; look at them in the EC2 console.")
    return instances + [
        removed
        for kind in (VOLUME, LAUNCH_TEMPLATE, SECURITY_GROUP)
        for removed in _remove(kind, clients, run_id, wait)
    ]


def terminate_instances(clients: Clients, run_id: str) -> None:
    """Ask EC2 to terminate the run's instances; what follows can go on meanwhile."""
    _remove(INSTANCE, clients, run_id, time.sleep)


def remove_images(clients: Clients, run_id: str, *, sealed: bool = True) -> list[str]:
    """Deregister the run's images and delete their snapshots; for a bake that did not get to its end.

    Args:
        clients: of the target.
        run_id: of the bake.
        sealed: images with a state, too; without it only those that Packer made and nobody sealed.
    """
    images = _remove(IMAGE, clients, run_id, time.sleep, lambda image: sealed or not image.is_sealed)
    _remove(SNAPSHOT, clients, run_id, time.sleep, lambda snapshot: sealed or not snapshot.is_sealed)
    return images


def remove_key_pairs(clients: Clients, run_id: str) -> list[str]:
    """Delete the run's key pairs."""
    return _remove(KEY_PAIR, clients, run_id, time.sleep)


def remove_roles(clients: Clients, run_id: str) -> list[str]:
    """Delete the run's roles and instance profiles, found by name: a run that was killed may not know of them."""
    return [removed for kind in (INSTANCE_PROFILE, ROLE) for removed in _remove(kind, clients, run_id, time.sleep)]


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


def _remove(
    kind: Kind,
    clients: Clients,
    run_id: str,
    wait: Callable[[float], None],
    goes: Callable[[Resource], bool] = lambda _resource: True,
) -> list[str]:
    leftovers = [resource for resource in resources.find(kind, clients, run_id) if goes(resource)]
    for resource in leftovers:
        resources.delete(kind, clients, resource, wait)
    return [resource.id for resource in leftovers]
