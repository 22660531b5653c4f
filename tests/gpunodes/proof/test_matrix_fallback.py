from __future__ import annotations

from gpunodes.proof.matrix_fallback import Fallback, Place
from gpunodes.proof.matrix_policy import Entry
from tests.gpunodes.proof.matrix_processes import NO_CAPACITY

ENTRY = Entry(("a", "b"))
ZONES = {"a": ["us-east-1a", "us-east-1b"], "b": ["us-east-1b"]}


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
