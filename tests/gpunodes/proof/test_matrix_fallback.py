from __future__ import annotations

import pytest

from gpunodes.proof.matrix_fallback import Fallback, Place, failed_zone, is_lack_of_capacity
from gpunodes.proof.matrix_policy import Entry
from tests.gpunodes.proof.matrix_processes import NO_CAPACITY

ENTRY = Entry(("a", "b"))
ZONES = {"a": ["us-east-1a", "us-east-1b"], "b": ["us-east-1b"]}
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
    assert is_lack_of_capacity(error)


@pytest.mark.parametrize(
    "error", ["`terraform apply` failed: api error VcpuLimitExceeded: You have requested more vCPU", "SSH is away."]
)
def test_another_error_is_none(error: str) -> None:
    assert not is_lack_of_capacity(error)


@pytest.mark.parametrize(
    ("error", "zone"),
    [(NO_CAPACITY.format(zone="us-west-2-lax-1a"), "us-west-2-lax-1a"), (UNSUPPORTED, "us-east-1e"), ("none", "")],
)
def test_the_zone_that_aws_had_chosen_is_read_from_its_sentence(error: str, zone: str) -> None:
    assert failed_zone(error) == zone


def places(fallback: Fallback, error: str = "") -> list[str]:
    place: Place | None = fallback.first
    found = []
    while place is not None:
        found.append(str(place))
        place = fallback.after(place, error)
    return found


def test_zones_come_first_then_the_next_type() -> None:
    assert places(Fallback(ENTRY, ZONES)) == ["a", "a in us-east-1a", "a in us-east-1b", "b", "b in us-east-1b"]


def test_a_zone_that_was_named_comes_first_and_once() -> None:
    assert places(Fallback(ENTRY, ZONES, "us-east-1b")) == ["a in us-east-1b", "a in us-east-1a", "b in us-east-1b"]


def test_a_zone_that_aws_tried_is_not_tried_again_for_that_type() -> None:
    fallback = Fallback(ENTRY, ZONES)

    assert fallback.after(fallback.first, NO_CAPACITY.format(zone="us-east-1a")) == Place("a", "us-east-1b")


def test_types_without_known_zones_are_tried_where_aws_likes() -> None:
    assert places(Fallback(ENTRY, {})) == ["a", "b"]
