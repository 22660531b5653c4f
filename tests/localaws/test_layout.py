from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from localaws import layout, network
from localaws.layout import Layout


@pytest.mark.parametrize(("value", "expected"), [(None, "/var/lib/localaws"), ("", "/var/lib/localaws"), ("/x", "/x")])
def test_state_folder_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, value: str | None, expected: str
) -> None:
    monkeypatch.delenv("LOCALAWS_STATE", raising=False)
    if value is not None:
        monkeypatch.setenv("LOCALAWS_STATE", value)

    assert Layout.from_environment() == Layout(Path(expected))


def test_relative_state_folder_means_one_in_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCALAWS_STATE", "state")

    assert Layout.from_environment().state == tmp_path / "state"


def test_what_survives_down_and_what_does_not_are_apart() -> None:
    here = Layout(Path("/x"))

    for path in (here.images, here.machines, here.daemon_log, here.daemon_facts, here.daemon_process_id):
        assert path.is_relative_to(here.run)
    assert not here.cache.is_relative_to(here.run)
    assert not here.lock.is_relative_to(here.run)


def test_clouds_of_two_state_folders_have_two_control_groups() -> None:
    assert Layout(Path("/x")).control_group != Layout(Path("/y")).control_group
    assert Layout(Path("/x")).control_group == Layout(Path("/x")).control_group


@pytest.mark.parametrize(("value", "expected"), [(None, 4566), ("", 4566), ("1", 1), ("65535", 65535)])
def test_port_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, value: str | None, expected: int) -> None:
    monkeypatch.delenv("LOCALAWS_PORT", raising=False)
    if value is not None:
        monkeypatch.setenv("LOCALAWS_PORT", value)

    assert layout.port_from_environment() == expected


@pytest.mark.parametrize("value", ["0", "65536", "-1", "http", "4566 ", "4_566", "9" * 5000])
def test_what_is_no_port_is_refused_and_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LOCALAWS_PORT", value)

    with pytest.raises(ValueError, match=f"^{value}$"):
        layout.port_from_environment()


def test_no_instance_can_get_an_address_that_the_cloud_uses() -> None:
    reserved_by_ec2 = list(ipaddress.ip_network(layout.SUBNET_CIDR))[:4]

    assert ipaddress.ip_address(layout.ROUTER_ADDRESS) in reserved_by_ec2
    assert ipaddress.ip_address(layout.HOST_ADDRESS) in reserved_by_ec2


@pytest.mark.parametrize(
    ("address", "inside"), [("198.51.100.7", True), ("198.51.101.7", False), ("172.31.0.4", False)]
)
def test_only_addresses_of_the_subnet_are_on_it(address: str, inside: bool) -> None:
    assert network.on_subnet(address) is inside
