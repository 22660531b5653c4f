from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from gpunodes.aws import Clients
from gpunodes.cleanup import leftovers
from gpunodes.connection.security_group import SecurityGroup
from gpunodes.errors import AwsError
from tests.gpunodes import fakes

RUN_ID = "20300101-000000-abcd"


def described(clients: Clients, group: SecurityGroup) -> dict[str, object]:
    found: dict[str, object] = clients.ec2.describe_security_groups(GroupIds=[group.group_id])["SecurityGroups"][0]
    return found


def test_only_ssh_from_one_network_gets_in_and_the_run_finds_it_again(clients: Clients, tmp_path: Path) -> None:
    group = SecurityGroup(fakes.target(), fakes.run(tmp_path), "203.0.113.7/32")

    group.create(clients)

    rules = described(clients, group)["IpPermissions"]
    assert [(rule["FromPort"], rule["ToPort"], rule["IpProtocol"]) for rule in rules] == [(22, 22, "tcp")]  # type: ignore[attr-defined]
    assert [network["CidrIp"] for network in rules[0]["IpRanges"]] == ["203.0.113.7/32"]  # type: ignore[index]
    assert leftovers.remove_instances(clients, RUN_ID) == [group.group_id]


class LateEc2:
    """EC2 that knows a new group only after it was waited for."""

    def __init__(self) -> None:
        self.knows = False

    @property
    def ec2(self) -> LateEc2:
        return self

    def create_security_group(self, **_arguments: Any) -> dict[str, str]:
        return {"GroupId": "sg-1"}

    def get_waiter(self, name: str) -> LateEc2:
        assert name == "security_group_exists"
        return self

    def wait(self, GroupIds: list[str]) -> None:  # noqa: N803
        self.knows = GroupIds == ["sg-1"]

    def authorize_security_group_ingress(self, **_arguments: Any) -> None:
        assert self.knows, "InvalidGroup.NotFound"


def test_a_group_that_ec2_does_not_know_yet_is_waited_for(tmp_path: Path) -> None:
    ec2 = LateEc2()

    SecurityGroup(fakes.target(), fakes.run(tmp_path), "203.0.113.7/32").create(cast("Clients", ec2))

    assert ec2.knows


def test_without_a_network_nothing_gets_in(clients: Clients, tmp_path: Path) -> None:
    group = SecurityGroup(fakes.target(), fakes.run(tmp_path))

    group.create(clients)

    assert described(clients, group)["IpPermissions"] == []


def test_it_says_when_it_expires(clients: Clients, tmp_path: Path) -> None:
    group = SecurityGroup(fakes.target(), fakes.run(tmp_path))

    group.create(clients)

    assert {"Key": "gpunodes:expires-at", "Value": "2030-01-01T04:00:00Z"} in described(clients, group)["Tags"]  # type: ignore[operator]


def test_it_lies_in_the_vpc_of_the_subnet(clients: Clients, tmp_path: Path) -> None:
    vpc_id = clients.ec2.create_vpc(CidrBlock="198.51.100.0/24")["Vpc"]["VpcId"]
    subnet_id = clients.ec2.create_subnet(VpcId=vpc_id, CidrBlock="198.51.100.0/24")["Subnet"]["SubnetId"]
    group = SecurityGroup(fakes.target(subnet_id=subnet_id), fakes.run(tmp_path))

    group.create(clients)

    assert described(clients, group)["VpcId"] == vpc_id


def test_a_subnet_that_does_not_exist_is_said(clients: Clients, tmp_path: Path) -> None:
    group = SecurityGroup(fakes.target(subnet_id="subnet-00000000000000000"), fakes.run(tmp_path))

    with pytest.raises(AwsError, match="making the security group"):
        group.create(clients)
