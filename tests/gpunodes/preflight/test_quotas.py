from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError

from gpunodes.aws import Clients
from gpunodes.errors import AwsError, PreflightError
from gpunodes.preflight import quotas
from gpunodes.preflight.finding import NotAnsweredError, Seen
from tests.gpunodes.fakes import base_image


@dataclass
class FakeQuotas:
    """Service Quotas that allows so many vCPUs of everything."""

    allowed: float
    asked: list[str] = field(default_factory=list)

    def get_service_quota(self, ServiceCode: str, QuotaCode: str) -> dict[str, Any]:  # noqa: N803 - as boto3 names it
        self.asked.append(f"{ServiceCode} {QuotaCode}")
        return {"Quota": {"QuotaCode": QuotaCode, "Value": self.allowed}}


@dataclass
class FakeEc2:
    """EC2 with instances on two pages."""

    instances: list[dict[str, Any]]
    vcpus: dict[str, int] = field(default_factory=lambda: {"g4dn.xlarge": 4, "g5.2xlarge": 8, "p5.48xlarge": 192})
    filters: Any = None

    def get_paginator(self, operation: str) -> FakeEc2:
        assert operation == "describe_instances"
        return self

    def paginate(self, **arguments: Any) -> list[dict[str, Any]]:
        self.filters = arguments["Filters"]
        half = len(self.instances) // 2
        return [{"Reservations": [{"Instances": page}]} for page in (self.instances[:half], self.instances[half:])]

    def describe_instance_types(self, InstanceTypes: list[str]) -> dict[str, Any]:  # noqa: N803
        assert 0 < len(InstanceTypes) <= 100
        return {
            "InstanceTypes": [
                {"InstanceType": name, "VCpuInfo": {"DefaultVCpus": self.vcpus.get(name, 1)}} for name in InstanceTypes
            ]
        }


def instance(instance_type: str, **more: Any) -> dict[str, Any]:
    return {"InstanceType": instance_type, **more}


def check(
    allowed: float, instances: list[dict[str, Any]], name: str = "g4dn.xlarge", vcpus: int = 4, *, spot: bool = False
) -> Seen[float]:
    return quotas.check(FakeEc2(instances), FakeQuotas(allowed), name, vcpus, "us-east-1", spot=spot)


@pytest.mark.parametrize(
    ("instance_type", "on_demand", "spot"),
    [
        ("g4dn.xlarge", "L-DB2E81BA", "L-3819A6DF"),
        ("g6f.large", "L-DB2E81BA", "L-3819A6DF"),
        ("vt1.3xlarge", "L-DB2E81BA", "L-3819A6DF"),
        ("p4d.24xlarge", "L-417A185B", "L-7212CCBC"),
        ("p5.48xlarge", "L-417A185B", "L-C4BD4855"),
        ("p5en.48xlarge", "L-417A185B", "L-C4BD4855"),
        ("m5.large", "L-1216C47A", "L-34B43A08"),
        ("im4gn.large", "L-1216C47A", "L-34B43A08"),
    ],
)
def test_every_type_has_the_quota_of_its_family(instance_type: str, on_demand: str, spot: str) -> None:
    found = [quotas.quota_of(instance_type, spot=is_spot) for is_spot in (False, True)]

    assert [quota.code for quota in found if quota] == [on_demand, spot]


@pytest.mark.parametrize(
    "instance_type", ["trn1.2xlarge", "inf2.xlarge", "mac2.metal", "hpc7a.12xlarge", "u-6tb1.metal"]
)
def test_family_without_a_known_quota_is_said(instance_type: str) -> None:
    with pytest.raises(NotAnsweredError, match=f"No vCPU quota is known for {instance_type}; look it up"):
        check(100, [], instance_type)


def test_quota_with_room_passes_with_its_figures() -> None:
    seen = check(12, [instance("g5.2xlarge")])

    assert seen.error is None
    assert seen.fact == 0
    assert seen.text == "Quota L-DB2E81BA allows 12 vCPUs, 8 are in use and g4dn.xlarge needs 4."
    assert seen.evidence == {
        "code": "L-DB2E81BA",
        "name": "Running On-Demand G and VT instances",
        "needed_vcpus": 4,
        "allowed_vcpus": 12,
        "used_vcpus": 8,
    }


