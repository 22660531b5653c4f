"""A second instance of the image, without GPUs and for seconds: one instance cannot show that two differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpunodes.aws import aws_errors
from gpunodes.operation import runs
from gpunodes.proof import clone
from gpunodes.proof.clone import Clone, Origin
from gpunodes.proof.launch import TestInstance

# The smallest that boots an image of gigabytes without haste, by the image's architecture.
TYPES = {"x86_64": "t3.small", "arm64": "t4g.small"}


def launch(instance: TestInstance, image: Mapping[str, Any]) -> TestInstance:
    """Launch one more instance beside a test instance: same subnet, group, role and key pair, if any (RunInstances).

    It carries the run's id, so whatever removes the test instance removes it, too.

    Args:
        instance: that was launched.
        image: of both, as in DescribeImages.

    Raises:
        AwsError: EC2 refused.
    """
    tags = runs.temporary_tags(instance.run)
    with aws_errors("launching a second clone"):
        found = instance.clients.ec2.describe_instances(InstanceIds=[instance.instance_id])
        first = found["Reservations"][0]["Instances"][0]
        launched = instance.clients.ec2.run_instances(
            ImageId=image["ImageId"],
            InstanceType=TYPES[image["Architecture"]],
            MinCount=1,
            MaxCount=1,
            SubnetId=first["SubnetId"],
            SecurityGroupIds=[group["GroupId"] for group in first["SecurityGroups"]],
            IamInstanceProfile={"Arn": first["IamInstanceProfile"]["Arn"]},
            **({"KeyName": first["KeyName"]} if first.get("KeyName") else {}),
            MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
            TagSpecifications=[
                {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
                for kind in ("instance", "volume")
            ],
        )["Instances"][0]
    outputs = {"instance_id": launched["InstanceId"], "private_ip": launched["PrivateIpAddress"]}
    return instance.beside(outputs)


def look_at(second: TestInstance, origin: Origin) -> Clone:
    """Connect to it, ask who it is, and terminate it, also when it does not let us in.

    Raises:
        ToolError: it does not.
        AwsError: EC2 refused to terminate it.
    """
    try:
        second.connect()
        return clone.look_at(second.remote, origin)
    finally:
        second.disconnect()
        with aws_errors("terminating the second clone"):
            second.clients.ec2.terminate_instances(InstanceIds=[second.instance_id])
