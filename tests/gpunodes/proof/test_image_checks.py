from __future__ import annotations

from dataclasses import replace

import pytest

from gpunodes.evidence.explain import DigestCheck, InAws, Snapshot
from gpunodes.proof import image_checks

SEALED = InAws(
    state="available",
    owner_id="123456789012",
    creation_date="2030-01-01T12:00:00.000Z",
    is_public=False,
    requires_imdsv2=True,
    deprecation_time=None,
    deregistration_protection=None,
    last_launched_time=None,
    snapshots=(Snapshot("snap-1", 8, is_encrypted=True, has_tags_of_image=True),),
    missing_snapshots=(),
)
PLAIN = (Snapshot("snap-1", 8, is_encrypted=False, has_tags_of_image=True),)


@pytest.mark.parametrize(
    ("aws", "on_aws", "offline", "reason"),
    [
        (SEALED, True, True, "private, encrypted, ImdsSupport v2.0"),
        (replace(SEALED, is_public=True), False, False, "it is public"),
        (replace(SEALED, missing_snapshots=("snap-2",)), False, False, "its snapshot snap-2 is gone"),
        (replace(SEALED, snapshots=PLAIN), False, None, "a snapshot is not encrypted"),
        (replace(SEALED, requires_imdsv2=False), False, None, "it does not require IMDSv2"),
    ],
)
def test_what_an_emulator_cannot_keep_is_unanswered_there_and_fails_on_aws(
    aws: InAws, on_aws: bool, offline: bool | None, reason: str
) -> None:
    strict = image_checks.image_is_sealed(aws, tolerates_missing=False)
    tolerant = image_checks.image_is_sealed(aws, tolerates_missing=True)

    assert (strict.passed, tolerant.passed) == (on_aws, offline)
    assert reason in strict.reason
    assert reason in tolerant.reason


@pytest.mark.parametrize(("outcome", "passed"), [("matches", True), ("differs", False), ("not checked", None)])
def test_the_record_is_the_one_that_was_sealed(outcome: str, passed: bool | None) -> None:
    made = image_checks.image_is_recorded(DigestCheck(outcome, "as it is", "aa", "bb"))

    assert (made.passed, made.reason, made.evidence) == (passed, "as it is", {"tagged": "aa", "local": "bb"})


@pytest.mark.parametrize(
    ("state", "passed", "reason"),
    [
        ("available", True, "ami-1 is available"),
        ("deregistered", False, "ami-1 is deregistered, and was available when this proof began"),
        ("disabled", False, "ami-1 is disabled, and was available when this proof began"),
    ],
)
def test_an_image_that_is_gone_at_the_end_was_proven_for_nobody(state: str, passed: bool, reason: str) -> None:
    made = image_checks.image_is_still_there("ami-1", state)

    assert (made.check_id, made.passed, made.reason) == ("image_is_still_there", passed, reason)
