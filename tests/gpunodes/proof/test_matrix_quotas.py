from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gpunodes.aws import Clients
from gpunodes.errors import AwsError, PreflightError
from gpunodes.proof import matrix_policy, matrix_quotas
from gpunodes.proof.launch import Wish
from tests.gpunodes.fakes import base_image

IMAGE = {"ImageId": "ami-1", "OwnerId": "123456789012", "Architecture": "x86_64"}
G, P, STANDARD = "L-DB2E81BA", "L-417A185B", "L-1216C47A"
G_SPOT = "L-3819A6DF"
VCPUS = {"t3.small": 2, "g4dn.xlarge": 4, "g5.xlarge": 4, "g6.xlarge": 4, "g5.12xlarge": 48, "p4d.24xlarge": 96}


class QuotasOf:
    """Service Quotas with a value for each code; of a code that it was not given it allows plenty."""

    def __init__(self, vcpus: Mapping[str, float]) -> None:
        self.vcpus = vcpus
        self.asked: list[str] = []

    def get_service_quota(self, QuotaCode: str, **_service: str) -> dict[str, Any]:  # noqa: N803 - as boto3 names it
        self.asked.append(QuotaCode)
        return {"Quota": {"QuotaCode": QuotaCode, "Value": self.vcpus.get(QuotaCode, 10000.0)}}


class Account(Clients):
    """Clients of an account with vCPU quotas, which moto does not have."""

    def __init__(self, clients: Clients, **vcpus: float) -> None:
        super().__init__(replace(clients.target, tolerates_missing_calls=False))
        self.quotas = QuotasOf({code.replace("_", "-"): value for code, value in vcpus.items()})

    def client(self, service: str) -> Any:
        return self.quotas if service == "service-quotas" else super().client(service)


def needs(types: str, *, spot: bool = False) -> dict[str, list[int]]:
    found = matrix_quotas.needs_of(matrix_policy.read(types).entries, VCPUS, "t3.small", spot=spot)
    return {quota.code: list(each) for quota, each in found.items()}


def test_an_entry_needs_its_largest_type_of_each_quota_and_a_second_clone() -> None:
    assert needs("g4dn.xlarge,g5.xlarge|g5.12xlarge,p4d.24xlarge|g6.xlarge") == {
        G: [4, 48, 4],
        P: [0, 0, 96],
        STANDARD: [2, 2, 2],
    }


def test_second_clones_are_on_demand_whatever_the_others_are() -> None:
    assert needs("g4dn.xlarge,g5.xlarge", spot=True) == {G_SPOT: [4, 4], STANDARD: [2, 2]}


@pytest.mark.parametrize(("limit", "vcpus"), [(1, 48), (2, 52), (3, 56), (9, 56)])
def test_the_largest_may_be_the_ones_that_run_at_once(limit: int, vcpus: int) -> None:
    assert matrix_quotas.at_once([4, 48, 4], limit) == vcpus


def check(account: Account, types: str, limit: str = "", *, spot: bool = False) -> None:
    matrix_quotas.check(account, matrix_policy.read(types, Wish(spot=spot), limit=limit), IMAGE)


def test_what_fits_passes_to_the_last_vcpu(clients: Clients) -> None:
    account = Account(clients, L_DB2E81BA=52, L_1216C47A=4)

    check(account, "g4dn.xlarge,g5.12xlarge,g5.xlarge", limit="2")

    assert sorted(account.quotas.asked) == [STANDARD, G]


@pytest.mark.parametrize(
    ("types", "limit", "quota", "sentence"),
    [
        (
            "g4dn.xlarge,g5.12xlarge,g5.xlarge",
            "",
            {"L_DB2E81BA": 55},
            (
                "What may run at once (3 of the entries) needs 56 vCPUs of quota L-DB2E81BA (Running On-Demand G and VT"
                " instances), which allows 55 in us-east-1; use --limit 2, or ask for at least 56 in Service Quotas."
            ),
        ),
        (
            "g4dn.xlarge,g5.12xlarge,g5.xlarge",
            "2",
            {"L_DB2E81BA": 51},
            (
                "What may run at once (2 of the entries) needs 52 vCPUs of quota L-DB2E81BA (Running On-Demand G and VT"
                " instances), which allows 51 in us-east-1; use --limit 1, or ask for at least 52 in Service Quotas."
            ),
        ),
        (
            "g4dn.xlarge,g5.xlarge,g6.xlarge",
            "",
            {"L_DB2E81BA": 8, "L_1216C47A": 2},
            (
                "What may run at once (3 of the entries) needs 12 vCPUs of quota L-DB2E81BA (Running On-Demand G and VT"
                " instances), which allows 8 in us-east-1; use --limit 1, or ask for at least 12 in Service Quotas."
            ),
        ),
        (
            "g4dn.xlarge",
            "",
            {"L_1216C47A": 1},
            (
                "What may run at once (1 of the entries) needs 2 vCPUs of quota L-1216C47A (Running On-Demand Standard"
                " (A, C, D, H, I, M, R, T, Z) instances), which allows 1 in us-east-1; stop what you do not need, or"
                " ask for at least 2 in Service Quotas."
            ),
        ),
    ],
    ids=["three", "two", "another quota allows fewer", "none"],
)
def test_too_much_at_once_is_one_sentence_with_the_limit_that_fits(
    clients: Clients, types: str, limit: str, quota: dict[str, float], sentence: str
) -> None:
    with pytest.raises(PreflightError) as refused:
        check(Account(clients, **quota), types, limit)

    assert str(refused.value) == sentence


def test_what_runs_already_leaves_less(clients: Clients) -> None:
    clients.ec2.run_instances(ImageId=base_image(clients), MinCount=1, MaxCount=1, InstanceType="g5.2xlarge")

    with pytest.raises(PreflightError, match=r"allows 15 in us-east-1, of which 8 are in use; use --limit 1, or ask"):
        check(Account(clients, L_DB2E81BA=15), "g4dn.xlarge,g5.xlarge")


def test_spot_instances_are_held_against_their_own_quota(clients: Clients) -> None:
    check(Account(clients, L_DB2E81BA=0), "g4dn.xlarge,g5.xlarge", spot=True)
    with pytest.raises(PreflightError, match=r"needs 8 vCPUs of quota L-3819A6DF \(All G and VT Spot Instance"):
        check(Account(clients, L_3819A6DF=4), "g4dn.xlarge,g5.xlarge", spot=True)


def test_quotas_that_cannot_be_read_stop_nobody_where_the_api_has_none(clients: Clients) -> None:
    policy = matrix_policy.read("g4dn.xlarge,g5.xlarge")

    matrix_quotas.check(clients, policy, IMAGE)
    with pytest.raises(AwsError):
        matrix_quotas.check(Clients(replace(clients.target, tolerates_missing_calls=False)), policy, IMAGE)
