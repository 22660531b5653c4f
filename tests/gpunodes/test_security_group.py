from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gpunodes import leftovers
from gpunodes.aws import Clients
from gpunodes.errors import AwsError
from gpunodes.security_group import SecurityGroup
from gpunodes.target import Target
from tests.gpunodes import fakes

TARGET = Target(
    name="offline",
    region="us-east-1",
    ssh_username="debian",
    root_device_name="/dev/xvda",
    root_volume_size_gib=8,
    ssh_source_cidr="203.0.113.7/32",
)


def test_only_ssh_from_one_network_gets_in_and_the_run_finds_it_again(clients: Clients, tmp_path: Path) -> None:
    group = SecurityGroup(TARGET, fakes.run(tmp_path, "r1"))

    group.create(clients)

    found = clients.ec2.describe_security_groups(GroupIds=[group.group_id])["SecurityGroups"][0]
    rules = [(rule["FromPort"], rule["ToPort"], rule["IpRanges"]) for rule in found["IpPermissions"]]
    assert rules == [(22, 22, [{"CidrIp": "203.0.113.7/32"}])]
    assert leftovers.remove_instances(clients, "r1") == [group.group_id]


def test_it_lies_in_the_vpc_of_the_subnet(clients: Clients, tmp_path: Path) -> None:
    vpc_id = clients.ec2.create_vpc(CidrBlock="198.51.100.0/24")["Vpc"]["VpcId"]
    subnet_id = clients.ec2.create_subnet(VpcId=vpc_id, CidrBlock="198.51.100.0/24")["Subnet"]["SubnetId"]
    group = SecurityGroup(replace(TARGET, subnet_id=subnet_id), fakes.run(tmp_path, "r1"))

    group.create(clients)

    found = clients.ec2.describe_security_groups(GroupIds=[group.group_id])["SecurityGroups"][0]
    assert found["VpcId"] == vpc_id


def test_a_subnet_that_does_not_exist_is_said(clients: Clients, tmp_path: Path) -> None:
    group = SecurityGroup(replace(TARGET, subnet_id="subnet-00000000000000000"), fakes.run(tmp_path, "r1"))

    with pytest.raises(AwsError, match="making the security group"):
        group.create(clients)
