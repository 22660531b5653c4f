from __future__ import annotations

import pytest

from gpunodes.proof.check import Check, check, in_order, reason, result, table

GOOD = check("gpumon_is_active", True, "systemd says: active")
BAD = check("gpus_are_there", False, "3 of 4 GPUs")
WORSE = check("no_unit_failed", False, "failed: x.service")
UNANSWERED = check("image_is_sealed", None, "this API does not keep it")
ELSEWHERE = check("image_is_recorded", None, "image.json is not on this machine")


def test_what_is_said_of_a_check_is_data() -> None:
    assert (
        Check(
            "gpumon_is_active",
            "services",
            "gpumon.service is active",
            "the image publishes GPU metrics without anyone logging in",
            True,
            "systemd says: active",
        )
        == GOOD
    )
    with pytest.raises(KeyError):
        check("nonsense", True, "")


def test_every_row_says_what_a_report_needs() -> None:
    groups = ["image", "boot", "services", "gpus", "memory", "datapoints"]
    assert list(dict.fromkeys(row["group"] for row in table().values())) == groups
    assert len({row["name"] for row in table().values()}) == len(table())
    for row in table().values():
        assert {"group", "name", "proves"} <= set(row)
        assert not row["name"].endswith(".")


def test_a_report_shows_them_in_the_order_of_the_table() -> None:
    assert in_order([BAD, GOOD, WORSE, UNANSWERED]) == [UNANSWERED, WORSE, GOOD, BAD]


@pytest.mark.parametrize(
    ("checks", "tolerates", "expected"),
    [
        ([GOOD], False, "passed"),
        ([GOOD, BAD], False, "failed"),
        ([GOOD, BAD], True, "failed"),
        ([GOOD, UNANSWERED], False, "failed"),
        ([GOOD, UNANSWERED], True, "passed"),
        ([GOOD, ELSEWHERE], False, "passed"),
        ([], True, "failed"),
    ],
)
def test_a_verdict_is_all_of_them(checks: list[Check], tolerates: bool, expected: str) -> None:
    assert result(checks, tolerates_unanswered=tolerates) == expected


def test_the_reason_names_the_first_that_does_not_hold() -> None:
    assert reason([GOOD, BAD, WORSE], tolerates_unanswered=True) == (
        "no systemd unit failed: failed: x.service (and 1 more)"
    )
    assert reason([GOOD, UNANSWERED], tolerates_unanswered=False).startswith("the image is private, encrypted")
    assert reason([GOOD, UNANSWERED], tolerates_unanswered=True) == ("1 of 2 checks passed, 1 cannot be answered here")
    assert reason([GOOD], tolerates_unanswered=False) == "1 of 1 checks passed"
