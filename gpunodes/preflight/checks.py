"""All checks of the preflight, as far as they can at the same time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import botocore.exceptions

from gpunodes import aws
from gpunodes.aws import Clients, aws_errors
from gpunodes.bake import template_check
from gpunodes.bake.template_check import Template
from gpunodes.connection import connection
from gpunodes.errors import GpunodesError, UsageError
from gpunodes.preflight import account, instance_type, machine, quotas
from gpunodes.preflight.background import begin
from gpunodes.preflight.finding import FAILED, Finding, Looked, Seen, look, not_asked
from gpunodes.preflight.instance_type import BaseFacts
from gpunodes.settings import Settings
from gpunodes.target import Target

T = TypeVar("T")
_IDENTITY, _REGION, _BASE, _SUBNET = "credentials", "region", "base image", "subnet"
_TYPE, _ARCHITECTURE, _OFFERED, _QUOTA = "instance type", "architecture", "availability", "vCPU quota"
_AFTER_IDENTITY = (_BASE, _SUBNET, _TYPE)
_AFTER_TYPE = (_ARCHITECTURE, _OFFERED, _QUOTA)


def checks(
    target: Target,
    settings: Settings,
    clients: Clients,
    *,
    base: BaseFacts | Callable[[], BaseFacts],
    template: Template | None = None,
) -> list[Finding]:
    """Check everything that a bake needs; nothing is changed, and every failure is found, not only the first.

    Args:
        target: where.
        settings: instance type, spot or not, and work folder.
        clients: of the target.
        base: the base image, or what resolves it and raises what is wrong with it.
        template: what Packer will be given; None leaves that check out.

    Returns:
        A finding for each check, this machine's first, in the order in which a person would mend them.
    """
    of_machine = begin(lambda: _of_machine(target, settings, template))
    of_account = _Account(target, settings, clients, base).findings()
    return of_machine.result() + of_account


def _of_machine(target: Target, settings: Settings, template: Template | None) -> list[Finding]:
    def local(name: str, check: Callable[[], Seen[T]]) -> Looked[T]:
        return look(name, check, tolerates_missing_calls=False)

    installed = local("Packer", machine.packer_version)
    findings = [installed.finding]
    if target.ssh_interface == "session_manager":
        findings.append(local("Session Manager plugin", machine.session_manager_plugin).finding)
    else:
        findings.append(local("way in", lambda: _way_in(target)).finding)
    findings.append(local("git", machine.git).finding)
    findings.append(local("disk", lambda: machine.disk(settings.work_folder)).finding)
    if template is not None:
        version = installed.fact
        if version is None:
            findings.append(not_asked("template", "Packer"))
        else:
            findings.append(local("template", lambda: template_check.check(template, version)).finding)
    return findings


def _way_in(target: Target) -> Seen[str]:
    network = connection.source_network(target, lambda: "")  # the caller's own address is asked for by the bake
    text = f"SSH will be open to {network or 'your own address'} only."
    return Seen(network, text, {"ssh_interface": target.ssh_interface, "network": network or None})


@dataclass(frozen=True)
class _Services:
    """boto3 clients, all made before the first thread: making them is not safe beside each other, calling them is."""

    ec2: Any
    sts: Any
    service_quotas: Any


@dataclass(frozen=True)
class _Account:
    """The checks that ask AWS, in three rounds: who and where, what there is, what fits."""

    target: Target
    settings: Settings
    clients: Clients
    base: BaseFacts | Callable[[], BaseFacts]

    def findings(self) -> list[Finding]:
        services = look(_IDENTITY, self._services, tolerates_missing_calls=False)
        if services.fact is None:
            return [services.finding, *self._not_asked(_IDENTITY, _REGION, *_AFTER_IDENTITY, *_AFTER_TYPE)]
        aws_of = services.fact
        who = self._begin(_IDENTITY, lambda: account.identity(aws_of.sts, lambda: self._home().client("sts")))
        where = self._begin(_REGION, lambda: account.region(aws_of.ec2, self.target.region, lambda: self._home().ec2))
        first = [who.result().finding, where.result().finding]
        failed = next((finding.name for finding in first if finding.outcome == FAILED), None)
        if failed is not None:
            return first + self._not_asked(failed, *_AFTER_IDENTITY, *_AFTER_TYPE)
        return first + self._of_instance(aws_of)

    def _of_instance(self, aws_of: _Services) -> list[Finding]:
        name, spot = self.settings.build_instance_type, self.settings.spot
        begun_base = self._begin(_BASE, self._base)
        begun_subnet = self._begin(_SUBNET, lambda: account.subnet(aws_of.ec2, self.target.subnet_id))
        kind = self._begin(_TYPE, lambda: instance_type.describe(aws_of.ec2, name, spot=spot)).result()
        found = kind.fact
        if found is None:
            rest = self._not_asked(_TYPE, *_AFTER_TYPE)
            return [begun_base.result().finding, begun_subnet.result().finding, kind.finding, *rest]
        quota = self._begin(
            _QUOTA,
            lambda: quotas.check(aws_of.ec2, aws_of.service_quotas, name, found.vcpus, self.target.region, spot=spot),
        )
        net = begun_subnet.result()
        offered = self._begin(_OFFERED, lambda: instance_type.offered(aws_of.ec2, name, self.target.region, net.fact))
        image = begun_base.result()
        fits = not_asked(_ARCHITECTURE, _BASE)
        if (facts := image.fact) is not None:
            fits = self._look(_ARCHITECTURE, lambda: instance_type.architecture(facts, found)).finding
        later = [fits, offered.result().finding, quota.result().finding]
        return [image.finding, net.finding, kind.finding, *later]

    def _services(self) -> Seen[_Services]:
        try:
            aws.check_credentials(self.target)
            with aws_errors("setting up the AWS clients"):
                made = _Services(self.clients.ec2, self.clients.client("sts"), self.clients.client("service-quotas"))
        except GpunodesError as error:
            if isinstance(error.__cause__, botocore.exceptions.InvalidRegionError):
                raise UsageError(f"`{self.target.region}` is no region; name one such as us-east-1.") from error
            raise
        return Seen(made, "")

    def _home(self) -> Clients:
        return Clients(replace(self.target, region=account.home_region(self.target.region)))

    def _base(self) -> Seen[BaseFacts]:
        facts = self.base() if callable(self.base) else self.base
        evidence = {"image_id": facts.image_id, "name": facts.name, "architecture": facts.architecture}
        return Seen(facts, f"The base image is {facts.image_id} ({facts.name}).", evidence)

    def _look(self, name: str, check: Callable[[], Seen[T]]) -> Looked[T]:
        return look(name, check, tolerates_missing_calls=self.target.tolerates_missing_calls)

    def _begin(self, name: str, check: Callable[[], Seen[T]]) -> Future[Looked[T]]:
        return begin(lambda: self._look(name, check))

    @staticmethod
    def _not_asked(because: str, *names: str) -> list[Finding]:
        return [not_asked(name, because) for name in names if name != because]
