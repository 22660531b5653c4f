"""Every source of references by itself: what it alone knows keeps an image, and where it fails nothing goes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from gpunodes.errors import GpunodesError
from gpunodes.prune import account as account_module
from gpunodes.prune import last_look, permissions, prune_report
from tests.gpunodes.prune.failing_calls import BROKEN, DENIED, FAILED, LOST, THROTTLED, UNKNOWN
from tests.gpunodes.prune.pruned_account import OTHER_ACCOUNT, PrunedAccount, account, in_process

__all__ = ["account", "in_process"]

Refer = Callable[[PrunedAccount, str], str]


def instance(there: PrunedAccount, image: str) -> str:
    launched = there.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    return f"instance {launched} (running)"


def stopped_instance(there: PrunedAccount, image: str) -> str:
    launched = instance(there, image).split()[1]
    there.ec2.stop_instances(InstanceIds=[launched])
    return f"instance {launched} (stopped)"


def terminated_instance(there: PrunedAccount, image: str) -> str:
    launched = instance(there, image).split()[1]
    there.ec2.terminate_instances(InstanceIds=[launched])
    return f"instance {launched} (terminated)"


def old_version(there: PrunedAccount, image: str) -> str:
    """Of the last of many templates, the first of many versions."""
    for number in range(16):
        names = [image if number == 15 else "ami-0123456789abcdef0", *["ami-0123456789abcdef0"] * 16 * (number == 15)]
        first, *others = ({"ImageId": name, "InstanceType": "t3.small"} for name in names)
        there.ec2.create_launch_template(LaunchTemplateName=f"workers-{number}", LaunchTemplateData=first)
        for data in others:
            there.ec2.create_launch_template_version(LaunchTemplateName=f"workers-{number}", LaunchTemplateData=data)
    return "launch template workers-15 version 1"


def alias(there: PrunedAccount, image: str) -> str:
    """By the version of a parameter that names something else now."""
    there.parameter("/team/ami", image)
    there.parameter("/team/ami", "none")
    data = {"ImageId": "resolve:ssm:/team/ami:1", "InstanceType": "t3.small"}
    there.ec2.create_launch_template(LaunchTemplateName="pinned", LaunchTemplateData=data)
    return "launch template pinned version 1"


def launch_configuration(there: PrunedAccount, image: str) -> str:
    scaling = there.clients.client("autoscaling")
    scaling.create_launch_configuration(LaunchConfigurationName="old", ImageId=image, InstanceType="t3.small")
    return "launch configuration old"


def group(there: PrunedAccount, image: str) -> str:
    """Which starts another image than its template names, for one type of instance."""
    data = {"ImageId": "ami-0123456789abcdef0", "InstanceType": "t3.small"}
    there.ec2.create_launch_template(LaunchTemplateName="mixed", LaunchTemplateData=data)
    template = {"LaunchTemplateSpecification": {"LaunchTemplateName": "mixed", "Version": "1"},
                "Overrides": [{"InstanceType": "g5.xlarge", "ImageId": image}]}  # fmt: skip
    there.clients.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName="mixed",
        MixedInstancesPolicy={"LaunchTemplate": template},
        MinSize=0,
        MaxSize=1,
        AvailabilityZones=["us-east-1a"],
    )
    return "Auto Scaling group mixed"


def parameter(there: PrunedAccount, image: str) -> str:
    there.parameter("/team/config", f'{{"ami": "{image}"}}')
    return "parameter /team/config"


def earlier_version(there: PrunedAccount, image: str) -> str:
    for value in (image, there.image()):
        there.parameter("/team/image", value, DataType="aws:ec2:image")
    return "parameter /team/image version 1"


def image_recipe(there: PrunedAccount, image: str) -> str:
    """The last of more than a page."""
    component = {"componentArn": "arn:aws:imagebuilder:us-east-1:aws:component/update-linux/1.0.0"}
    for number in range(101):
        there.clients.client("imagebuilder").create_image_recipe(
            name="gpu",
            semanticVersion=f"1.0.{number}",
            parentImage=image if number == 100 else "ami-0123456789abcdef0",
            components=[component],
        )
    return "image recipe gpu 1.0.100"


def recipe_by_parameter(there: PrunedAccount, image: str) -> str:
    """Of a parameter that moved on since: only the recipe's own version of it leads to the image."""
    there.parameter("/team/base", image)
    there.parameter("/team/base", "none")
    component = {"componentArn": "arn:aws:imagebuilder:us-east-1:aws:component/update-linux/1.0.0"}
    there.clients.client("imagebuilder").create_image_recipe(
        name="by-name", semanticVersion="1.0.0", parentImage="ssm:/team/base:1", components=[component]
    )
    return "image recipe by-name 1.0.0"


def container_recipe(there: PrunedAccount, image: str) -> str:
    there.clients.client("imagebuilder").create_container_recipe(
        containerType="DOCKER",
        name="box",
        semanticVersion="2.0.0",
        parentImage="debian:12",
        instanceConfiguration={"image": image},
        targetRepository={"service": "ECR", "repositoryName": "box"},
    )
    return "container recipe box 2.0.0"


