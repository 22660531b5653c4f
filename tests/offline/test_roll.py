"""A roll for real: a group's machines become machines of another image, and an alarm brings the old image back."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import boto3
import pytest

from tests.offline.conftest import REPOSITORY, Cloud, parse, run_invoke, wait_until

PARAMETER = "/gpunodes/stable/ami-id"


class Group:
    """An Auto Scaling group of two."""

    def __init__(self, cloud: Cloud) -> None:
        def client(service: str) -> Any:
            return boto3.client(
                service,  # type: ignore[call-overload]
                endpoint_url=cloud.facts.endpoint_url,
                region_name="us-east-1",
                aws_access_key_id="test",
                aws_secret_access_key="test",
            )

        self.cloud, self.scaling, self.ssm = cloud, client("autoscaling"), client("ssm")
        data = {"ImageId": cloud.facts.base_image_id, "InstanceType": "g4dn.xlarge", "KeyName": "tests"}
        made = cloud.ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=data)
        self.template_id = made["LaunchTemplate"]["LaunchTemplateId"]
        self.scaling.create_auto_scaling_group(
            AutoScalingGroupName="web",
            LaunchTemplate={"LaunchTemplateId": self.template_id, "Version": "1"},
            MinSize=2,
            MaxSize=2,
            VPCZoneIdentifier=cloud.facts.subnet_id,
        )

    def instances(self) -> list[dict[str, Any]]:
        [found] = self.scaling.describe_auto_scaling_groups(AutoScalingGroupNames=["web"])["AutoScalingGroups"]
        ids = [member["InstanceId"] for member in found["Instances"]]
        reservations = self.cloud.ec2.describe_instances(InstanceIds=ids)["Reservations"]
        return [instance for reservation in reservations for instance in reservation["Instances"]]

    def images(self) -> list[str]:
        return [instance["ImageId"] for instance in self.instances()]

    def contents(self) -> list[str]:
        """What the machines say of themselves."""
        return [self.cloud.connect(instance).run("cat /etc/content").strip() for instance in self.instances()]

    def machines(self) -> list[str]:
        """Images of the group's machines."""
        rows = json.loads((self.cloud.layout.run / "machines.json").read_text())
        mine = {instance["InstanceId"] for instance in self.instances()}
        return [row["image_id"] for row in rows if row["instance_id"] in mine and row["state"] == "running"]

    def promote(self, image_id: str) -> None:
        self.ssm.put_parameter(Name=PARAMETER, Value=image_id, Type="String", DataType="aws:ec2:image", Overwrite=True)
        wait_until(lambda: self.promoted() == image_id, 5)

    def promoted(self) -> str:
        names = [found["Name"] for found in self.ssm.describe_parameters()["Parameters"]]
        return str(self.ssm.get_parameter(Name=PARAMETER)["Parameter"]["Value"]) if PARAMETER in names else ""

    def alarm(self, state: str) -> None:
        self.cloud.cloudwatch.set_alarm_state(AlarmName="errors", StateValue=state, StateReason="a test")


@pytest.fixture(scope="module")
def group(cloud: Cloud) -> Group:
    """A group on the base image, and a channel that names another one."""
    builder = cloud.launch()
    cloud.connect(builder).run("echo new | sudo tee /etc/content && sync")
    image = cloud.ec2.create_image(InstanceId=builder["InstanceId"], Name="new", NoReboot=True)["ImageId"]
    made = Group(cloud)
    made.promote(image)
    return made


def test_each_machine_of_a_group_is_replaced_by_one_of_the_channels_image(group: Group) -> None:
    before = {instance["InstanceId"] for instance in group.instances()}
    assert group.images() == [group.cloud.facts.base_image_id] * 2

    result = run_invoke("roll", "--group", "web", "--min-healthy", "50", "--offline", "--json")

    assert result.returncode == 0, result.stderr
    rolled = parse(result.stdout)
    assert (rolled["decision"], rolled["ami_id"]) == ("rolled", group.promoted())
    assert group.images() == [rolled["ami_id"]] * 2
    assert group.contents() == ["new", "new"]
    wait_until(lambda: not before & {path.name for path in group.cloud.layout.machines.glob("i-*")}, 10)


def test_an_alarm_brings_the_image_before_back(group: Group) -> None:
    good = group.promoted()
    bad = group.cloud.ec2.copy_image(SourceImageId=good, SourceRegion="us-east-1", Name="bad")["ImageId"]
    group.promote(bad)
    group.cloud.cloudwatch.put_metric_alarm(
        AlarmName="errors",
        MetricName="errors",
        Namespace="test",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        Statistic="Sum",
    )
    group.alarm("OK")
    options = ["--group", "web", "--min-healthy", "100", "--alarm", "errors", "--offline", "--json"]
    command = [sys.executable, "-m", "invoke", "roll", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=pipe, stderr=pipe, text=True) as rolling:
        try:
            wait_until(lambda: bad in group.images() or rolling.poll() is not None, 120)
            group.alarm("ALARM")
            said, complained = rolling.communicate(timeout=180)
        finally:
            rolling.kill()

    assert rolling.returncode == 1, complained
    assert (parse(said)["decision"], group.promoted()) == ("rolled back", bad)
    assert group.images() == [good, good]
    wait_until(lambda: group.machines() == [good, good], 10, group.machines)
