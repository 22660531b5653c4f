"""The kinds of things that runs make: how each is found and deleted.

One table serves `leftovers` (everything of one run) and `reap` (everything that expired). Its order is that in which
things can go: what uses something comes before what it uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from gpunodes.aws import Clients
from gpunodes.channel.channel_lock import ChannelLock, LockOwner, LockState
from gpunodes.cleanup.resources import (
    ALIVE,
    Kind,
    Resource,
    expiry_of_run,
    named_by,
    of_run,
    pages,
    resource,
    run_of_name,
    unless_gone,
)
from gpunodes.errors import AwsError, PreflightError
from gpunodes.operation.runs import TAG_RUN_ID

_MADE_BY_CREATE_IMAGE = re.compile(r"Created by CreateImage\((i-[0-9a-f]+)\) for (ami-[0-9a-f]+)")
_LOCK = re.compile(r"/gpunodes/([^/]+)/lock")
_NOBODY = LockOwner("", "", "")
_OWN = {"Owners": ["self"], "IncludeDisabled": True, "IncludeDeprecated": True}


def _instances(clients: Clients, run_id: str | None) -> Iterable[Resource]:
    return _instances_in(clients, run_id, [*ALIVE, "shutting-down"])


def _instances_in(clients: Clients, run_id: str | None, states: list[str]) -> Iterable[Resource]:
    """By tag and by key pair: Packer tags a spot instance only when it runs, but starts it with the run's key."""
    found: dict[str, Resource] = {}
    for which in ({"Name": "key-name", "Values": named_by(run_id)}, *of_run(run_id)):
        filters = [which, {"Name": "instance-state-name", "Values": states}]
        for reservation in pages(clients, "describe_instances", "Reservations", filters):
            for item in reservation["Instances"]:
                name, made = item.get("KeyName", ""), item.get("LaunchTime")
                found[item["InstanceId"]] = resource("instance", item["InstanceId"], item, made, name)
    return found.values()


def _terminate(clients: Clients, instance: Resource) -> None:
    unless_gone(clients.ec2.terminate_instances, InstanceIds=[instance.id])


def _volumes(clients: Clients, run_id: str | None) -> Iterator[Resource]:
    """Those that are attached go with their instance."""
    filters = [*of_run(run_id), {"Name": "status", "Values": ["available", "error"]}]
    for item in pages(clients, "describe_volumes", "Volumes", filters):
        yield resource("volume", item["VolumeId"], item, item.get("CreateTime"))


def _delete_volume(clients: Clients, volume: Resource) -> None:
    unless_gone(clients.ec2.delete_volume, VolumeId=volume.id)


def _launch_templates(clients: Clients, run_id: str | None) -> Iterator[Resource]:
    for item in pages(clients, "describe_launch_templates", "LaunchTemplates", of_run(run_id)):
        yield resource("launch template", item["LaunchTemplateId"], item, item.get("CreateTime"))


def _delete_launch_template(clients: Clients, template: Resource) -> None:
    unless_gone(clients.ec2.delete_launch_template, LaunchTemplateId=template.id)


def _security_groups(clients: Clients, run_id: str | None) -> Iterator[Resource]:
    for item in pages(clients, "describe_security_groups", "SecurityGroups", of_run(run_id)):
        yield resource("security group", item["GroupId"], item)


def _delete_security_group(clients: Clients, group: Resource) -> None:
    unless_gone(clients.ec2.delete_security_group, GroupId=group.id)


def _key_pairs(clients: Clients, run_id: str | None) -> Iterator[Resource]:
    for item in clients.ec2.describe_key_pairs(Filters=of_run(run_id))["KeyPairs"]:  # has no pages
        yield resource("key pair", item["KeyName"], item, item.get("CreateTime"))


def _delete_key_pair(clients: Clients, pair: Resource) -> None:
    unless_gone(clients.ec2.delete_key_pair, KeyName=pair.id)


def _instance_profiles(clients: Clients, run_id: str | None) -> Iterator[Resource]:
    iam = clients.client("iam")
    for item in _named(iam, "list_instance_profiles", "InstanceProfiles", "InstanceProfileName", run_id):
        name = item["InstanceProfileName"]
        if answer := unless_gone(iam.get_instance_profile, InstanceProfileName=name):  # the list has no tags
            yield resource("instance profile", name, answer["InstanceProfile"], item["CreateDate"], name)