def container_recipe_without_image(there: PrunedAccount, _image: str) -> str:
    there.clients.client("imagebuilder").create_container_recipe(
        containerType="DOCKER",
        name="usual",
        semanticVersion="1.0.0",
        parentImage="debian:12",
        targetRepository={"service": "ECR", "repositoryName": "box"},
    )
    return ""


# What the issue lists, and what stands for it here: the source by its name, and how somebody comes to depend on it.
ISSUE: dict[str, tuple[str, tuple[Refer, ...]]] = {
    "instances in any state": ("instances", (instance, stopped_instance, terminated_instance)),
    "every launch template version with aliases resolved": ("launch templates", (old_version, alias)),
    "Auto Scaling groups and launch configurations": ("Auto Scaling", (launch_configuration, group)),
    "SSM parameter history": ("parameters", (parameter, earlier_version)),
    "Image Builder recipes": ("Image Builder recipes", (image_recipe, recipe_by_parameter, container_recipe)),
}
PAIRS = [(name, refer) for name, refers in ISSUE.values() for refer in refers]

# Every call that says who uses what.
CALLS = (
    "ec2:DescribeInstances",
    "ec2:DescribeLaunchTemplates",
    "ec2:DescribeLaunchTemplateVersions",
    "ssm:GetParameter",
    "autoscaling:DescribeLaunchConfigurations",
    "autoscaling:DescribeAutoScalingGroups",
    "ssm:GetParametersByPath",
    "ssm:DescribeParameters",
    "ssm:GetParameterHistory",
    "imagebuilder:ListImageRecipes",
    "imagebuilder:ListContainerRecipes",
    "imagebuilder:GetContainerRecipe",
    "ec2:DescribeImages",
    "ec2:DescribeImageReferences",
    "ec2:DescribeImageAttribute",
    "ec2:CreateImageUsageReport",
    "ec2:DescribeImageUsageReports",
    "ec2:DescribeImageUsageReportEntries",
    "ec2:DeleteImageUsageReport",
)


def outcome(there: PrunedAccount) -> tuple[int, list[str]]:
    """Exit code, and the sentences that say why."""
    try:
        pruned = there.prune()
    except GpunodesError as error:
        return error.exit_code, [str(error)]
    return pruned.exit_code, [*pruned.failed.values(), *([pruned.stopped] if pruned.stopped else [])]


def shown(there: PrunedAccount) -> str:
    out = io.StringIO()
    prune_report.show(there.prune(), Console(file=out, width=300))
    return out.getvalue()


def test_nothing_refers_to_the_images_that_are_due(account: PrunedAccount) -> None:
    assert outcome(account) == (0, [])
    assert account.states(*account.due) == {account.to_disable: "disabled"}


def test_the_sources_are_those_of_the_issue() -> None:
    names = [source.name for source in account_module.SOURCES]

    assert sorted(names) == sorted(name for name, _ in ISSUE.values())


@pytest.mark.parametrize(
    ("source", "refer", "stage"),
    [(*pair, "to_disable") for pair in PAIRS] + [("instances", stopped_instance, "to_deregister")],
)
def test_image_that_only_one_source_knows_of_stays_and_the_referrer_is_named(
    account: PrunedAccount, monkeypatch: pytest.MonkeyPatch, source: str, refer: Refer, stage: str
) -> None:
    image = getattr(account, stage)
    if account.states()[image] == "disabled":
        account.ec2.enable_image(ImageId=image)
    referrer = refer(account, image)
    if stage == "to_deregister":
        account.ec2.disable_image(ImageId=image)
    # What EC2 itself knows of would keep most of them, too.
    monkeypatch.setattr(last_look, "_references", lambda _clients, ami_ids: iter(()))  # noqa: ARG005

    pruned = account.prune()

    [entry] = [entry for entry in pruned.entries if entry.image.ami_id == image]
    assert source in {found.name for found in account_module.SOURCES}
    assert (entry.action, entry.reason.partition(",")[0]) == ("keep", f"in use by {referrer}")
    assert account.states(image) == {image: "disabled" if stage == "to_deregister" else "available"}


TROUBLED = [
    *((permission, how) for permission in CALLS for how in (DENIED, THROTTLED, LOST)),
    *((permission, how) for permission in CALLS[::4] for how in (BROKEN, FAILED)),
]


@pytest.fixture(scope="module")
def unchanged(in_process: Any, tmp_path_factory: pytest.TempPathFactory) -> PrunedAccount:
    """One account for all the calls that fail, for nothing goes: with whatever makes them be made at all."""
    made = PrunedAccount(in_process, tmp_path_factory.mktemp("runs"))
    for refer in (old_version, alias, container_recipe_without_image):
        refer(made, "ami-0123456789abcdef0")
    made.share(made.to_disable)
    return made


