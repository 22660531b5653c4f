"""Instance refreshes through boto3, against moto with the layers before it, as in the offline cloud."""

from __future__ import annotations

import logging
import socket
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import DomainDispatcherApplication, create_backend_app

from localaws import api
from localaws.api import ObservedApi
from localaws.instance_refresh import InstanceRefreshes

PARAMETER = "/gpunodes/stable/ami-id"
ALIAS = f"resolve:ssm:{PARAMETER}"


class Clock:
    """UTC, moved by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Machines:
    """Whether instances let people in."""

    def __init__(self) -> None:
        self.run = True

    def __call__(self, _addresses: list[str]) -> bool:
        return self.run


class Account:
    """Clients of an account, and what makes time pass in it."""

    def __init__(self, endpoint_url: str, clock: Clock, machines: Machines, observed: ObservedApi) -> None:
        def client(service: str) -> Any:
            return boto3.client(
                service,  # type: ignore[call-overload]
                region_name="us-east-1",
                endpoint_url=endpoint_url,
                aws_access_key_id="test",
                aws_secret_access_key="test",
            )

        self.ec2, self.ssm, self.scaling = client("ec2"), client("ssm"), client("autoscaling")
        self.cloudwatch = client("cloudwatch")
        self.clock, self.machines, self.observed = clock, machines, observed
        self.name = str(uuid.uuid4())
        self.old, self.new = self.image(), self.image()

    def image(self) -> str:
        return str(self.ec2.register_image(Name=str(uuid.uuid4()), RootDeviceName="/dev/xvda")["ImageId"])

    def template(self, image_id: str) -> str:
        data = {"ImageId": image_id, "InstanceType": "t3.small", "KeyName": "somebody"}
        made = self.ec2.create_launch_template(LaunchTemplateName=str(uuid.uuid4()), LaunchTemplateData=data)
        return str(made["LaunchTemplate"]["LaunchTemplateId"])

    def version(self, template_id: str, image_id: str) -> str:
        made = self.ec2.create_launch_template_version(
            LaunchTemplateId=template_id, SourceVersion="1", LaunchTemplateData={"ImageId": image_id}
        )
        return str(made["LaunchTemplateVersion"]["VersionNumber"])

    def group(self, template_id: str, version: str = "1", size: int = 2) -> None:
        self.scaling.create_auto_scaling_group(
            AutoScalingGroupName=self.name,
            LaunchTemplate={"LaunchTemplateId": template_id, "Version": version},
            MinSize=size,
            MaxSize=size,
            AvailabilityZones=["us-east-1a"],
            Tags=[{"Key": "team", "Value": "gpu", "PropagateAtLaunch": True}],
        )

    def promote(self, image_id: str) -> None:
        self.ssm.put_parameter(Name=PARAMETER, Value=image_id, Type="String", Overwrite=True)

    def start(self, template_id: str, *, version: str = "2", **preferences: Any) -> None:
        desired = {"LaunchTemplate": {"LaunchTemplateId": template_id, "Version": version}}
        self.scaling.start_instance_refresh(
            AutoScalingGroupName=self.name, DesiredConfiguration=desired, Preferences=preferences
        )

    def described(self) -> dict[str, Any]:
        found = self.scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])
        group: dict[str, Any] = found["AutoScalingGroups"][0]
        return group

    def instances(self) -> list[dict[str, Any]]:
        ids = [member["InstanceId"] for member in self.described()["Instances"]]
        found = self.ec2.describe_instances(InstanceIds=ids)["Reservations"]
        return [instance for reservation in found for instance in reservation["Instances"]]

    def images(self) -> list[str]:
        return [instance["ImageId"] for instance in self.instances()]

    def refresh(self) -> dict[str, Any]:
        """The newest; asking is a request, so it goes a step on."""
        found = self.scaling.describe_instance_refreshes(AutoScalingGroupName=self.name)["InstanceRefreshes"]
        newest: dict[str, Any] = found[0]
        return newest

    def until(self, *statuses: str) -> dict[str, Any]:
        """Ask until it has one of these states; everything has time to warm up."""
        for _ in range(50):
            self.clock.now += timedelta(seconds=61)
            if (found := self.refresh())["Status"] in statuses:
                return found
        pytest.fail(f"it never became {statuses}, but {found}")

    def wait_half_way(self) -> None:
        """Until one of the group's two instances is new, and warms up."""
        for _ in range(20):
            if self.new in self.images():
                return
        pytest.fail(f"nothing was replaced: {self.refresh()}")

    def alarm(self, name: str, state: str) -> None:
        self.cloudwatch.put_metric_alarm(
            AlarmName=name,
            MetricName="errors",
            Namespace="test",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
            Statistic="Sum",
        )
        self.cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, ObservedApi, Clock, Machines]]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    observed, clock, machines = ObservedApi(DomainDispatcherApplication(create_backend_app)), Clock(), Machines()
    observed._refreshes = InstanceRefreshes(observed._without_waiting, machines, clock)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = api.serve(observed, listener)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}", observed, clock, machines
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def account(served: tuple[str, ObservedApi, Clock, Machines]) -> Account:
    endpoint_url, observed, clock, machines = served
    machines.run = True
    return Account(endpoint_url, clock, machines, observed)


