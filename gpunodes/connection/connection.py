"""How a bake reaches its instance: through Session Manager, or by SSH to its public or private address.

Whatever it takes in the account is made for one run and removed after it.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpunodes.aws import Clients
from gpunodes.cleanup import leftovers
from gpunodes.connection import bake_role
from gpunodes.connection.bake_role import BakeRole
from gpunodes.connection.caller_address import caller_network
from gpunodes.connection.security_group import SecurityGroup
from gpunodes.errors import PreflightError
from gpunodes.operation import runs
from gpunodes.operation.runs import Run
from gpunodes.settings import Settings
from gpunodes.target import Target

SESSION_MANAGER, PUBLIC_IP, PRIVATE_IP = "session_manager", "public_ip", "private_ip"
_WIDEST_PREFIX = 16
# Packer wants a network for a group of its own. It makes none, as it gets ours; if ever it did, this lets nobody in.
_NOBODY = "127.0.0.1/32"
_NO_SPOT = "baked on demand: this API launches spot instances outside the subnet that was asked for"


@dataclass
class Connection:
    """The connection of one bake.

    Attributes:
        target: how its instances are reached, and from where.
        settings: instance type and profile.
        run: names and tags what is made.
        ask_network: gives the caller's own network; asked only for public_ip without ssh_source_cidr.
        group: None before `make`.
    """

    target: Target
    settings: Settings
    run: Run
    ask_network: Callable[[], str] = caller_network
    group: SecurityGroup | None = None

    def make(self, clients: Clients, source_ami: str, wait: Callable[[float], None] = time.sleep) -> None:
        """Make the security group and, for Session Manager without a profile of the team's, role and profile.

        Args:
            clients: of the target.
            source_ami: id of the base image, to ask EC2 whether it knows the profile.
            wait: seconds, while it does not.

        Raises:
            PreflightError: nobody knows from where SSH may come.
            AwsError: a call was refused, or EC2 does not get to know the profile.
        """
        self.group = SecurityGroup(self.target, self.run, source_network(self.target, self.ask_network))
        if self._has_own_role:
            BakeRole(self.run).create(clients)  # first: it becomes usable while the group is made
        self.group.create(clients)
        if self._has_own_role:
            bake_role.wait_until_usable(clients, self.instance_profile, self._launch(source_ami), wait)

    def remove(self, clients: Clients, wait: Callable[[float], None] = time.sleep) -> list[str]:
        """Remove it, and before it the instances that still use it; return what was removed.

        Raises:
            AwsError: a call was refused, or an instance does not end.
        """
        try:
            removed = leftovers.remove_instances(clients, self.run.run_id, wait)
        finally:  # an instance that does not end keeps no role
            roles = leftovers.remove_roles(clients, self.run.run_id) if self._has_own_role else []
        return removed + roles

    def packer_variables(self) -> dict[str, Any]:
        """Variables of the template, all that concern the connection and what is temporary; after `make`."""
        return {
            "ssh_interface": self.target.ssh_interface,
            "security_group_id": self.group.group_id if self.group else "",
            "iam_instance_profile": self.instance_profile,
            "temporary_security_group_source_cidrs": [(self.group and self.group.source_cidr) or _NOBODY],
            "spot_price": "auto" if self.settings.spot and not self.notes else "",
            "temporary_tags": runs.temporary_tags(self.run),
        }

    @property
    def instance_profile(self) -> str:
        """Of the instance that bakes; empty where it needs none."""
        if self.target.ssh_interface != SESSION_MANAGER:
            return ""
        return self.settings.instance_profile or BakeRole(self.run).name

    @property
    def notes(self) -> list[str]:
        """What this API could not do."""
        return [_NO_SPOT] if self.settings.spot and self.target.tolerates_missing_calls else []

    @property
    def _has_own_role(self) -> bool:
        return self.target.ssh_interface == SESSION_MANAGER and not self.settings.instance_profile

    def _launch(self, source_ami: str) -> dict[str, Any]:
        wanted = [{"Key": key, "Value": value} for key, value in runs.temporary_tags(self.run).items()]
        return {
            "ImageId": source_ami,
            "InstanceType": self.settings.build_instance_type,
            "TagSpecifications": [{"ResourceType": kind, "Tags": wanted} for kind in ("instance", "volume")],
            **({"SubnetId": self.target.subnet_id} if self.target.subnet_id else {}),
            **({"SecurityGroupIds": [self.group.group_id]} if self.group else {}),
        }


def of(target: Target, settings: Settings, run: Run) -> Connection:
    """The connection of a run; nothing is made yet, nobody is asked."""
    return Connection(target, settings, run)


def source_network(target: Target, ask_network: Callable[[], str] = caller_network) -> str:
    """The network that may reach SSH; empty for Session Manager, which needs no way in.

    Args:
        target: its interface and its `ssh_source_cidr`.
        ask_network: gives the caller's own network; asked only for public_ip without ssh_source_cidr.

    Raises:
        PreflightError: it is not known, no network, or too wide.
    """
    if target.ssh_interface == SESSION_MANAGER:
        return ""
    if target.ssh_source_cidr:
        return narrow(target.ssh_source_cidr)
    if target.ssh_interface == PUBLIC_IP:
        return ask_network()
    raise PreflightError(
        "ssh_interface = private_ip needs ssh_source_cidr in gpunodes.toml: the network you bake from, as 10.1.2.3/32."
    )


def narrow(cidr: str) -> str:
    """An IPv4 network of at most 65 536 addresses, as EC2 writes it; an address alone is one with /32.

    Raises:
        PreflightError: it is none, or wider.
    """
    try:
        network = ipaddress.IPv4Network(cidr, strict=False)
    except ValueError as error:
        raise PreflightError(
            f"ssh_source_cidr = {cidr!r} is no IPv4 network; write it as 203.0.113.7/32 in gpunodes.toml."
        ) from error
    if network.prefixlen < _WIDEST_PREFIX:
        raise PreflightError(
            f"ssh_source_cidr = {cidr} would let {network.num_addresses} addresses reach SSH; "
            f"name a network of /{_WIDEST_PREFIX} or narrower, best your own address with /32."
        )
    return str(network)
