from __future__ import annotations

import json
from dataclasses import replace

from gpunodes.channel.channel_report import promotion_document, rollback_document
from gpunodes.channel.promote import Promotion
from gpunodes.channel.rollback import Rollback

PROMOTION = Promotion(
    channel="stable",
    ami_id="ami-2",
    version=2,
    previous_ami="ami-1",
    was_promoted=True,
    objections=[],
    override="",
    regions={"us-west-2": "ami-3"},
    shared_with=["123456789012"],
    run_id="20260101-000000-0000",
    timings=[],
)
ROLLBACK = Rollback("stable", "ami-1", 3, "ami-2", True, "it hangs", {"us-west-2": "ami-4"}, "20260101-000000-0000", [])


def test_document_of_a_promotion_says_what_was_decided_why_and_what_was_done() -> None:
    document = json.loads(json.dumps(promotion_document(PROMOTION)))

    assert (document["decision"], document["reason"], document["ami_id"]) == ("promoted", "it is proven", "ami-2")
    assert document["done"] == ["promoted ami-2", "promoted ami-3 in us-west-2", "shared it with 123456789012"]


def test_promotion_that_changed_nothing_did_nothing() -> None:
    document = promotion_document(replace(PROMOTION, was_promoted=False))

    assert (document["decision"], document["done"]) == ("nothing", [])
    assert document["reason"] == "channel stable names ami-2 already"


def test_document_of_a_rollback_is_of_the_same_form() -> None:
    document = json.loads(json.dumps(rollback_document(ROLLBACK)))

    assert (document["decision"], document["reason"], document["ami_id"]) == ("rolled back", "it hangs", "ami-1")
    assert document["done"] == ["enabled ami-1", "promoted ami-1 again", "promoted ami-4 again in us-west-2"]