@pytest.mark.parametrize(
    ("allowed", "running", "sentence"),
    [
        (
            0,
            [],
            (
                "Quota L-DB2E81BA (Running On-Demand G and VT instances)"
                " allows 0 vCPUs in us-east-1 and g4dn.xlarge needs"
                " 4; ask for at least 4 in Service Quotas."
            ),
        ),
        (
            3,
            [],
            (
                "Quota L-DB2E81BA (Running On-Demand G and VT instances)"
                " allows 3 vCPUs in us-east-1 and g4dn.xlarge needs"
                " 4; ask for at least 4 in Service Quotas."
            ),
        ),
        (
            11,
            [instance("g5.2xlarge")],
            (
                "Quota L-DB2E81BA (Running On-Demand G and VT instances)"
                " allows 11 vCPUs in us-east-1, of which 8 are in"
                " use, and g4dn.xlarge needs 4; stop what you do not need, or ask for at least 12 in Service Quotas."
            ),
        ),
    ],
    ids=["zero", "too small", "used up"],
)
def test_quota_without_room_is_a_preflight_error_of_one_sentence(
    allowed: float, running: list[dict[str, Any]], sentence: str
) -> None:
    seen = check(allowed, running)

    assert seen.error is PreflightError
    assert seen.text == sentence


def test_only_what_counts_against_the_same_quota_is_in_use() -> None:
    running = [
        instance("g4dn.xlarge"),
        instance("g4dn.xlarge", InstanceLifecycle="spot"),
        instance("g5.2xlarge", InstanceLifecycle="capacity-block"),
        instance("g5.2xlarge", Placement={"Tenancy": "host"}),
        instance("p5.48xlarge"),
        instance("m5.large"),
    ]

    assert check(100, running).evidence["used_vcpus"] == 4
    assert check(100, running, spot=True).evidence["used_vcpus"] == 4
    assert check(400, running, "p4d.24xlarge", 96).evidence["used_vcpus"] == 192


def test_instances_of_more_types_than_one_call_takes_are_counted() -> None:
    assert check(1000, [instance(f"g4dn.{number}xlarge") for number in range(250)]).evidence["used_vcpus"] == 250


def test_stopped_instances_are_not_asked_for() -> None:
    ec2 = FakeEc2([])

    quotas.check(ec2, FakeQuotas(4), "g4dn.xlarge", 4, "us-east-1", spot=False)

    assert ec2.filters == [{"Name": "instance-state-name", "Values": ["pending", "running"]}]


def test_running_instances_are_counted_in_moto(clients: Clients) -> None:
    image = base_image(clients)
    for name in ("g4dn.xlarge", "g4dn.xlarge", "g5.2xlarge", "m5.large"):
        clients.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType=name)
    quota = quotas.quota_of("g4dn.xlarge", spot=False)

    assert quota is not None
    assert quotas.used_vcpus(clients.ec2, quota) == 16


def test_answer_about_another_quota_is_an_error() -> None:
    class Other:
        def get_service_quota(self, **_arguments: str) -> dict[str, Any]:
            return {"Quota": {"QuotaCode": "L-00000000", "Value": 100.0}}

    with pytest.raises(AwsError, match="gave no value for L-DB2E81BA"):
        quotas.check(FakeEc2([]), Other(), "g4dn.xlarge", 4, "us-east-1", spot=False)


def test_refusal_is_an_error() -> None:
    class Refusing:
        def get_service_quota(self, **_arguments: str) -> dict[str, Any]:
            raise ClientError({"Error": {"Code": "TooManyRequestsException"}}, "GetServiceQuota")

    with pytest.raises(AwsError, match="refused while asking for quota L-DB2E81BA"):
        quotas.check(FakeEc2([]), Refusing(), "g4dn.xlarge", 4, "us-east-1", spot=False)
