"""The real provider makes and destroys everything, with moto for an account: two runs and an example, all at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.terraform import moto_process, terraform_cli
from tests.terraform.moto_process import AMI_ID, REGION

TERRAFORM = Path(__file__).parents[2] / "terraform"


def clients(url: str, service: str) -> Any:
    session: Any = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    return session.client(service, endpoint_url=url)


@dataclass(frozen=True)
class Applied:
    """One configuration with a state of its own."""

    folder: Path
    environment: Mapping[str, str]

    @property
    def outputs(self) -> dict[str, Any]:
        state = json.loads((self.folder / "terraform.tfstate").read_text())
        return {name: output["value"] for name, output in state["outputs"].items()}

    def apply(self, variables: Mapping[str, Any]) -> None:
        (self.folder / "terraform.tfvars.json").write_text(json.dumps(dict(variables)))
        terraform_cli.init(self.environment, self.folder)
        terraform_cli.succeed(self.environment, self.folder, "apply", "-auto-approve", "-no-color")

    def plan_exit_code(self) -> int:
        return terraform_cli.run(self.environment, self.folder, "plan", "-detailed-exitcode", "-no-color").returncode

    def destroy(self) -> None:
        terraform_cli.succeed(self.environment, self.folder, "destroy", "-auto-approve", "-no-color")


@dataclass(frozen=True)
class Account:
    """Everything applied, and the way to ask what is there."""

    url: str
    first: Applied
    second: Applied
    example: Applied

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
    alarms = clients(account.url, "cloudwatch").describe_alarms()["MetricAlarms"]

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


def test_nothing_changes_at_the_next_plan(account: Account) -> None:
    assert account.example.plan_exit_code() == 0


def test_everything_can_be_destroyed_also_with_a_policy_that_was_added_by_hand(account: Account) -> None:
    deny = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "cloudwatch:*", "Resource": "*"}]}
    clients(account.url, "iam").put_role_policy(
        RoleName=account.first.outputs["role_name"], PolicyName="deny", PolicyDocument=json.dumps(deny)
    )

    with ThreadPoolExecutor(max_workers=3) as pool:
        list(pool.map(Applied.destroy, [account.first, account.second, account.example]))

    cloudwatch = clients(account.url, "cloudwatch")
    ec2 = clients(account.url, "ec2")
    reservations = ec2.describe_instances()["Reservations"]
    left = {
        "alarms": cloudwatch.describe_alarms()["MetricAlarms"],
        "dashboards": cloudwatch.list_dashboards()["DashboardEntries"],
        "log groups": clients(account.url, "logs").describe_log_groups()["logGroups"],
        "topics": clients(account.url, "sns").list_topics()["Topics"],
        "roles": roles(account.url, ""),
        "profiles": clients(account.url, "iam").list_instance_profiles()["InstanceProfiles"],
        "groups": [
            group for group in ec2.describe_security_groups()["SecurityGroups"] if group["GroupName"] != "default"
        ],
        "instances": [
            each for found in reservations for each in found["Instances"] if each["State"]["Name"] != "terminated"
        ],
    }
    assert {what: found for what, found in left.items() if found} == {}
