"""Remove what carries a run's id: the API is asked what exists, nothing is assumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import AwsError
from gpunodes.runs import TAG_RUN_ID, TAG_STATE

_GONE_SECONDS = 300.0
_POLL_SECONDS = 2.0
ALIVE = ["pending", "running", "stopping", "stopped"]


def remove_instances(clients: Clients, run_id: str, wait: Callable[[float], None] = time.sleep) -> list[str]:
    """Terminate the run's instances, wait until they are, then delete its security groups; return what was removed.

    Raises:
        AwsError: a call was refused, or an instance does not end.
    """
    with aws_errors("removing a run's instances"):
        alive = _instances(clients, run_id, ALIVE)
        if alive:
            clients.ec2.terminate_instances(InstanceIds=alive)
        _wait_until_gone(clients, run_id, wait)
        groups = clients.ec2.describe_security_groups(Filters=_of_run(run_id))["SecurityGroups"]
        for group in groups:
            clients.ec2.delete_security_group(GroupId=group["GroupId"])
    return alive + [group["GroupId"] for group in groups]


def terminate_instances(clients: Clients, run_id: str) -> None:
    """Ask EC2 to terminate the run's instances; what follows can go on meanwhile."""
    with aws_errors("terminating a run's instances"):
        if alive := _instances(clients, run_id, ALIVE):
            clients.ec2.terminate_instances(InstanceIds=alive)


def remove_images(clients: Clients, run_id: str, *, sealed: bool = True) -> list[str]:
    """Deregister the run's images and delete their snapshots; for a bake that did not get to its end.

    Args:
        clients: of the target.
        run_id: of the bake.
        sealed: images with a state, too; without it only those that Packer made and nobody sealed.
    """
    with aws_errors("removing a run's images"):
        images = clients.ec2.describe_images(Owners=["self"], Filters=_of_run(run_id))["Images"]
        images = [image for image in images if sealed or not has_state(image)]
        for image in images:
            clients.ec2.deregister_image(ImageId=image["ImageId"])
            for mapping in image["BlockDeviceMappings"]:
                if "SnapshotId" in mapping.get("Ebs", {}):
                    clients.ec2.delete_snapshot(SnapshotId=mapping["Ebs"]["SnapshotId"])
    return [image["ImageId"] for image in images]


def remove_key_pairs(clients: Clients, run_id: str) -> list[str]:
    """Delete the run's key pairs."""
    with aws_errors("removing a run's SSH keys"):
        names = [pair["KeyName"] for pair in clients.ec2.describe_key_pairs(Filters=_of_run(run_id))["KeyPairs"]]
        for name in names:
            clients.ec2.delete_key_pair(KeyName=name)
    return names


def remove_roles(clients: Clients, run_id: str) -> list[str]:
    """Delete the run's roles and instance profiles, found by name: a run that was killed may not know of them."""
    iam = clients.client("iam")
    prefix = f"gpunodes-{run_id}-"
    with aws_errors("removing a run's roles"):
        profiles = _named(iam, "list_instance_profiles", "InstanceProfiles", "InstanceProfileName", prefix)
        roles = _named(iam, "list_roles", "Roles", "RoleName", prefix)
        for name in profiles:
            for role in iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]:
                iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=role["RoleName"])
            iam.delete_instance_profile(InstanceProfileName=name)
        for name in roles:
            for policy in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
                iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
            iam.delete_role(RoleName=name)
    return profiles + roles


def _named(iam: Any, call: str, key: str, field: str, prefix: str) -> list[str]:
    names = [str(found[field]) for page in iam.get_paginator(call).paginate() for found in page[key]]
    return [name for name in names if name.startswith(prefix)]


def has_state(image: dict[str, Any]) -> bool:
    """Whether an image was sealed: candidates and all that comes after have a state."""
    return any(tag["Key"] == TAG_STATE for tag in image.get("Tags", []))


def _wait_until_gone(clients: Clients, run_id: str, wait: Callable[[float], None]) -> None:
    waited = 0.0
    while remaining := _instances(clients, run_id, [*ALIVE, "shutting-down"]):
        if waited > _GONE_SECONDS:
            raise AwsError(f"Instances {', '.join(remaining)} do not terminate; look at them in the EC2 console.")
        wait(_POLL_SECONDS)
        waited += _POLL_SECONDS


def _instances(clients: Clients, run_id: str, states: list[str]) -> list[str]:
    filters = [*_of_run(run_id), {"Name": "instance-state-name", "Values": states}]
    pages = clients.ec2.get_paginator("describe_instances").paginate(Filters=filters)
    reservations = [reservation for page in pages for reservation in page["Reservations"]]
    return [instance["InstanceId"] for reservation in reservations for instance in reservation["Instances"]]


def _of_run(run_id: str) -> list[dict[str, Any]]:
    return [{"Name": f"tag:{TAG_RUN_ID}", "Values": [run_id]}]
