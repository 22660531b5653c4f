from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpunodes.aws import Clients
from gpunodes.errors import PreflightError, UsageError
from gpunodes.proof.before_launch import promised_gpus, require_choice_of_zone, require_quota_of_second_clone
from gpunodes.proof.gpu_checks import PromisedGpus

OURS = {"ImageId": "ami-1", "OwnerId": "123456789012", "Architecture": "x86_64"}


@pytest.fixture
def offline(clients: Clients) -> Clients:
    """Clients of an account whose API has no quotas, and need not have."""
    return Clients(replace(clients.target, tolerates_missing_calls=True))


@pytest.mark.parametrize(
    ("name", "count", "model", "mib"),
    [("g4dn.xlarge", 1, "T4", 16384), ("g5.12xlarge", 4, "A10G", 22888), ("p4d.24xlarge", 8, "A100", 40960)],
)
def test_gpus_are_those_of_the_type(offline: Clients, name: str, count: int, model: str, mib: int) -> None:
    assert promised_gpus(offline, OURS, name) == PromisedGpus(name, count, model, mib * 2**20)


@pytest.mark.parametrize(
    ("image", "name", "complaint"),
    [
        (OURS, "t3.micro", "t3.micro has no GPU; name a type"),
        (OURS, "g99.huge", "There is no instance type `g99.huge`"),
        ({**OURS, "Architecture": "arm64"}, "g4dn.xlarge", "Image ami-1 is for arm64 and g4dn.xlarge runs x86_64;"),
        (OURS, "g5g.xlarge", "Image ami-1 is for x86_64 and g5g.xlarge runs arm64; name a --type that fits."),
        (
            {**OURS, "OwnerId": "999999999999"},
            "g4dn.xlarge",
            "Image ami-1 belongs to account 999999999999 and you work in 123456789012; log in there",
        ),
    ],
)
def test_what_cannot_be_launched_or_judged_is_one_sentence(
    offline: Clients, image: dict[str, Any], name: str, complaint: str
) -> None:
    with pytest.raises(UsageError) as refused:
        promised_gpus(offline, image, name)

    assert str(refused.value).startswith(complaint)


class QuotaOf:
    """Service Quotas with one value."""

    def __init__(self, vcpus: float) -> None:
        self.vcpus = vcpus

    def get_service_quota(self, QuotaCode: str, **_service: str) -> dict[str, Any]:  # noqa: N803 - as boto3 names it
        return {"Quota": {"QuotaCode": QuotaCode, "Value": self.vcpus}}


class ClientsWithQuota(Clients):
    """Clients of an account with a vCPU quota, which moto does not have."""

    vcpus = 0.0

    def client(self, service: str) -> Any:
        return QuotaOf(self.vcpus) if service == "service-quotas" else super().client(service)


def test_a_quota_of_zero_stops_the_launch_with_its_code(clients: Clients) -> None:
    account = ClientsWithQuota(clients.target)

    with pytest.raises(PreflightError, match=r"Quota L-DB2E81BA .* allows 0 vCPUs in us-east-1 and g4dn.xlarge needs"):
        promised_gpus(account, OURS, "g4dn.xlarge")

    account.vcpus = 4.0
    assert promised_gpus(account, OURS, "g4dn.xlarge").count == 1


@pytest.mark.parametrize(("architecture", "name"), [("x86_64", "t3.small"), ("arm64", "t4g.small")])
def test_the_second_clone_has_a_quota_of_its_own(clients: Clients, architecture: str, name: str) -> None:
    account = ClientsWithQuota(clients.target)
    image = {**OURS, "Architecture": architecture}
    account.vcpus = 1.0

    with pytest.raises(PreflightError, match=rf"Quota L-1216C47A .* allows 1 vCPUs in us-east-1 and {name} needs 2;"):
        require_quota_of_second_clone(account, image)

    account.vcpus = 2.0
    require_quota_of_second_clone(account, image)


def test_a_zone_beside_a_subnet_is_refused_and_not_ignored(clients: Clients) -> None:
    in_subnet = replace(clients.target, subnet_id="subnet-1")

    require_choice_of_zone(clients.target, "us-east-1a")
    require_choice_of_zone(in_subnet, "")
    with pytest.raises(UsageError) as refused:
        require_choice_of_zone(in_subnet, "us-east-1a")

    assert str(refused.value) == (
        "Subnet subnet-1 decides the zone (`subnet_id` in gpunodes.toml; the offline cloud has its own);"
        " leave --zone us-east-1a out."
    )
