"""The real provider makes and destroys everything, with moto for an account: runs, an example, a schedule, at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.terraform import moto_process, terraform_cli
from tests.terraform.applied import Applied, clients
from tests.terraform.moto_process import AMI_ID, REGION

TERRAFORM = Path(__file__).parents[2] / "terraform"
REPOSITORY = "https://github.com/example/gpunodes.git"


@dataclass(frozen=True)
class Account:
    """Everything applied, and the way to ask what is there."""

    url: str
    first: Applied
    second: Applied
    example: Applied
    schedule: Applied

    def role_policies(self, role: str) -> dict[str, Any]:
        iam = clients(self.url, "iam")
        names = iam.list_role_policies(RoleName=role)["PolicyNames"]
        return {name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names}


def run_variables(run_id: str) -> dict[str, Any]:
    """What gpunodes gives the stack of a test instance."""
    return {
        "region": REGION,
        "run_id": run_id,
        "ami_id": AMI_ID,
        "instance_type": "g5.12xlarge",
        "key_name": None,
        "subnet_id": None,
    }


@pytest.fixture(scope="module")
def account(
    terraform_environment: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    findings: object,  # so that they are looked for meanwhile: the provider waits much of the time
) -> Iterator[Account]:
    del findings
    folder = tmp_path_factory.mktemp("account")
    more = {"tags": {"gpunodes:expires-at": "2026-11-22T15:00:00Z"}, "permissions": "managed"}
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        "first": ("stacks/test-instance", run_variables("run-1")),
        "second": ("stacks/test-instance", run_variables("run-2") | more),
        "example": (
            "examples/instance-with-alarms",
            {"region": REGION, "ami_id": AMI_ID, "email": "on-call@example.com"},
        ),
        "schedule": (
            "stacks/ami-refresh",
            {"region": REGION, "repository": REPOSITORY, "email_addresses": ["on-call@example.com"], "alarm_days": 7},
        ),
    }
    with moto_process.serve(folder) as url:
        environment = {
            **terraform_environment,
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        applied = {
            name: Applied(terraform_cli.copy_of(TERRAFORM, folder / name) / path, environment)
            for name, (path, _) in wanted.items()
        }
        with ThreadPoolExecutor() as pool:
            list(pool.map(Applied.apply, applied.values(), [variables for _, variables in wanted.values()]))
        yield Account(url, **applied)


def test_stack_tells_what_gpunodes_reads(account: Account) -> None:
    outputs = account.first.outputs

    [found] = clients(account.url, "ec2").describe_instances(InstanceIds=[outputs["instance_id"]])["Reservations"]
    [instance] = found["Instances"]
    assert outputs["private_ip"] == instance["PrivateIpAddress"]
    assert outputs["availability_zone"] == instance["Placement"]["AvailabilityZone"]
    assert [outputs["security_group_id"]] == [group["GroupId"] for group in instance["SecurityGroups"]]
    assert outputs["run_id"] == "run-1"


def test_stack_makes_five_things_and_no_more(account: Account) -> None:
    state = json.loads((account.first.folder / "terraform.tfstate").read_text())

    assert sorted(resource["type"] for resource in state["resources"] if resource["mode"] == "managed") == [
        "aws_iam_instance_profile",
        "aws_iam_role",
        "aws_iam_role_policy",
        "aws_instance",
        "aws_security_group",
    ]


def test_role_has_the_inline_policy_alone(account: Account) -> None:
    role = account.first.outputs["role_name"]

    [(_, policy)] = account.role_policies(role).items()
    [publish, reach] = policy["Statement"]
    assert (publish["Action"], publish["Condition"]) == (
        ["cloudwatch:PutMetricData"],
        {"StringEquals": {"cloudwatch:namespace": ["GPU", "CWAgent"]}},
    )
    assert {action.split(":")[0] for action in reach["Action"]} == {"ssm", "ssmmessages"}
    assert clients(account.url, "iam").list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []


def test_role_has_the_managed_policies_alone_where_they_were_asked_for(account: Account) -> None:
    role = account.second.outputs["role_name"]
    attached = clients(account.url, "iam").list_attached_role_policies(RoleName=role)["AttachedPolicies"]

    assert account.role_policies(role) == {}
    assert sorted(policy["PolicyName"] for policy in attached) == [
        "AmazonSSMManagedInstanceCore",
        "CloudWatchAgentServerPolicy",
    ]


def test_tags_of_the_run_are_on_the_instance(account: Account) -> None:
    ec2 = clients(account.url, "ec2")
    answer = ec2.describe_instances(Filters=[{"Name": "tag:gpunodes:run-id", "Values": ["run-2"]}])
    [instance] = [each for reservation in answer["Reservations"] for each in reservation["Instances"]]

    assert {tag["Key"]: tag["Value"] for tag in instance["Tags"]} == {
        "Name": "gpunodes-run-2",
        "gpunodes:project": "gpunodes",
        "gpunodes:run-id": "run-2",
        "gpunodes:expires-at": "2026-11-22T15:00:00Z",
    }


def test_runs_at_the_same_time_share_nothing(account: Account) -> None:
    first, second = account.first.outputs, account.second.outputs

    assert all(first[name] != second[name] for name in ("instance_id", "role_name", "security_group_id", "private_ip"))


def test_alarms_of_the_example_are_there_and_tell_the_topic(account: Account) -> None:
    outputs = account.example.outputs
    prefix = f"trainer-{outputs['instance_id']}"
    alarms = clients(account.url, "cloudwatch").describe_alarms(AlarmNamePrefix=prefix)["MetricAlarms"]

    assert {alarm["AlarmName"] for alarm in alarms} == set(outputs["alarm_names"].values())
    assert {tuple(alarm["AlarmActions"] + alarm["OKActions"]) for alarm in alarms} == {(outputs["topic_arn"],) * 2}
    assert {
        alarm["AlarmName"].rpartition(f"{outputs['instance_id']}-")[2]: alarm["TreatMissingData"] for alarm in alarms
    } == {
        "gpu-missing": "ignore",
        "gpu-unhealthy": "ignore",
        "gpu-memory": "missing",
        "gpu-temperature": "missing",
        "heartbeat": "breaching",
    }


def test_dashboard_of_the_example_is_kept(account: Account) -> None:
    name = account.example.outputs["dashboard_name"]

    body = json.loads(clients(account.url, "cloudwatch").get_dashboard(DashboardName=name)["DashboardBody"])

    metrics = [widget for widget in body["widgets"] if widget["type"] == "metric"]
    assert metrics[0]["properties"]["title"].startswith("MemoryUsed ")
    assert {widget["properties"]["region"] for widget in metrics} == {REGION}


def test_log_group_of_the_example_is_the_one_that_its_role_may_write_to(account: Account) -> None:
    name = account.example.outputs["log_group_name"]
    [group] = clients(account.url, "logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]

    policies = [policy for role in roles(account.url, "trainer-") for policy in account.role_policies(role).values()]
    [statement] = [each for policy in policies for each in policy["Statement"] if each["Sid"] == "WriteLogs"]
    assert group["retentionInDays"] == 30
    assert statement["Resource"] == [f"{group['arn'].removesuffix(':*')}:*"]


def roles(url: str, prefix: str) -> list[str]:
    found = clients(url, "iam").list_roles()["Roles"]
    return [role["RoleName"] for role in found if role["RoleName"].startswith(prefix)]


def test_schedule_starts_the_project_with_a_role_that_may_do_that_alone(account: Account) -> None:
    outputs = account.schedule.outputs
    schedule = clients(account.url, "scheduler").get_schedule(Name=outputs["schedule_name"])
    [project] = clients(account.url, "codebuild").batch_get_projects(names=[outputs["project_name"]])["projects"]

    assert schedule["Target"]["Arn"] == project["arn"]
    assert schedule["ScheduleExpression"] == "cron(23 0/2 * * ? *)"
    [policy] = account.role_policies(schedule["Target"]["RoleArn"].rpartition("/")[2]).values()
    assert [(each["Action"], each["Resource"]) for each in policy["Statement"]] == [
        (["codebuild:StartBuild"], [project["arn"]])
    ]
    assert (project["source"]["location"], project["serviceRole"]) == (REPOSITORY, outputs["role_arn"])


def test_failures_and_the_alarm_reach_the_encrypted_topic(account: Account) -> None:
    outputs = account.schedule.outputs
    topic = outputs["topic_arn"]
    [alarm] = clients(account.url, "cloudwatch").describe_alarms(AlarmNames=[outputs["alarm_name"]])["MetricAlarms"]
    events = clients(account.url, "events")
    [rule] = events.list_rules()["Rules"]
    [target] = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    attributes = clients(account.url, "sns").get_topic_attributes(TopicArn=topic)["Attributes"]
    statements = json.loads(attributes["Policy"])["Statement"]
    tellers = [statement["Condition"]["ArnEquals"]["aws:SourceArn"] for statement in statements]

    assert (alarm["AlarmActions"], target["Arn"]) == ([topic], topic)
    assert tellers == [rule["Arn"], alarm["AlarmArn"]]
    assert attributes["KmsMasterKeyId"].startswith(f"arn:aws:kms:{REGION}:")
    assert (alarm["EvaluationPeriods"], alarm["TreatMissingData"]) == (7 * 24, "breaching")


def test_role_of_the_build_fits_into_what_iam_allows(account: Account) -> None:
    policies = account.role_policies(account.schedule.outputs["role_arn"].rpartition("/")[2])

    assert sorted(policies) == ["build", "refresh"]
    assert sum(len(json.dumps(policy, separators=(",", ":"))) for policy in policies.values()) <= 10240


def test_nothing_changes_at_the_next_plan(account: Account) -> None:
    with ThreadPoolExecutor() as pool:
        example, schedule = pool.map(Applied.planned_changes, [account.example, account.schedule])

    assert example == set()
    # Of the stack moto lacks two things: it forgets the limit of a CodeBuild project,
    assert schedule == {("module.refresh.aws_codebuild_project.refresh", "update")}
    [project] = clients(account.url, "codebuild").batch_get_projects(names=["ami-refresh-stable"])["projects"]
    assert "concurrentBuildLimit" not in project


def test_everything_can_be_destroyed_also_with_a_policy_that_was_added_by_hand(account: Account) -> None:
    deny = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "cloudwatch:*", "Resource": "*"}]}
    clients(account.url, "iam").put_role_policy(
        RoleName=account.first.outputs["role_name"], PolicyName="deny", PolicyDocument=json.dumps(deny)
    )

    applied = [account.first, account.second, account.example, account.schedule]
    with ThreadPoolExecutor(max_workers=len(applied)) as pool:
        list(pool.map(Applied.destroy, applied))

    cloudwatch = clients(account.url, "cloudwatch")
    ec2 = clients(account.url, "ec2")
    reservations = ec2.describe_instances()["Reservations"]
    left = {
        "alarms": cloudwatch.describe_alarms()["MetricAlarms"],
        "dashboards": cloudwatch.list_dashboards()["DashboardEntries"],
        "log groups": clients(account.url, "logs").describe_log_groups()["logGroups"],
        "topics": clients(account.url, "sns").list_topics()["Topics"],
        "roles": roles(account.url, ""),
        # and does not delete one that is named by its ARN, as the provider does.
        "resources of the schedule": account.schedule.state["resources"],
        "schedules": clients(account.url, "scheduler").list_schedules()["Schedules"],
        "rules": clients(account.url, "events").list_rules()["Rules"],
        "profiles": clients(account.url, "iam").list_instance_profiles()["InstanceProfiles"],
        "groups": [
            group for group in ec2.describe_security_groups()["SecurityGroups"] if group["GroupName"] != "default"
        ],
        "instances": [
            each for found in reservations for each in found["Instances"] if each["State"]["Name"] != "terminated"
        ],
    }
    assert {what: found for what, found in left.items() if found} == {}
