"""A roll against the offline cloud's API in this process: instances are replaced there as on AWS."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gpunodes.errors import GpunodesError, InterruptedRunError, PreflightError, UsageError
from gpunodes.roll import roll_report
from gpunodes.roll.roll import Roll, Rolled
from gpunodes.roll.wish import Wish
from tests.gpunodes.fakes import RecordingProgress
from tests.gpunodes.lifecycle.api_in_process import Api, Trouble

SLOWLY = {"warmup": timedelta(seconds=30)}  # each call takes a second: somebody can step in
PARAMETER = "/gpunodes/stable/ami-id"
ALIAS = f"resolve:ssm:{PARAMETER}"


class Account:
    """An account with two images, the second of which the channel names."""

    def __init__(self, api: Api) -> None:
        self.api, self.clients = api, api.clients
        self.ec2, self.scaling = self.clients.ec2, self.clients.client("autoscaling")
        self.old, self.new = self.image(), self.image()
        self.progress = RecordingProgress()
        self.promote(self.new)

    def image(self) -> str:
        return str(self.ec2.register_image(Name=str(uuid.uuid4()), RootDeviceName="/dev/xvda")["ImageId"])

    def promote(self, image_id: str) -> None:
        self.clients.ssm.put_parameter(Name=PARAMETER, Value=image_id, Type="String", Overwrite=True)

    def template(self, image_id: str) -> str:
        data = {"ImageId": image_id, "InstanceType": "t3.small", "KeyName": "somebody"}
        made = self.ec2.create_launch_template(LaunchTemplateName=str(uuid.uuid4()), LaunchTemplateData=data)
        return str(made["LaunchTemplate"]["LaunchTemplateId"])

    def group(self, template_id: str = "", version: str = "1", name: str = "web", **more: Any) -> str:
        used = {"LaunchTemplate": {"LaunchTemplateId": template_id, "Version": version}} if template_id else {}
        self.scaling.create_auto_scaling_group(
            AutoScalingGroupName=name, MinSize=2, MaxSize=2, AvailabilityZones=["us-east-1a"], **used, **more
        )
        return name

    def described(self, name: str = "web") -> dict[str, Any]:
        [found] = self.scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        return dict(found)

    def images(self, name: str = "web") -> list[str]:
        ids = [member["InstanceId"] for member in self.described(name)["Instances"]]
        found = self.ec2.describe_instances(InstanceIds=ids)["Reservations"]
        return [instance["ImageId"] for reservation in found for instance in reservation["Instances"]]

    def refreshes(self, name: str = "web") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.scaling.describe_instance_refreshes(AutoScalingGroupName=name)[
            "InstanceRefreshes"
        ]
        return found

    def versions(self, template_id: str) -> list[dict[str, Any]]:
        found = self.ec2.describe_launch_template_versions(LaunchTemplateId=template_id)["LaunchTemplateVersions"]
        return sorted(found, key=lambda version: int(version["VersionNumber"]))

    def alarm(self, state: str) -> None:
        self.clients.cloudwatch.put_metric_alarm(
            AlarmName="errors",
            MetricName="errors",
            Namespace="test",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
            Statistic="Sum",
        )
        self.clients.cloudwatch.set_alarm_state(AlarmName="errors", StateValue=state, StateReason="a test")

    def roll(self, *names: str, wait: Callable[[float], None] = lambda _: None, **wish: Any) -> Rolled:
        asked = Wish(names or ("web",), **wish)
        return Roll(self.clients, "stable", asked, self.progress, wait=wait, clock=lambda: 0.0).run()

    def said(self) -> list[str]:
        return [event.removeprefix("say ") for event in self.progress.events if event.startswith("say ")]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # hundreds, again after each reset
    return Account(Api())


def test_a_group_with_a_numbered_version_gets_a_new_one_that_differs_in_the_image_only(account: Account) -> None:
    template = account.template(account.old)
    account.group(template)

    rolled = account.roll()

    assert (rolled.decision, rolled.exit_code, rolled.way_back) == ("rolled", 0, "")
    assert account.images() == [account.new, account.new]
    assert account.described()["LaunchTemplate"]["Version"] == "2"
    first, second = account.versions(template)
    assert second["LaunchTemplateData"] == {**first["LaunchTemplateData"], "ImageId": account.new}
    [refresh] = account.refreshes()
    assert rolled.done == [
        f"made version 2 of launch template {template} with {account.new}",
        f"started instance refresh {refresh['InstanceRefreshId']} of group web",
        f"found {account.new} on all 2 instances of group web",
    ]
    assert refresh["Preferences"] == {"SkipMatching": True, "AutoRollback": True}


def test_a_group_that_has_the_image_is_left_alone(account: Account) -> None:
    account.group(account.template(account.old))
    account.roll()
    ids = [member["InstanceId"] for member in account.described()["Instances"]]

    again = account.roll()

    assert (again.decision, again.done, again.exit_code) == ("nothing", [], 0)
    assert again.reason == f"every instance of web has {account.new}"
    assert [member["InstanceId"] for member in account.described()["Instances"]] == ids
    assert len(account.refreshes()) == 1


def test_a_group_that_launches_by_the_parameter_needs_no_new_version(account: Account) -> None:
    account.promote(account.old)
    template = account.template(ALIAS)
    account.group(template)
    account.promote(account.new)

    rolled = account.roll()

    assert (rolled.decision, account.images()) == ("rolled", [account.new, account.new])
    assert len(account.versions(template)) == 1
    [refresh] = account.refreshes()
    assert (refresh.get("DesiredConfiguration"), refresh["Preferences"]) == (None, {})
    assert account.said()[-1] == (
        "AWS cannot roll group web back, for its launch template names a parameter instead of an image: one that"
        " fails stops half way"
    )


@pytest.mark.parametrize("version", ["$Latest", "$Default"])
def test_a_group_that_follows_its_template_goes_on_doing_so(account: Account, version: str) -> None:
    template = account.template(account.old)
    account.group(template, version)
    account.alarm("OK")

    rolled = account.roll(alarms=("errors",))

    assert (rolled.decision, account.images()) == ("rolled", [account.new, account.new])
    assert account.described()["LaunchTemplate"]["Version"] == version
    [found] = account.ec2.describe_launch_templates(LaunchTemplateIds=[template])["LaunchTemplates"]
    assert (found["DefaultVersionNumber"], found["LatestVersionNumber"]) == (2 if version == "$Default" else 1, 2)
    assert account.refreshes()[0].get("DesiredConfiguration") is None
    assert account.said()[-1] == (
        f"AWS cannot roll group web back, for it uses version {version} of its launch template: an alarm only stops it"
    )


def test_each_launch_template_of_a_mixed_instances_policy_gets_a_version(account: Account) -> None:
    main, special = account.template(account.old), account.template(account.old)

    def named(template_id: str) -> dict[str, str]:
        return {"LaunchTemplateId": template_id, "Version": "1"}

    overrides = [
        {"InstanceType": "t3.medium", "LaunchTemplateSpecification": named(special)},
        {"InstanceType": "t3.large"},
    ]
    policy = {"LaunchTemplate": {"LaunchTemplateSpecification": named(main), "Overrides": overrides}}
    account.group(MixedInstancesPolicy=policy)

    rolled = account.roll()

    assert (rolled.decision, account.images()) == ("rolled", [account.new, account.new])
    used = account.described()["MixedInstancesPolicy"]["LaunchTemplate"]
    assert used["LaunchTemplateSpecification"]["Version"] == "2"
    first, second = used["Overrides"]
    assert (first["InstanceType"], first["LaunchTemplateSpecification"]["Version"]) == ("t3.medium", "2")
    assert second == {"InstanceType": "t3.large"}


def test_what_goes_on_already_is_followed(account: Account) -> None:
    template = account.template(account.old)
    account.group(template)

    def stop(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError, match=r"goes on: .* `aws autoscaling cancel-instance-refresh .*web`"):
        account.roll(wait=stop, **SLOWLY)
    [begun] = account.refreshes()
    assert begun["Status"] == "InProgress"

    rolled = account.roll()

    assert (rolled.decision, account.images()) == ("rolled", [account.new, account.new])
    assert rolled.done == [f"followed instance refresh {begun['InstanceRefreshId']} of group web"]
    assert (len(account.refreshes()), len(account.versions(template))) == (1, 2)


def test_a_refresh_to_another_image_is_followed_and_then_the_group_gets_this_one(account: Account) -> None:
    account.group(account.template(account.old))
    account.scaling.start_instance_refresh(AutoScalingGroupName="web")

    assert (account.roll().decision, account.images()) == ("rolled", [account.new, account.new])
    assert len(account.refreshes()) == 2


@pytest.mark.parametrize("crash_in", [4, 9, 14])
def test_a_roll_that_is_killed_anywhere_is_gone_on_with(account: Account, crash_in: int) -> None:
    template = account.template(account.old)
    account.group(template)
    with account.api.process(Trouble(crash_in=crash_in)):
        account.roll()

    rolled = account.roll()

    assert rolled.exit_code == 0, rolled.reason
    assert account.images() == [account.new, account.new]
    assert (len(account.versions(template)), len(account.refreshes())) == (2, 1)


def test_an_alarm_brings_the_old_image_back_and_the_next_group_is_not_begun(account: Account) -> None:
    template = account.template(account.old)
    account.group(template)
    account.group(template, name="batch")
    account.alarm("OK")

    def sound(_seconds: float) -> None:
        if account.new in account.images():
            account.alarm("ALARM")

    rolled = account.roll("web", "batch", alarms=("errors",), wait=sound, **SLOWLY)

    assert (rolled.decision, rolled.exit_code) == ("rolled back", 1)
    assert "is RollbackSuccessful: CloudWatch alarm" in rolled.reason
    assert account.images() + account.images("batch") == [account.old] * 4
    assert (account.described()["LaunchTemplate"]["Version"], account.refreshes("batch")) == ("1", [])
    assert [outcome.decision for outcome in rolled.groups] == ["rolled back", "not begun"]
    assert account.clients.ssm.get_parameter(Name=PARAMETER)["Parameter"]["Value"] == account.new
    assert rolled.way_back == "invoke rollback --channel stable && invoke roll --channel stable --group web,batch"
    assert roll_report.document(rolled)["way_back"] == rolled.way_back

    account.alarm("OK")
    assert account.roll("web", "batch").decision == "rolled"
    assert len(account.versions(template)) == 2, "the version of the roll before was not used again"


def test_one_that_somebody_cancels_has_failed(account: Account) -> None:
    account.group(account.template(account.old))

    def cancel(_seconds: float) -> None:
        if account.refreshes()[0]["Status"] == "InProgress":
            account.scaling.cancel_instance_refresh(AutoScalingGroupName="web")

    rolled = account.roll(wait=cancel, **SLOWLY)

    assert (rolled.decision, rolled.exit_code) == ("cancelled", 1)


def test_an_instance_that_has_another_image_all_the_same_is_named(account: Account) -> None:
    account.group(account.template(account.old))
    stray: list[str] = []

    def swap(_seconds: float) -> None:
        """Somebody puts an instance of the old image into the group."""
        if account.refreshes()[0]["Status"] == "Successful" or stray or account.images().count(account.new) < 2:
            return
        launched = account.ec2.run_instances(ImageId=account.old, MinCount=1, MaxCount=1)["Instances"][0]
        [first, _] = account.described()["Instances"]
        account.scaling.detach_instances(
            AutoScalingGroupName="web", InstanceIds=[first["InstanceId"]], ShouldDecrementDesiredCapacity=True
        )
        account.scaling.attach_instances(AutoScalingGroupName="web", InstanceIds=[launched["InstanceId"]])
        stray.append(launched["InstanceId"])

    rolled = account.roll(wait=swap, **SLOWLY)

    assert (rolled.decision, rolled.exit_code) == ("failed", 1)
    assert rolled.reason == f"group web: 1 of 2 instances have another image ({stray[0]})"


def test_an_alarm_between_two_groups_ends_it_and_the_first_one_is_told_of(account: Account) -> None:
    template = account.template(account.old)
    account.group(template)
    account.group(template, name="batch")
    account.alarm("OK")

    class Sounding(RecordingProgress):
        def end(self, name: str, seconds: float, outcome: str) -> None:
            super().end(name, seconds, outcome)
            account.alarm("ALARM")

    account.progress = Sounding()

    rolled = account.roll("web", "batch", alarms=("errors",))

    assert [outcome.decision for outcome in rolled.groups] == ["rolled", "failed"]
    assert (rolled.reason, rolled.exit_code) == (
        "CloudWatch alarm errors is in ALARM already; see to that first",
        1,
    )


def suspended(account: Account) -> None:
    account.group(account.template(account.old))
    account.scaling.suspend_processes(AutoScalingGroupName="web", ScalingProcesses=["Launch"])


def with_launch_configuration(account: Account) -> None:
    account.scaling.create_launch_configuration(
        LaunchConfigurationName="old", ImageId=account.old, InstanceType="t3.small"
    )
    account.group(LaunchConfigurationName="old")


def with_another_alias(account: Account) -> None:
    account.clients.ssm.put_parameter(Name="/theirs", Value=account.old, Type="String")
    account.group(account.template("resolve:ssm:/theirs"))


def by_attributes(account: Account) -> None:
    specification = {"LaunchTemplateId": account.template(account.old), "Version": "1"}
    requirements = {"VCpuCount": {"Min": 1}, "MemoryMiB": {"Min": 1}}
    overrides = [{"InstanceRequirements": requirements}]
    chosen = {"LaunchTemplateSpecification": specification, "Overrides": overrides}
    account.group(MixedInstancesPolicy={"LaunchTemplate": chosen})


def with_an_image_of_nobody(account: Account) -> None:
    account.group(account.template(account.old))
    account.promote("ami-0123456789abcdef0")


def without_an_image(account: Account) -> None:
    account.group(account.template(account.old))
    account.clients.ssm.delete_parameter(Name=PARAMETER)


def without_alarm(account: Account) -> None:
    account.group(account.template(account.old))


def in_alarm(account: Account) -> None:
    account.group(account.template(account.old))
    account.alarm("ALARM")


@pytest.mark.parametrize(
    ("prepare", "kind", "said"),
    [
        (lambda _: None, UsageError, "There is no Auto Scaling group `web` in us-east-1; correct the name."),
        (suspended, PreflightError, "has suspended Launch; resume that first"),
        (with_launch_configuration, PreflightError, "uses a launch configuration; give it a launch template"),
        (with_another_alias, PreflightError, "launches by resolve:ssm:/theirs"),
        (by_attributes, PreflightError, r"selects instances by attributes.* or the group use \$Latest"),
        (with_an_image_of_nobody, PreflightError, "which is no available image of this account"),
        (without_an_image, PreflightError, "names no image yet; promote one"),
        (without_alarm, PreflightError, "There is no CloudWatch alarm errors in this region"),
        (in_alarm, PreflightError, "CloudWatch alarm errors is in ALARM already; see to that first"),
    ],
)
def test_what_cannot_be_rolled_is_said_in_one_sentence_and_nothing_is_changed(
    account: Account, prepare: Callable[[Account], None], kind: type[GpunodesError], said: str
) -> None:
    prepare(account)

    with pytest.raises(kind, match=said):
        account.roll(alarms=("errors",))

    groups = account.scaling.describe_auto_scaling_groups()["AutoScalingGroups"]
    assert all(account.refreshes(group["AutoScalingGroupName"]) == [] for group in groups)
    templates = account.ec2.describe_launch_templates()["LaunchTemplates"]
    assert {template["LatestVersionNumber"] for template in templates} <= {1}