@pytest.mark.parametrize(("permission", "how"), TROUBLED)
def test_nothing_goes_where_one_call_does_not_answer(unchanged: PrunedAccount, permission: str, how: str) -> None:
    before = unchanged.states()
    call = permission.partition(":")[2]
    unchanged.calls.seen.clear()
    # Without a connection nobody says which services a region has, either. (moto, once asked that, lists all of AWS's
    # own parameters as the account's.)
    unchanged.calls.how = {call: how, "GetParameters": LOST}

    exit_code, sentences = outcome(unchanged)

    unchanged.calls.how = {}
    assert set(before) > set(unchanged.due)
    assert unchanged.states() == before
    assert call in unchanged.calls.seen
    assert (exit_code, len(sentences)) == (3, 1)
    if how == DENIED:
        assert sentences[0].startswith(f"The permission {permission} is missing: AWS refused while ")


@pytest.mark.parametrize("permission", CALLS)
def test_each_of_these_permissions_is_listed(permission: str) -> None:
    assert permission in {*permissions.PLANNING, *permissions.APPLYING}


def test_what_ec2_alone_knows_of_keeps_an_image(account: PrunedAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = instance(account, account.to_disable).split()[1]
    monkeypatch.setattr(account_module, "SOURCES", ())

    pruned = account.prune()

    [entry] = [entry for entry in pruned.entries if entry.image.ami_id == account.to_disable]
    assert entry.action == "keep"
    assert entry.reason.startswith("in use by ec2:Instance arn:aws:ec2:us-east-1:")
    assert entry.reason.endswith(f":instance/{launched}")
    assert account.states(account.to_disable) == {account.to_disable: "available"}


def test_what_another_account_uses_stays_and_the_account_is_named(account: PrunedAccount) -> None:
    account.share(account.to_disable)
    account.launch_elsewhere(account.to_disable)

    [done] = [done for done in account.prune().done if done.ami_id == account.to_disable]

    assert (done.was_done, done.reason) == (False, f"in use by account {OTHER_ACCOUNT} (1 x ec2:Instance)")
    assert account.states(account.to_disable) == {account.to_disable: "available"}


def test_shared_image_that_nobody_uses_goes_and_its_report_is_deleted(account: PrunedAccount) -> None:
    account.share(account.to_disable)

    pruned = account.prune()

    assert (pruned.exit_code, account.states(account.to_disable)) == (0, {account.to_disable: "disabled"})
    assert account.calls.seen.count("CreateImageUsageReport") == 1
    assert account.ec2.describe_image_usage_reports()["ImageUsageReports"] == []


def test_disabled_image_that_was_shared_is_looked_for_in_other_accounts_before_it_goes(
    account: PrunedAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.share(account.to_disable)
    account.launch_elsewhere(account.to_disable)
    with monkeypatch.context() as days_behind:
        days_behind.setattr(last_look, "usage_by_others", lambda *_: [])
        account.prune()
    account.later(days=31)

    [done] = account.prune().done

    assert (done.was_done, done.reason) == (False, f"in use by account {OTHER_ACCOUNT} (1 x ec2:Instance)")
    assert account.states(account.to_disable) == {account.to_disable: "disabled"}


def test_ec2_without_references_is_noted_and_the_other_sources_decide(account: PrunedAccount) -> None:
    account.calls.how = {"DescribeImageReferences": UNKNOWN}

    planned = account.prune(apply=False)
    text = shown(account)

    account.calls.how = {}
    assert (planned.exit_code, planned.failed) == (0, {})
    assert "note: EC2's own references could not be asked: the API of ec2 in us-east-1 does not have this call" in text
    assert account.states(*account.due) == {account.to_disable: "disabled"}


def test_shared_image_stays_where_the_api_has_no_reports(account: PrunedAccount) -> None:
    account.share(account.to_disable)
    account.calls.how = {"CreateImageUsageReport": UNKNOWN}

    pruned = account.prune()

    [done] = [done for done in pruned.done if done.ami_id == account.to_disable]
    assert pruned.exit_code == 0
    assert done.reason == f"shared with {OTHER_ACCOUNT}, and this API cannot say whether they use it"
    assert account.states(account.to_disable, account.to_deregister) == {account.to_disable: "available"}


def test_region_without_image_builder_is_noted_where_aws_itself_lists_it_without(
    account: PrunedAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(**asked: Any) -> dict[str, Any]:
        ec2, builder = asked["Names"]
        return {"Parameters": [{"Name": ec2}], "InvalidParameters": [builder]}

    monkeypatch.setattr(account.clients.ssm, "get_parameters", listed)
    account.calls.how = {"ListImageRecipes": LOST}

    pruned = account.prune()

    account.calls.how = {}
    assert (pruned.exit_code, pruned.lacking) == (0, {"Image Builder recipes": "region us-east-1 has no imagebuilder"})
    assert account.states(*account.due) == {account.to_disable: "disabled"}


def test_lost_connection_is_no_missing_service_where_nobody_can_say_so(account: PrunedAccount) -> None:
    before = account.states()
    account.calls.how = {"ListImageRecipes": LOST, "GetParameters": DENIED}

    pruned = account.prune()

    account.calls.how = {}
    assert (pruned.exit_code, list(pruned.failed), account.states()) == (3, ["Image Builder recipes"], before)
