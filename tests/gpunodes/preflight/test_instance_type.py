from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from gpunodes.errors import UsageError
from gpunodes.preflight import instance_type
from gpunodes.preflight.account import Subnet


def described(maker: str = "NVIDIA", classes: tuple[str, ...] = ("on-demand", "spot"), **gpu: Any) -> dict[str, Any]:
    return {
        "InstanceType": "g9.xlarge",
        "VCpuInfo": {"DefaultVCpus": 4},
        "SupportedUsageClasses": list(classes),
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        "GpuInfo": {"Gpus": [{"Name": "X", "Manufacturer": maker, "Count": 1, **gpu}]},
    }


@dataclass
class FakeEc2:
    """EC2 that knows one type, offered in some zones, one to a page."""

    answer: dict[str, Any] = field(default_factory=described)
    zones: tuple[str, ...] = ("us-east-1b", "us-east-1a")
    in_region: bool = True

    def describe_instance_types(self, **_names: Any) -> dict[str, Any]:
        return {"InstanceTypes": [self.answer]}

    def get_paginator(self, operation: str) -> FakeEc2:
        assert operation == "describe_instance_type_offerings"
        return self

    def paginate(self, LocationType: str, **_filters: Any) -> list[dict[str, Any]]:  # noqa: N803 - as boto3 names it
        places = self.zones if LocationType == "availability-zone" else ("us-east-1",) * self.in_region
        return [{"InstanceTypeOfferings": [{"InstanceType": "g9.xlarge", "Location": place}]} for place in places]


def test_part_of_a_gpu_is_a_gpu() -> None:
    ec2 = FakeEc2(described(Count=0, LogicalGpuCount=1, GpuPartitionSize=0.125))

    assert instance_type.describe(ec2, "g9.xlarge", spot=False).fact.gpus == 1


def test_gpus_of_another_maker_are_a_usage_error() -> None:
    with pytest.raises(
        UsageError, match=r"g9\.xlarge has GPUs of AMD; name a type with NVIDIA GPUs, like g4dn\.xlarge"
    ):
        instance_type.describe(FakeEc2(described("AMD")), "g9.xlarge", spot=False)


@pytest.mark.parametrize(
    ("spot", "classes", "sentence"),
    [
        (True, ("on-demand",), "g9.xlarge cannot be had as spot, only as on-demand; name a type"),
        (False, ("capacity-block", "spot"), "g9.xlarge cannot be had as on-demand, only as capacity-block, spot; name"),
    ],
)
def test_type_that_cannot_be_had_as_wanted_is_a_usage_error(
    spot: bool, classes: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(UsageError) as caught:
        instance_type.describe(FakeEc2(described(classes=classes)), "g9.xlarge", spot=spot)

    assert str(caught.value).startswith(sentence)


def test_zones_of_every_page_are_seen() -> None:
    seen = instance_type.offered(FakeEc2(), "g9.xlarge", "us-east-1", Subnet())

    assert seen.fact == ["us-east-1a", "us-east-1b"]
    assert seen.text == "g9.xlarge is offered in us-east-1 (2 zones)."


@pytest.mark.parametrize(
    ("ec2", "sentence"),
    [
        (
            FakeEc2(),
            (
                "g9.xlarge is not offered in us-east-1e, where subnet-1 lies; choose a subnet in"
                " us-east-1a, us-east-1b, or another type."
            ),
        ),
        (
            FakeEc2(zones=()),
            "g9.xlarge is not offered in us-east-1e, where subnet-1 lies; choose another region, or another type.",
        ),
        (
            FakeEc2(in_region=False),
            "g9.xlarge is not offered in us-east-1; set another build_instance_type or region.",
        ),
    ],
    ids=["other zones", "no zone", "not in the region"],
)
def test_type_that_is_not_offered_where_the_subnet_lies_is_a_usage_error(ec2: FakeEc2, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        instance_type.offered(ec2, "g9.xlarge", "us-east-1", Subnet("subnet-1", "us-east-1e"))

    assert str(caught.value) == sentence