def _delete_instance_profile(clients: Clients, profile: Resource) -> None:
    iam = clients.client("iam")
    known = unless_gone(iam.get_instance_profile, InstanceProfileName=profile.id)
    for role in known["InstanceProfile"]["Roles"] if known else []:
        unless_gone(iam.remove_role_from_instance_profile, InstanceProfileName=profile.id, RoleName=role["RoleName"])
    unless_gone(iam.delete_instance_profile, InstanceProfileName=profile.id)


def _roles(clients: Clients, run_id: str | None) -> Iterator[Resource]:
    iam = clients.client("iam")
    for item in _named(iam, "list_roles", "Roles", "RoleName", run_id):
        if answer := unless_gone(iam.get_role, RoleName=item["RoleName"]):  # the list has no tags
            yield resource("role", item["RoleName"], answer["Role"], item["CreateDate"], item["RoleName"])


def _delete_role(clients: Clients, role: Resource) -> None:
    iam = clients.client("iam")
    attached = unless_gone(iam.list_attached_role_policies, RoleName=role.id)
    for policy in attached["AttachedPolicies"] if attached else []:
        unless_gone(iam.detach_role_policy, RoleName=role.id, PolicyArn=policy["PolicyArn"])
    inline = unless_gone(iam.list_role_policies, RoleName=role.id)
    for policy_name in inline["PolicyNames"] if inline else []:
        unless_gone(iam.delete_role_policy, RoleName=role.id, PolicyName=policy_name)
    unless_gone(iam.delete_role, RoleName=role.id)


def _named(iam: Any, operation: str, key: str, field: str, run_id: str | None) -> list[Mapping[str, Any]]:
    """IAM filters neither by name nor by tag. A run of another region is found, too: IAM has no regions."""
    found = [item for page in iam.get_paginator(operation).paginate() for item in page[key]]
    if run_id is None:
        return [item for item in found if run_of_name(item[field])]
    return [
        item for item in found if item[field] == f"gpunodes-{run_id}" or item[field].startswith(f"gpunodes-{run_id}-")
    ]


def _images(clients: Clients, run_id: str | None) -> Iterable[Resource]:
    """By tag and by name: Packer 1.6.6 tags an image only when it is available, minutes after it made it.

    A copy that somebody made under the name of ours has no tags either; CreateImage alone leaves a SourceInstanceId.
    """
    found: dict[str, Resource] = {}
    for which in ([{"Name": "name", "Values": named_by(run_id)}], of_run(run_id)):
        for item in pages(clients, "describe_images", "Images", which, **_OWN):
            image = _image(item)
            is_tagged = any(tag["Key"] == TAG_RUN_ID for tag in item.get("Tags", []))
            if is_tagged or ("SourceInstanceId" in item and (image.run_id or run_id) and not item.get("Public")):
                found[image.id] = replace(image, run_id=image.run_id or run_id or "")
    return found.values()


def _image(item: Mapping[str, Any]) -> Resource:
    image = resource("image", item["ImageId"], item, item.get("CreationDate"), item.get("Name", ""))
    return replace(
        image,
        expires_at=image.expires_at or expiry_of_run(image.run_id),
        is_protected=item.get("DeregistrationProtection", "disabled").startswith("enabled"),
        snapshots=tuple(_snapshots_in(item)),
    )


def _snapshots_in(image: Mapping[str, Any]) -> list[str]:
    volumes = [mapping.get("Ebs", {}) for mapping in image.get("BlockDeviceMappings", [])]
    return [volume["SnapshotId"] for volume in volumes if "SnapshotId" in volume]


def _deregister(clients: Clients, image: Resource) -> None:
    ec2 = clients.ec2
    # One call for both on AWS, so that no crash leaves snapshots without their image; moto only hears the first half.
    deregister = partial(unless_gone, ec2.deregister_image, ImageId=image.id, DeleteAssociatedSnapshots=True)
    if image.is_protected:
        unless_gone(ec2.disable_image_deregistration_protection, ImageId=image.id)
    try:
        deregister()
    except ClientError as error:
        if image.is_protected:
            raise
        try:  # DescribeImages may not have heard yet of a protection that is seconds old
            ec2.disable_image_deregistration_protection(ImageId=image.id)
        except ClientError:
            raise error from None
        deregister()
    for snapshot in image.snapshots:
        unless_gone(clients.ec2.delete_snapshot, SnapshotId=snapshot)


