"""What an instance refresh does to a group, a step at a time: launch, wait until it runs, swap, terminate.

moto's groups launch by the configuration that they have, so a new instance is launched by RunInstances and attached. An
instance is detached before it is terminated: moto would replace one that is missing at once, by the old configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localaws.network import on_subnet
from localaws.query_protocol import Calls

_GROUP_TAG = "aws:autoscaling:groupName"


class Group:
    """An Auto Scaling group of moto's.

    Args:
        calls: put to the application that has it.
        name: of the group.
    """

    def __init__(self, calls: Calls, name: str) -> None:
        self._calls = calls
        self.name = name

    def described(self) -> dict[str, Any] | None:
        """As in DescribeAutoScalingGroups; None where there is no such group."""
        found = self._calls("autoscaling", "DescribeAutoScalingGroups", AutoScalingGroupNames=[self.name])
        groups: list[dict[str, Any]] = found["AutoScalingGroups"]
        return groups[0] if groups else None

    def configuration(self) -> dict[str, Any]:
        """Its launch template or mixed instances policy, in the form of a desired configuration."""
        group = self.described() or {}
        return {key: group[key] for key in ("LaunchTemplate", "MixedInstancesPolicy") if group.get(key)}

    def instances(self) -> list[dict[str, Any]]:
        """The instances in service, as in DescribeInstances."""
        members = [member["InstanceId"] for member in (self.described() or {}).get("Instances", [])]
        return self._instances(members) if members else []

    def image_of(self, configuration: Mapping[str, Any], *, resolve: bool = False) -> str:
        """The image in the launch template of a configuration: an id, or an alias unless that is to be looked up."""
        named, _ = launch_of(configuration)
        versions = [named.pop("Version", "$Default")]
        found = self._calls("ec2", "DescribeLaunchTemplateVersions", **named, Versions=versions, ResolveAlias=resolve)
        return str(found["LaunchTemplateVersions"][0]["LaunchTemplateData"].get("ImageId", ""))

    def launch(self, configuration: Mapping[str, Any]) -> str:
        """Launch an instance that is not a member yet, and return its id."""
        template, instance_type = launch_of(configuration)
        group = self.described() or {}
        tags = [{"Key": tag["Key"], "Value": tag["Value"]} for tag in group["Tags"] if tag["PropagateAtLaunch"]]
        wanted: dict[str, Any] = {"LaunchTemplate": template}
        if instance_type:
            wanted["InstanceType"] = instance_type
        if subnets := group.get("VPCZoneIdentifier"):
            wanted["SubnetId"] = subnets.split(",")[0]
        tags.append({"Key": _GROUP_TAG, "Value": self.name})
        wanted["TagSpecifications"] = [{"ResourceType": "instance", "Tags": tags}]
        return str(self._calls("ec2", "RunInstances", MinCount=1, MaxCount=1, **wanted)["Instances"][0]["InstanceId"])

    def addresses_of(self, instance_id: str) -> list[str]:
        """Where an instance answers, if it is one that gets a machine."""
        found = [instance.get("PrivateIpAddress", "") for instance in self._instances([instance_id])]
        return [address for address in found if address and on_subnet(address)]

    def attach(self, instance_id: str) -> None:
        """Let the group have an instance more."""
        self._calls("autoscaling", "AttachInstances", AutoScalingGroupName=self.name, InstanceIds=[instance_id])

    def detach(self, instance_id: str) -> None:
        """Let the group have an instance less, which runs on."""
        wanted = {"InstanceIds": [instance_id], "ShouldDecrementDesiredCapacity": True}
        self._calls("autoscaling", "DetachInstances", AutoScalingGroupName=self.name, **wanted)

    def terminate(self, instance_id: str) -> None:
        """Terminate an instance that is no member."""
        self._calls("ec2", "TerminateInstances", InstanceIds=[instance_id])

    def configure(self, configuration: Mapping[str, Any]) -> None:
        """Let the group launch by a configuration from now on."""
        self._calls("autoscaling", "UpdateAutoScalingGroup", AutoScalingGroupName=self.name, **configuration)

    def alarms_in_alarm(self, names: list[str]) -> list[str]:
        """Which of these alarms are in the state ALARM."""
        if not names:
            return []
        found = self._calls("cloudwatch", "DescribeAlarms", AlarmNames=names)["MetricAlarms"]
        return [alarm["AlarmName"] for alarm in found if alarm["StateValue"] == "ALARM"]

    def _instances(self, instance_ids: list[str]) -> list[dict[str, Any]]:
        found = self._calls("ec2", "DescribeInstances", InstanceIds=instance_ids)["Reservations"]
        return [instance for reservation in found for instance in reservation["Instances"]]


def launch_of(configuration: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Launch template and instance type (empty for the template's) of a configuration; the first override counts."""
    override: dict[str, Any] = {}
    chosen = configuration.get("LaunchTemplate")
    if chosen is None:
        policy = configuration["MixedInstancesPolicy"]["LaunchTemplate"]
        override = (policy.get("Overrides") or [{}])[0]
        chosen = override.get("LaunchTemplateSpecification") or policy["LaunchTemplateSpecification"]
    # moto shows id and name, and takes one of them.
    is_named_twice = "LaunchTemplateId" in chosen
    named = {key: value for key, value in chosen.items() if key != "LaunchTemplateName" or not is_named_twice}
    return named, str(override.get("InstanceType", ""))