def refused_with(code: str, words: str = "") -> Any:
    return pytest.raises(ClientError, match=rf"\({code}\).*{words}")


def test_every_instance_is_replaced_one_after_the_other_and_the_group_gets_the_new_configuration(
    account: Account,
) -> None:
    template = account.template(account.old)
    account.group(template)
    before = {instance["InstanceId"] for instance in account.instances()}
    account.version(template, account.new)

    account.start(template, MinHealthyPercentage=50)
    shares = [found["PercentageComplete"] for _ in range(8) if (found := account.refresh())]

    done = account.until("Successful")
    assert 50 in shares, shares
    assert (done["PercentageComplete"], done["InstancesToUpdate"]) == (100, 0)
    after = account.instances()
    assert account.images() == [account.new, account.new]
    assert not before & {instance["InstanceId"] for instance in after}
    assert {instance["KeyName"] for instance in after} == {"somebody"}, "what the source version said was lost"
    tags = {(tag["Key"], tag["Value"]) for instance in after for tag in instance["Tags"]}
    assert {("team", "gpu"), ("aws:autoscaling:groupName", account.name)} <= tags
    assert (account.described()["LaunchTemplate"]["Version"], account.described()["DesiredCapacity"]) == ("2", 2)
    gone = account.ec2.describe_instances(InstanceIds=sorted(before))["Reservations"]
    assert {i["State"]["Name"] for r in gone for i in r["Instances"]} == {"terminated"}


@pytest.mark.parametrize(
    ("preferences", "members"),
    [({"MinHealthyPercentage": 100}, 2), ({"MinHealthyPercentage": 90, "MaxHealthyPercentage": 110}, 2), ({}, 1)],
)
def test_a_new_instance_is_launched_before_or_after_an_old_one_ends_and_waits_until_it_runs(
    account: Account, preferences: dict[str, Any], members: int
) -> None:
    template = account.template(account.old)
    account.group(template)
    account.version(template, account.new)
    account.machines.run = False

    account.start(template, **preferences)
    for _ in range(3):
        account.refresh()

    assert account.images() == [account.old] * members
    assert account.refresh()["PercentageComplete"] == 0
    account.machines.run = True
    account.until("Successful")
    assert account.images() == [account.new, account.new]


def test_a_new_instance_is_given_time_to_warm_up(account: Account) -> None:
    template = account.template(account.old)
    account.group(template, size=1)
    account.version(template, account.new)

    account.start(template, InstanceWarmup=60)
    for _ in range(4):
        account.refresh()
    assert (account.images(), account.refresh()["Status"]) == ([account.new], "InProgress")

    account.clock.now += timedelta(seconds=61)
    account.until("Successful")