def _orphan_snapshots(clients: Clients, run_id: str | None) -> Iterable[Resource]:
    """Snapshots of runs that no image of this account uses, tagged or made of a run's instance by CreateImage."""
    used = {
        snapshot for item in pages(clients, "describe_images", "Images", [], **_OWN) for snapshot in _snapshots_in(item)
    }
    everywhere = {"OwnerIds": ["self"]}
    found = {
        item["SnapshotId"]: (item, "")
        for item in pages(clients, "describe_snapshots", "Snapshots", of_run(run_id), **everywhere)
    }
    instances = {
        instance.id: instance.run_id or run_id or ""
        for instance in _instances_in(clients, run_id, [*ALIVE, "shutting-down", "terminated"])
    }
    by_image = [{"Name": "description", "Values": ["Created by CreateImage(i-*"]}]
    for item in pages(clients, "describe_snapshots", "Snapshots", by_image, **everywhere):
        made = _MADE_BY_CREATE_IMAGE.match(item.get("Description", ""))
        if made and made[1] in instances:
            found.setdefault(item["SnapshotId"], (item, instances[made[1]]))
    for item, owner in found.values():
        if item["SnapshotId"] not in used:
            yield _snapshot(item, owner)


def _snapshot(item: Mapping[str, Any], run_id: str) -> Resource:
    snapshot = resource("snapshot", item["SnapshotId"], item, item.get("StartTime"))
    run_id = snapshot.run_id or run_id
    return replace(snapshot, run_id=run_id, expires_at=snapshot.expires_at or expiry_of_run(run_id))


def _delete_snapshot(clients: Clients, snapshot: Resource) -> None:
    unless_gone(clients.ec2.delete_snapshot, SnapshotId=snapshot.id)


def _channel_locks(clients: Clients, run_id: str | None) -> Iterator[Resource]:
    """Locks that a run holds; one that is free is no resource of anybody."""
    filters = [{"Key": "Name", "Option": "BeginsWith", "Values": ["/gpunodes/"]}]
    for page in clients.ssm.get_paginator("describe_parameters").paginate(ParameterFilters=filters):
        for parameter in page["Parameters"]:
            if match := _LOCK.fullmatch(parameter["Name"]):
                state = _lock(clients, match[1], _NOBODY)
                if state.owner is not None and run_id in {None, state.owner.run_id}:
                    yield Resource("channel lock", match[1], state.owner.run_id, state.taken_at, state.expires_at)


def _lock(clients: Clients, channel: str, owner: LockOwner) -> LockState:
    try:
        return _channel_lock(clients, channel, owner).read()
    except PreflightError as error:  # somebody wrote something else there: no reason to leave all the rest
        raise AwsError(str(error)) from error


def _channel_lock(clients: Clients, channel: str, owner: LockOwner) -> ChannelLock:
    return ChannelLock(clients, channel, owner, datetime.now(UTC), lambda _text: None)


def _free_lock(clients: Clients, lock: Resource) -> None:
    """In the name of the run that holds it: where another has taken it meanwhile, it is left alone."""
    _channel_lock(clients, lock.id, replace(_NOBODY, run_id=lock.run_id)).release()


INSTANCE = Kind("instance", _instances, _terminate)
VOLUME = Kind("volume", _volumes, _delete_volume)
LAUNCH_TEMPLATE = Kind("launch template", _launch_templates, _delete_launch_template)
SECURITY_GROUP = Kind("security group", _security_groups, _delete_security_group)
KEY_PAIR = Kind("key pair", _key_pairs, _delete_key_pair)
INSTANCE_PROFILE = Kind("instance profile", _instance_profiles, _delete_instance_profile)
ROLE = Kind("role", _roles, _delete_role)
IMAGE = Kind("image", _images, _deregister)
SNAPSHOT = Kind("snapshot", _orphan_snapshots, _delete_snapshot)
CHANNEL_LOCK = Kind("channel lock", _channel_locks, _free_lock)

KINDS = (
    INSTANCE,
    VOLUME,
    LAUNCH_TEMPLATE,
    SECURITY_GROUP,
    KEY_PAIR,
    INSTANCE_PROFILE,
    ROLE,
    IMAGE,
    SNAPSHOT,
    CHANNEL_LOCK,
)
