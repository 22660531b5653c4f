from __future__ import annotations

import pytest

from gpunodes.proof import capacity
from tests.gpunodes.proof.matrix_processes import NO_CAPACITY

UNSUPPORTED = (
    "`terraform apply` failed: api error Unsupported: Your requested instance type (p4d.24xlarge) is not supported in"
    " your requested Availability Zone (us-east-1e). Please retry your request."
)


@pytest.mark.parametrize(
    "error",
    [
        NO_CAPACITY.format(zone="us-east-1a"),
        "api error InsufficientHostCapacity: no",
        "api error SpotMaxPriceTooLow: Your Spot request price of 0.1 is lower",
        "api error MaxSpotInstanceCountExceeded: Max spot instance count exceeded",
        "There is no Spot capacity available that matches your request.",
        "Insufficient capacity.",
        UNSUPPORTED,
    ],
)
def test_lack_of_capacity_is_known_by_its_code_or_sentence(error: str) -> None:
    assert capacity.is_lacking(error)


@pytest.mark.parametrize(
    "error", ["`terraform apply` failed: api error VcpuLimitExceeded: You have requested more vCPU", "SSH is away."]
)
def test_another_error_is_none(error: str) -> None:
    assert not capacity.is_lacking(error)


@pytest.mark.parametrize(
    ("error", "zone"),
    [(NO_CAPACITY.format(zone="us-west-2-lax-1a"), "us-west-2-lax-1a"), (UNSUPPORTED, "us-east-1e"), ("none", "")],
)
def test_the_zone_that_aws_had_chosen_is_read_from_its_sentence(error: str, zone: str) -> None:
    assert capacity.failed_zone(error) == zone


@pytest.mark.parametrize(
    ("error", "begin"),
    [
        (
            NO_CAPACITY.format(zone="us-west-2-lax-1a"),
            "AWS has no capacity for g5.xlarge in us-west-2-lax-1a now (InsufficientInstanceCapacity); take another",
        ),
        (UNSUPPORTED, "AWS does not offer g5.xlarge in us-east-1e; take another zone or type ("),
        ("Insufficient capacity.", "AWS has no capacity for g5.xlarge now; take another type or zone ("),
    ],
)
def test_the_sentence_is_short_and_says_as_much_to_a_matrix(error: str, begin: str) -> None:
    sentence = capacity.sentence("g5.xlarge", error, "/runs/1/terraform.log")

    assert sentence.startswith(begin)
    assert sentence.endswith("all that Terraform printed is in /runs/1/terraform.log.")
    assert capacity.is_lacking(sentence)
    assert capacity.failed_zone(sentence) == capacity.failed_zone(error)
