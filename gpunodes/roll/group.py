"""An Auto Scaling group as a roll sees it: the launch templates that it uses, and the images of its instances."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import PreflightError, UsageError

LATEST, DEFAULT = "$Latest", "$Default"
_INSTANCES_AT_ONCE = 200  # so many values a filter takes
_GONE = frozenset({"shutting-down", "terminated"})
_NEEDED_PROCESSES = frozenset({"Launch", "Terminate", "InstanceRefresh"})


@dataclass(frozen=True)
class Template:
    """A launch template, as a group uses it.

    Attributes:
        template_id: of it.
        version: as the group has it: a number, `$Latest` or `$Default`.
        number: of the version which that is now.
        image: that stands there: an id, or an alias (`resolve:ssm:NAME`); empty for none.
    """

    template_id: str
    version: str
    number: int
    image: str

    @property
    def is_numbered(self) -> bool:
        """Whether the group stays with this version until somebody tells it otherwise."""
        return self.version not in {LATEST, DEFAULT}


@dataclass(frozen=True)
class Group:
    """An Auto Scaling group.

    Attributes:
        name: of it.
        templates: that it uses: its own, or those of its mixed instances policy, overrides included; each once.
        images: image of each instance that is not on its way out, by the instance's id.
        described: as in DescribeAutoScalingGroups.
    """

    name: str
    templates: tuple[Template, ...]
    images: Mapping[str, str]
    described: Mapping[str, Any]

    @property
    def selects_by_attributes(self) -> bool:
        """Whether it chooses instance types by what they have; AWS then takes no desired configuration."""
        return any("InstanceRequirements" in override for override in _overrides(self.described))

    def others(self, ami_id: str) -> list[str]:
        """Instances that have another image."""
        return sorted(instance_id for instance_id, image in self.images.items() if image != ami_id)

    def configuration(self, numbers: Mapping[tuple[str, str], int]) -> dict[str, Any]:
        """What it launches by, as a desired configuration, with other versions of its launch templates.

        Args:
            numbers: the new version, by id of the launch template and version as the group has it.
        """
        kinds = ("LaunchTemplate", "MixedInstancesPolicy")
        wanted = deepcopy({kind: self.described[kind] for kind in kinds if self.described.get(kind)})
        for specification in specifications(wanted):
            specification.pop("LaunchTemplateName", None)  # beside the id it would be refused
            key = (specification["LaunchTemplateId"], specification.get("Version", DEFAULT))
            if key in numbers:
                specification["Version"] = str(numbers[key])
        return wanted


def read(clients: Clients, name: str) -> Group:
    """Look at a group (DescribeAutoScalingGroups, DescribeLaunchTemplateVersions, DescribeInstances).

    Raises:
        UsageError: there is no such group.
        PreflightError: it has no launch template, or cannot be refreshed for another reason.
        AwsError: AWS refused.
    """
    with aws_errors(f"looking at Auto Scaling group {name}"):
        groups = clients.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])
    if not groups["AutoScalingGroups"]:
        raise UsageError(f"There is no Auto Scaling group `{name}` in {clients.target.region}; correct the name.")
    [described] = groups["AutoScalingGroups"]
    _require_refreshable(name, described)
    found = {}
    for specification in specifications(described):
        template = _template(clients, name, specification)
        found[template.template_id, template.version] = template
    members = [
        member["InstanceId"] for member in described["Instances"] if not member["LifecycleState"].startswith("Terminat")
    ]
    return Group(name, tuple(found.values()), _images(clients, members), described)


def specifications(described: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every launch template with its version in the description of a group, or in a desired configuration."""
    if described.get("LaunchTemplate"):
        yield described["LaunchTemplate"]
    if policy := described.get("MixedInstancesPolicy"):
        yield policy["LaunchTemplate"]["LaunchTemplateSpecification"]
        for override in _overrides(described):
            if "LaunchTemplateSpecification" in override:
                yield override["LaunchTemplateSpecification"]


def _overrides(described: Mapping[str, Any]) -> list[dict[str, Any]]:
    policy = described.get("MixedInstancesPolicy") or {}
    overrides: list[dict[str, Any]] = policy.get("LaunchTemplate", {}).get("Overrides", [])
    return overrides


def _require_refreshable(name: str, described: Mapping[str, Any]) -> None:
    if not described.get("LaunchTemplate") and not described.get("MixedInstancesPolicy"):
        raise PreflightError(f"Group {name} uses a launch configuration; give it a launch template.")
    if any("ImageId" in override for override in _overrides(described)):
        raise PreflightError(f"Group {name} names images in its overrides; name them in launch templates instead.")
    suspended = {process["ProcessName"] for process in described.get("SuspendedProcesses", [])} & _NEEDED_PROCESSES
    if suspended:
        raise PreflightError(f"Group {name} has suspended {', '.join(sorted(suspended))}; resume that first.")


def _template(clients: Clients, group: str, specification: Mapping[str, str]) -> Template:
    template_id, version = specification["LaunchTemplateId"], specification.get("Version", DEFAULT)
    with aws_errors(f"looking at launch template {template_id} of group {group}"):
        found = clients.ec2.describe_launch_template_versions(LaunchTemplateId=template_id, Versions=[version])
    [described] = found["LaunchTemplateVersions"]
    image = str(described["LaunchTemplateData"].get("ImageId", ""))
    return Template(template_id, version, int(described["VersionNumber"]), image)


def _images(clients: Clients, instance_ids: list[str]) -> dict[str, str]:
    """Image of each instance; one that is gone meanwhile is left out, which InstanceIds would refuse."""
    images: dict[str, str] = {}
    for begin in range(0, len(instance_ids), _INSTANCES_AT_ONCE):
        wanted = [{"Name": "instance-id", "Values": instance_ids[begin : begin + _INSTANCES_AT_ONCE]}]
        with aws_errors("looking at the instances of a group"):
            pages = list(clients.ec2.get_paginator("describe_instances").paginate(Filters=wanted))
        images |= {
            instance["InstanceId"]: instance["ImageId"]
            for page in pages
            for reservation in page["Reservations"]
            for instance in reservation["Instances"]
            if instance["State"]["Name"] not in _GONE
        }
    return images
