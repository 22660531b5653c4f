from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from gpunodes.aws import Clients
from gpunodes.cleanup import leftovers
from gpunodes.connection.bake_role import SESSION_MANAGER_ACTIONS, BakeRole, wait_until_usable
from gpunodes.errors import AwsError, PreflightError
from tests.gpunodes import fakes

NAME = "gpunodes-20300101-000000-abcd-bake"


def test_it_may_speak_to_session_manager_and_nothing_else(clients: Clients, tmp_path: Path) -> None:
    BakeRole(fakes.run(tmp_path)).create(clients)

    iam = clients.client("iam")
    assert iam.list_attached_role_policies(RoleName=NAME)["AttachedPolicies"] == []
    policy = iam.get_role_policy(RoleName=NAME, PolicyName="session-manager")["PolicyDocument"]
    assert [statement["Action"] for statement in policy["Statement"]] == [list(SESSION_MANAGER_ACTIONS)]
    assert not any("*" in action for action in SESSION_MANAGER_ACTIONS)
    profile = iam.get_instance_profile(InstanceProfileName=NAME)["InstanceProfile"]
    assert [role["RoleName"] for role in profile["Roles"]] == [NAME]


def test_ec2_alone_may_take_it(clients: Clients, tmp_path: Path) -> None:
    BakeRole(fakes.run(tmp_path)).create(clients)

    trust = clients.client("iam").get_role(RoleName=NAME)["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert [statement["Principal"] for statement in trust] == [{"Service": "ec2.amazonaws.com"}]


def test_role_and_profile_carry_run_and_expiry(clients: Clients, tmp_path: Path) -> None:
    BakeRole(fakes.run(tmp_path)).create(clients)

    iam = clients.client("iam")
    role = iam.get_role(RoleName=NAME)["Role"]["Tags"]
    profile = iam.get_instance_profile(InstanceProfileName=NAME)["InstanceProfile"]["Tags"]
    for tags in (role, profile):
        assert {tag["Key"]: tag["Value"] for tag in tags} == {
            "gpunodes": "true",
            "gpunodes:run-id": "20300101-000000-abcd",
            "gpunodes:expires-at": "2030-01-01T04:00:00Z",
        }


def test_all_of_it_is_removed_with_its_run_and_a_second_time_is_no_error(clients: Clients, tmp_path: Path) -> None:
    BakeRole(fakes.run(tmp_path)).create(clients)

    assert leftovers.remove_roles(clients, "20300101-000000-abcd") == [NAME, NAME]

    assert clients.client("iam").list_roles()["Roles"] == []
    assert clients.client("iam").list_instance_profiles()["InstanceProfiles"] == []
    assert leftovers.remove_roles(clients, "20300101-000000-abcd") == []


def refusal(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "RunInstances")


INVALID_PROFILE = refusal(
    "InvalidParameterValue",
    "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
)
USABLE = refusal("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")


class Ec2:
    """EC2 that answers RunInstances with one error after the other, the last one again and again."""

    def __init__(self, *answers: ClientError) -> None:
        self.answers = list(answers)
        self.launches: list[dict[str, Any]] = []

    @property
    def ec2(self) -> Ec2:
        return self

    def run_instances(self, **arguments: Any) -> None:
        self.launches.append(arguments)
        raise self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_it_waits_until_ec2_knows_the_profile_and_launches_nothing() -> None:
    ec2, clock = Ec2(INVALID_PROFILE, INVALID_PROFILE, USABLE), fakes.FakeClock()

    wait_until_usable(cast("Clients", ec2), "p", {"ImageId": "ami-1"}, clock.wait)

    assert clock.waits == [1.0, 2.0]
    assert {launch["DryRun"] for launch in ec2.launches} == {True}
    assert ec2.launches[0]["IamInstanceProfile"] == {"Name": "p"}
    assert ec2.launches[0]["ImageId"] == "ami-1"


def test_a_profile_that_ec2_never_knows_is_said_after_two_minutes() -> None:
    clock = fakes.FakeClock()

    with pytest.raises(AwsError, match="does not know the instance profile p after two minutes"):
        wait_until_usable(cast("Clients", Ec2(INVALID_PROFILE)), "p", {}, clock.wait)

    assert 120 <= sum(clock.waits) <= 135
    assert max(clock.waits) == 15.0


@pytest.mark.parametrize("code", ["UnauthorizedOperation", "VcpuLimitExceeded"])
def test_another_refusal_says_nothing_of_the_profile(code: str) -> None:
    clock = fakes.FakeClock()

    wait_until_usable(cast("Clients", Ec2(refusal(code, "no"))), "p", {}, clock.wait)

    assert clock.waits == []


def test_credentials_that_expired_meanwhile_are_said() -> None:
    with pytest.raises(PreflightError, match="ExpiredToken"):
        wait_until_usable(cast("Clients", Ec2(refusal("ExpiredToken", "old"))), "p", {}, fakes.FakeClock().wait)


def test_moto_refuses_a_launch_with_a_profile_that_does_not_exist(clients: Clients, tmp_path: Path) -> None:
    image, clock = fakes.base_image(clients), fakes.FakeClock()

    def make_it(seconds: float) -> None:
        clock.wait(seconds)
        BakeRole(fakes.run(tmp_path)).create(clients)

    wait_until_usable(clients, NAME, {"ImageId": image}, make_it)

    assert clock.waits == [1.0]
    assert clients.ec2.describe_instances()["Reservations"] == []


class LateIam:
    """IAM that knows a new profile only after it was waited for."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def client(self, _service: str) -> LateIam:
        return self

    def __getattr__(self, call: str) -> Callable[..., LateIam]:
        def note(*_arguments: Any, **_named: Any) -> LateIam:
            self.calls.append(call)
            return self

        return note


def test_a_profile_that_iam_does_not_know_yet_is_waited_for(tmp_path: Path) -> None:
    iam = LateIam()

    BakeRole(fakes.run(tmp_path)).create(cast("Clients", iam))

    assert iam.calls[-4:] == ["create_instance_profile", "get_waiter", "wait", "add_role_to_instance_profile"]
