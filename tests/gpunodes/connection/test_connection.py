from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpunodes.aws import Clients
from gpunodes.cleanup import leftovers
from gpunodes.connection import connection
from gpunodes.connection.connection import Connection
from gpunodes.errors import AwsError, PreflightError
from gpunodes.settings import Settings
from tests.gpunodes import fakes

ROLE = "gpunodes-20300101-000000-abcd-bake"


def nobody() -> str:
    pytest.fail("asked for this machine's address")


def made(clients: Clients, folder: Path, settings: Settings | None = None, **target: Any) -> Connection:
    made = replace(
        connection.of(fakes.target(**target), settings or Settings(), fakes.run(folder)),
        ask_network=lambda: "8.8.8.8/32",
    )
    made.make(clients, fakes.base_image(clients), fakes.FakeClock().wait)
    return made


def sources(clients: Clients, connected: Connection) -> list[str]:
    group_id = connected.packer_variables()["security_group_id"]
    rules = clients.ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"][0]["IpPermissions"]
    return [network["CidrIp"] for rule in rules for network in rule["IpRanges"]]


def roles(clients: Clients) -> list[str]:
    return [role["RoleName"] for role in clients.client("iam").list_roles()["Roles"]]


def test_session_manager_needs_no_way_in_and_brings_its_role(clients: Clients, tmp_path: Path) -> None:
    connected = made(clients, tmp_path, ssh_interface="session_manager")

    variables = connected.packer_variables()
    assert sources(clients, connected) == []
    assert roles(clients) == [ROLE]
    assert variables["ssh_interface"] == "session_manager"
    assert variables["iam_instance_profile"] == ROLE
    assert variables["temporary_security_group_source_cidrs"] == ["127.0.0.1/32"]


def test_a_profile_of_the_team_is_used_and_none_is_made(clients: Clients, tmp_path: Path) -> None:
    settings = Settings(instance_profile="ours")

    connected = made(clients, tmp_path, settings, ssh_interface="session_manager")

    assert connected.packer_variables()["iam_instance_profile"] == "ours"
    assert roles(clients) == []


def test_public_ip_lets_the_caller_alone_in(clients: Clients, tmp_path: Path) -> None:
    connected = made(clients, tmp_path, ssh_interface="public_ip")

    assert sources(clients, connected) == ["8.8.8.8/32"]
    assert connected.packer_variables()["temporary_security_group_source_cidrs"] == ["8.8.8.8/32"]
    assert connected.packer_variables()["iam_instance_profile"] == ""
    assert roles(clients) == []


@pytest.mark.parametrize("interface", ["public_ip", "private_ip"])
def test_a_network_that_is_given_is_taken_and_nobody_is_asked(clients: Clients, tmp_path: Path, interface: str) -> None:
    target = fakes.target(ssh_interface=interface, ssh_source_cidr="203.0.113.0/24")
    connected = Connection(target, Settings(), fakes.run(tmp_path), nobody)

    connected.make(clients, "ami-1", fakes.FakeClock().wait)

    assert sources(clients, connected) == ["203.0.113.0/24"]


def test_everything_is_gone_after_it(clients: Clients, tmp_path: Path) -> None:
    connected = made(clients, tmp_path, ssh_interface="session_manager")
    group_id = connected.packer_variables()["security_group_id"]

    assert connected.remove(clients) == [group_id, ROLE, ROLE]

    assert roles(clients) == []
    assert connected.remove(clients) == []


def test_what_was_made_before_a_failure_is_gone_after_it(clients: Clients, tmp_path: Path) -> None:
    target = fakes.target(ssh_interface="session_manager", subnet_id="subnet-00000000000000000")
    connected = connection.of(target, Settings(), fakes.run(tmp_path))
    with pytest.raises(Exception, match="making the security group"):
        connected.make(clients, "ami-1")
    assert roles(clients) == [ROLE]

    connected.remove(clients)

    assert roles(clients) == []


