"""Instances, launch templates, launch configurations and Auto Scaling groups that name an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.prune.aliases import Aliases
from gpunodes.prune.references import Reference, Source

_INSTANCES_PER_PAGE = 200  # a page of a thousand takes tens of MiB while it is read
_VERSIONS_PER_PAGE = 200


def of_instances(clients: Clients) -> Iterator[Reference]:
    """Of instances in any state: a stopped one is started again, a terminated one may be looked into for an hour.

    Raises:
        AwsError: EC2 refused (DescribeInstances).
    """
    with aws_errors("looking for instances"):
        pages = clients.ec2.get_paginator("describe_instances").paginate(
            PaginationConfig={"PageSize": _INSTANCES_PER_PAGE}
        )
        for page in pages:
            for reservation in page["Reservations"]:
                for instance in reservation["Instances"]:
                    name = f"{instance['InstanceId']} ({instance['State']['Name']})"
                    yield Reference(instance["ImageId"], "instance", name)


def of_launch_templates(clients: Clients) -> Iterator[Reference]:
    """Of every version of every launch template, with `resolve:ssm:` looked up.

    Raises:
        AwsError: EC2 or SSM refused (DescribeLaunchTemplates, DescribeLaunchTemplateVersions, GetParameter).
    """
    found = list(_versions(clients))
    aliases = Aliases(clients)
    for name, image_id in found:
        for ami_id in aliases.images_of(image_id):
            yield Reference(ami_id, "launch template", name)


def _versions(clients: Clients) -> Iterator[tuple[str, str]]:
    """Name with version, and what stands where the image's id would."""
    with aws_errors("looking for launch templates"):
        for page in clients.ec2.get_paginator("describe_launch_templates").paginate(
            PaginationConfig={"PageSize": _VERSIONS_PER_PAGE}
        ):
            for template in page["LaunchTemplates"]:
                yield from _versions_of(clients, template["LaunchTemplateId"], template["LaunchTemplateName"])


def _versions_of(clients: Clients, template_id: str, name: str) -> Iterator[tuple[str, str]]:
    pages = clients.ec2.get_paginator("describe_launch_template_versions").paginate(
        LaunchTemplateId=template_id, PaginationConfig={"PageSize": _VERSIONS_PER_PAGE}
    )
    for page in pages:
        for version in page["LaunchTemplateVersions"]:
            if image_id := version["LaunchTemplateData"].get("ImageId"):
                yield f"{name} version {version['VersionNumber']}", str(image_id)


def of_auto_scaling(clients: Clients) -> Iterator[Reference]:
    """Of launch configurations, with the groups that use them, and of groups that name an image for a type of instance.

    A group's launch template is a template's matter.

    Raises:
        AwsError: Auto Scaling or SSM refused (DescribeLaunchConfigurations, DescribeAutoScalingGroups, GetParameter).
    """
    scaling = clients.client("autoscaling")
    with aws_errors("looking for launch configurations"):
        configurations = list(_all(scaling, "describe_launch_configurations", "LaunchConfigurations"))
    with aws_errors("looking for Auto Scaling groups"):
        groups = list(_all(scaling, "describe_auto_scaling_groups", "AutoScalingGroups"))
    for configuration in configurations:
        name = configuration["LaunchConfigurationName"]
        users = [group["AutoScalingGroupName"] for group in groups if group.get("LaunchConfigurationName") == name]
        by = f" of group {', '.join(users)}" if users else ""
        yield Reference(configuration["ImageId"], "launch configuration", f"{name}{by}")
    aliases = Aliases(clients)
    for group in groups:
        for image_id in _overrides(group):
            for ami_id in aliases.images_of(image_id):
                yield Reference(ami_id, "Auto Scaling group", group["AutoScalingGroupName"])


def _overrides(group: dict[str, Any]) -> list[str]:
    """What stands instead of the image of the group's launch template, for some types of instance."""
    template = group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {})
    return [str(each["ImageId"]) for each in template.get("Overrides", []) if each.get("ImageId")]


def _all(client: Any, call: str, items: str) -> Iterable[dict[str, Any]]:
    return (item for page in client.get_paginator(call).paginate() for item in page[items])


SOURCES = (
    Source("instances", of_instances),
    Source("launch templates", of_launch_templates),
    Source("Auto Scaling", of_auto_scaling),
)