def test_matching_instances_are_skipped_where_that_is_asked_for(account: Account) -> None:
    template = account.template(account.old)
    account.group(template)
    account.version(template, account.new)
    account.start(template)
    account.until("Successful")
    kept = {instance["InstanceId"] for instance in account.instances()}

    account.start(template, SkipMatching=True)
    account.until("Successful")
    assert {instance["InstanceId"] for instance in account.instances()} == kept

    account.start(template)
    account.until("Successful")
    assert not {instance["InstanceId"] for instance in account.instances()} & kept


def test_a_group_launches_what_the_parameter_named_then_and_a_refresh_what_it_names_now(account: Account) -> None:
    account.promote(account.old)
    account.group(account.template(ALIAS))
    account.promote(account.new)

    assert account.images() == [account.old, account.old]

    account.scaling.start_instance_refresh(AutoScalingGroupName=account.name)
    account.until("Successful")
    assert account.images() == [account.new, account.new]


@pytest.mark.parametrize("is_launched_first", [True, False])
def test_an_alarm_brings_the_old_image_back(account: Account, is_launched_first: bool) -> None:
    template = account.template(account.old)
    account.group(template)
    account.version(template, account.new)
    alarm = f"errors-{account.name}"
    account.alarm(alarm, "OK")
    wanted: dict[str, Any] = {"AutoRollback": True, "InstanceWarmup": 60, "AlarmSpecification": {"Alarms": [alarm]}}
    account.start(template, MinHealthyPercentage=100 if is_launched_first else 50, **wanted)
    account.wait_half_way()
    account.machines.run = False
    account.refresh()

    account.alarm(alarm, "ALARM")
    assert account.until("RollbackInProgress")["RollbackDetails"]["RollbackReason"].startswith("CloudWatch alarm")
    account.machines.run = True

    done = account.until("RollbackSuccessful")
    assert alarm in done["StatusReason"]
    assert account.images() == [account.old, account.old]
    assert (account.described()["LaunchTemplate"]["Version"], account.described()["DesiredCapacity"]) == ("1", 2)


def test_a_rollback_ends_an_instance_that_has_replaced_nothing_yet(account: Account) -> None:
    template = account.template(account.old)
    account.group(template)
    account.version(template, account.new)
    before = {instance["InstanceId"] for instance in account.instances()}
    account.machines.run = False
    account.start(template, AutoRollback=True, MinHealthyPercentage=100)
    account.refresh()
    account.refresh()

    account.scaling.rollback_instance_refresh(AutoScalingGroupName=account.name)
    account.until("RollbackSuccessful")

    assert {instance["InstanceId"] for instance in account.instances()} == before
    of_new = account.ec2.describe_instances(Filters=[{"Name": "image-id", "Values": [account.new]}])["Reservations"]
    assert [i["State"]["Name"] for r in of_new for i in r["Instances"]] == ["terminated"]


def test_an_alarm_without_a_rollback_stops_the_refresh_half_way(account: Account) -> None:
    template = account.template(account.old)
    account.group(template)
    account.version(template, account.new)
    alarm = f"errors-{account.name}"
    account.alarm(alarm, "OK")
    account.start(template, InstanceWarmup=60, AlarmSpecification={"Alarms": [alarm]})
    account.wait_half_way()
    account.alarm(alarm, "ALARM")

    assert alarm in account.until("Failed")["StatusReason"]
    assert sorted(account.images()) == sorted([account.old, account.new])
    assert account.described()["LaunchTemplate"]["Version"] == "1"


def test_an_image_that_cannot_be_launched_ends_it(account: Account) -> None:
    template = account.template(account.old)
    account.group(template, size=1)
    account.version(template, account.new)
    account.ec2.disable_image(ImageId=account.new)

    account.start(template, AutoRollback=True, MinHealthyPercentage=100)

    assert account.until("RollbackSuccessful")
    assert account.images() == [account.old]