def test_role_goes_although_an_instance_does_not_end(
    clients: Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = made(clients, tmp_path, ssh_interface="session_manager")
    clients.ec2.run_instances(
        ImageId=fakes.base_image(clients), MinCount=1, MaxCount=1, KeyName=f"gpunodes-{connected.run.run_id}",
    )  # fmt: skip
    monkeypatch.setattr(leftovers, "wait_until_ended", lambda _clients, ids, _wait: ids)

    with pytest.raises(AwsError, match="do not terminate"):
        connected.remove(clients)

    assert roles(clients) == []


def test_packer_gets_the_expiry_of_what_is_temporary(tmp_path: Path) -> None:
    variables = connection.of(fakes.target(), Settings(), fakes.run(tmp_path)).packer_variables()

    assert variables["temporary_tags"]["gpunodes:expires-at"] == "2030-01-01T04:00:00Z"


@pytest.mark.parametrize(("spot", "price"), [(True, "auto"), (False, "")])
def test_spot_is_an_option(tmp_path: Path, spot: bool, price: str) -> None:
    target = fakes.target(tolerates_missing_calls=False)

    chosen = connection.of(target, Settings(spot=spot), fakes.run(tmp_path))

    assert chosen.packer_variables()["spot_price"] == price
    assert chosen.notes == []


def test_spot_where_the_api_cannot_is_said_and_baked_on_demand(tmp_path: Path) -> None:
    target = fakes.target(tolerates_missing_calls=True)

    chosen = connection.of(target, Settings(spot=True), fakes.run(tmp_path))

    assert chosen.packer_variables()["spot_price"] == ""
    assert [note for note in chosen.notes if "on demand" in note] == chosen.notes != []


def test_the_template_declares_every_variable(tmp_path: Path) -> None:
    declared = (Path(__file__).parents[3] / "packer" / "variables.pkr.hcl").read_text()

    for name in connection.of(fakes.target(), Settings(), fakes.run(tmp_path)).packer_variables():
        assert f'variable "{name}" {{' in declared


@pytest.mark.parametrize(
    ("written", "network"),
    [("203.0.113.7/32", "203.0.113.7/32"), ("203.0.113.7", "203.0.113.7/32"), ("10.1.2.3/16", "10.1.0.0/16")],
)
def test_a_network_is_written_as_ec2_wants_it(written: str, network: str) -> None:
    assert connection.narrow(written) == network


@pytest.mark.parametrize("written", ["0.0.0.0/0", "10.0.0.0/8", "128.0.0.0/1", "10.0.0.0/15"])
def test_a_network_too_wide_is_refused(written: str) -> None:
    with pytest.raises(PreflightError, match=r"would let \d+ addresses reach SSH; name a network of /16 or narrower"):
        connection.narrow(written)


@pytest.mark.parametrize("written", ["my-office", "203.0.113.7/33", "2001:db8::1/128", "203.0.113.7/"])
def test_what_is_no_ipv4_network_is_refused(written: str) -> None:
    with pytest.raises(PreflightError, match="is no IPv4 network; write it as"):
        connection.narrow(written)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"ssh_interface": "private_ip"}, "ssh_interface = private_ip needs ssh_source_cidr"),
        ({"ssh_interface": "public_ip", "ssh_source_cidr": "0.0.0.0/0"}, "would let 4294967296 addresses"),
    ],
)
def test_a_network_that_is_missing_or_too_wide_is_refused(changes: dict[str, str], complaint: str) -> None:
    with pytest.raises(PreflightError, match=complaint):
        connection.source_network(fakes.target(**changes), lambda: "")


def test_variables_are_plain_json(tmp_path: Path) -> None:
    variables = connection.of(fakes.target(), Settings(), fakes.run(tmp_path)).packer_variables()

    assert json.loads(json.dumps(variables)) == variables
