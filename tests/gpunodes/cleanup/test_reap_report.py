from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from rich.console import Console

from gpunodes.cleanup import reap_report
from gpunodes.cleanup.reap import Leftover, Plan, Reaped
from gpunodes.cleanup.resources import Resource

RUN_ID = "20300101-000000-abcd"
EXPIRED = datetime(2030, 1, 1, 4, tzinfo=UTC)


def leftover(kind: str, name: str) -> Leftover:
    return Leftover(kind, name, RUN_ID, EXPIRED, "expired 2 h ago", timedelta(hours=6), Resource(kind, name, RUN_ID))


ROLE, GROUP = leftover("role", f"gpunodes-{RUN_ID}-bake"), leftover("security group", "sg-0123456789abcdef0")
PLAN = Plan([GROUP, ROLE], [], [], [])


def shown(reaped: Reaped, width: int = 60) -> str:
    out = io.StringIO()
    reap_report.show(reaped, Console(file=out, width=width, soft_wrap=True, highlight=False))
    return out.getvalue()


def test_what_would_go_is_a_table_with_reasons_whose_ids_can_be_copied() -> None:
    text = shown(Reaped(PLAN, False, [], []))

    rows = [line.split("  ") for line in text.splitlines() if "expired" in line]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows] == [
        ["security group", GROUP.id, RUN_ID, "6 h", "expired 2 h ago"],
        ["role", ROLE.id, RUN_ID, "6 h", "expired 2 h ago"],
    ]
    assert "2 would go" in text
    assert "nothing was deleted; `invoke reap --apply` does it" in text


def test_what_went_and_what_did_not_are_told_apart() -> None:
    text = shown(Reaped(PLAN, True, [GROUP], ["AWS refused while deleting the role."]))

    assert [line.split()[-1] for line in text.splitlines() if "expired" in line] == ["deleted", "failed"]
    assert "1 of 2 deleted" in text
    assert "failed: AWS refused while deleting the role." in text


def test_a_plan_with_gaps_says_so() -> None:
    failures = ["AWS refused while looking for images."]

    text = shown(Reaped(Plan([], failures, [], []), False, [], failures))

    assert "nothing has expired, as far as could be seen" in text
    assert failures[0] in text


def test_what_was_left_alone_is_named() -> None:
    text = shown(Reaped(Plan([], [], [RUN_ID], ["security group sg-1"]), False, [], []), width=200)

    assert f"going on and left alone: {RUN_ID}" in text
    assert "security group sg-1 carries neither an expiry nor a time" in text


def test_the_document_is_plain_json() -> None:
    timeless = replace(ROLE, age=None, expires_at=None)
    reaped = Reaped(Plan([GROUP, timeless], [], [], []), True, [GROUP], ["x"])

    document = json.loads(json.dumps(reap_report.document(reaped)))

    assert document["result"] == "reaped"
    assert document["is_complete"] is False
    assert document["leftovers"][0] == {
        "kind": "security group", "id": GROUP.id, "run_id": RUN_ID, "expires_at": "2030-01-01T04:00:00+00:00",
        "age_seconds": 21600, "reason": "expired 2 h ago", "is_deleted": True,
    }  # fmt: skip
    assert [document["leftovers"][1][key] for key in ("expires_at", "age_seconds", "is_deleted")] == [None, None, False]