def test_it_can_be_cancelled_and_rolled_back_by_hand(account: Account) -> None:
    template = account.template(account.old)
    account.group(template)
    account.version(template, account.new)
    account.start(template, InstanceWarmup=60)
    account.wait_half_way()
    account.scaling.cancel_instance_refresh(AutoScalingGroupName=account.name)
    account.until("Cancelled")
    assert sorted(account.images()) == sorted([account.old, account.new])

    account.start(template, SkipMatching=True, InstanceWarmup=60)
    account.refresh()
    account.scaling.rollback_instance_refresh(AutoScalingGroupName=account.name)
    account.until("RollbackSuccessful")
    with refused_with("ActiveInstanceRefreshNotFound"):
        account.scaling.cancel_instance_refresh(AutoScalingGroupName=account.name)
    with refused_with("ActiveInstanceRefreshNotFound"):
        account.scaling.rollback_instance_refresh(AutoScalingGroupName=account.name)


def test_a_second_one_is_refused(account: Account) -> None:
    template = account.template(account.old)
    account.group(template)
    account.version(template, account.new)
    account.start(template)

    with refused_with("InstanceRefreshInProgress"):
        account.start(template)
    account.until("Successful")


@pytest.mark.parametrize("version", ["$Latest", "$Default"])
def test_auto_rollback_needs_a_numbered_version(account: Account, version: str) -> None:
    template = account.template(account.old)
    account.group(template, version)
    account.version(template, account.new)

    with refused_with("ValidationError", "Latest"):
        account.start(template, AutoRollback=True)
    with refused_with("ValidationError", "DesiredConfiguration parameter is empty"):
        account.scaling.start_instance_refresh(AutoScalingGroupName=account.name, Preferences={"AutoRollback": True})


@pytest.mark.parametrize("preferences", [{"SkipMatching": True}, {"AutoRollback": True}])
def test_an_alias_forbids_what_compares_or_goes_back(account: Account, preferences: dict[str, bool]) -> None:
    account.promote(account.old)
    template = account.template(ALIAS)
    account.group(template)

    with refused_with("ValidationError"):
        account.scaling.start_instance_refresh(AutoScalingGroupName=account.name, Preferences=preferences)
    with refused_with("ValidationError", "Systems Manager parameter"):
        account.start(template, version="1")


def test_a_group_that_is_not_there_is_refused(account: Account) -> None:
    with refused_with("ValidationError", "name not found"):
        account.scaling.start_instance_refresh(AutoScalingGroupName="nobody")


def test_whoever_makes_machines_is_told_of_launches(account: Account) -> None:
    template = account.template(account.old)
    while not account.observed.calls.empty():
        account.observed.calls.get()
    account.group(template, size=1)
    account.version(template, account.new)
    account.start(template)
    account.until("Successful")

    told = []
    while not account.observed.calls.empty():
        told.append(account.observed.calls.get().action)
    assert {"CreateAutoScalingGroup", "RunInstances", "TerminateInstances"} <= set(told), told


def test_a_mixed_instances_policy_is_launched_by_its_first_override(account: Account) -> None:
    main, special = account.template(account.old), account.template(account.old)
    account.version(special, account.new)

    def policy(version: str) -> dict[str, Any]:
        overrides = [
            {
                "InstanceType": "t3.medium",
                "LaunchTemplateSpecification": {"LaunchTemplateId": special, "Version": version},
            }
        ]
        chosen = {"LaunchTemplateSpecification": {"LaunchTemplateId": main, "Version": "1"}, "Overrides": overrides}
        return {"LaunchTemplate": chosen}

    account.scaling.create_auto_scaling_group(
        AutoScalingGroupName=account.name,
        MixedInstancesPolicy=policy("1"),
        MinSize=1,
        MaxSize=1,
        AvailabilityZones=["us-east-1a"],
    )
    account.scaling.start_instance_refresh(
        AutoScalingGroupName=account.name,
        DesiredConfiguration={"MixedInstancesPolicy": policy("2")},
        Preferences={"AutoRollback": True},
    )

    account.until("Successful")
    [instance] = account.instances()
    assert (instance["ImageId"], instance["InstanceType"]) == (account.new, "t3.medium")
    [override] = account.described()["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"]
    assert override["LaunchTemplateSpecification"]["Version"] == "2"
