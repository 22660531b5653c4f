from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunodes.channel.policy import Policy
from gpunodes.prune import prune_plan
from gpunodes.prune.own_images import OwnImage
from gpunodes.prune.prune_plan import DEPRECATE, DEREGISTER, DISABLE, KEEP, Account, Entry
from gpunodes.prune.references import Reference, References

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
NOBODY = References({})


def image(ami_id: str = "ami-1", state: str = "proven", age: timedelta = 90 * DAY) -> OwnImage:
    return OwnImage(ami_id, f"image {ami_id}", "stable", state, NOW - age)


OLD = image()
PROMOTED = image("ami-9", age=DAY)
DEPRECATED = replace(OLD, deprecated_at=NOW - 14 * DAY)
DISABLED = replace(DEPRECATED, is_disabled=True, disabled_at=NOW - 30 * DAY)


def planned(
    *images: OwnImage,
    named: tuple[str, ...] = ("ami-9",),
    references: References = NOBODY,
    policy: Policy | None = None,
) -> list[Entry]:
    policies = {"stable": policy} if policy else {}
    return prune_plan.plan(Account(NOW, [*images, PROMOTED], {"stable": named}, references, policies))


def first(*images: OwnImage, **more: object) -> Entry:
    return planned(*images, **more)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "action", "reason"),
    [
        (OLD, DEPRECATE, "no channel names it any more"),
        (replace(OLD, deprecated_at=NOW + DAY), DEPRECATE, "no channel names it any more"),
        (replace(OLD, deprecated_at=NOW - 13 * DAY), KEEP, "deprecated, is disabled on 26 Nov 2026"),
        (DEPRECATED, DISABLE, "deprecated for 14 days"),
        (replace(DISABLED, disabled_at=NOW - 29 * DAY), KEEP, "disabled, goes on 26 Nov 2026"),
        (DISABLED, DEREGISTER, "disabled for 30 days"),
        (replace(DISABLED, disabled_at=None), KEEP, "disabled by hand, nobody knows when"),
        (image(state="candidate", age=6 * DAY), KEEP, "candidate, and younger than 7 days"),
        (image(state="candidate", age=7 * DAY), DEPRECATE, "candidate for long"),
        (image(state="failed", age=8 * DAY), DEPRECATE, "failed for long"),
        (image(state="", age=90 * DAY), KEEP, "its bake did not end; `invoke reap` removes it"),
        (image(age=timedelta(hours=1)), KEEP, "proven, and nothing newer was promoted in its channel"),
    ],
)
def test_an_image_goes_step_by_step(found: OwnImage, action: str, reason: str) -> None:
    entry = first(found)

    assert entry.action == action
    assert entry.reason.startswith(reason)


@pytest.mark.parametrize("found", [OLD, DEPRECATED, DISABLED])
@pytest.mark.parametrize(
    ("named", "reason"),
    [
        (("ami-1",), "channel stable names it"),
        (("ami-9", "ami-1"), "the way back of channel stable"),
        (("ami-9", "ami-9", "ami-2", "ami-2", "ami-1"), "the way back of channel stable"),
    ],
)
def test_what_a_channel_names_or_may_go_back_to_stays(found: OwnImage, named: tuple[str, ...], reason: str) -> None:
    assert (first(found, named=named).action, first(found, named=named).reason) == (KEEP, reason)


def test_the_way_back_is_as_long_as_the_policy_says() -> None:
    named = ("ami-9", "ami-2", "ami-1")
    between = image("ami-2")

    assert first(DISABLED, between, named=named, policy=Policy(keep_previous=1)).action == DEREGISTER
    assert first(DISABLED, between, named=named, policy=Policy(keep_previous=2)).action == KEEP


@pytest.mark.parametrize("others", [[], [image("ami-2", state="failed")]])
def test_an_image_that_is_gone_or_failed_is_no_way_back(others: list[OwnImage]) -> None:
    entry = first(DISABLED, *others, named=("ami-9", "ami-2", "ami-1"), policy=Policy(keep_previous=1))

    assert (entry.action, entry.reason) == (KEEP, "the way back of channel stable")


def test_whoever_keeps_it_by_hand_is_obeyed() -> None:
    assert first(replace(DISABLED, kept_because="audit")).reason == "kept by hand: audit"


@pytest.mark.parametrize("found", [DEPRECATED, DISABLED])
def test_what_is_in_use_is_neither_disabled_nor_deregistered(found: OwnImage) -> None:
    users = [Reference("ami-1", "instance", f"i-{number} (stopped)") for number in range(3)]

    entry = first(found, references=References({"ami-1": users}))

    assert (entry.action, entry.reason) == (KEEP, "in use by instance i-0 (stopped), instance i-1 (stopped) and 1 more")


def test_what_is_in_use_may_be_deprecated_which_harms_nobody() -> None:
    users = [Reference("ami-1", "instance", "i-0 (running)")]

    assert first(OLD, references=References({"ami-1": users})).action == DEPRECATE


@pytest.mark.parametrize("found", [DEPRECATED, DISABLED])
def test_one_source_that_did_not_answer_stops_disabling_and_deletion(found: OwnImage) -> None:
    entry = first(found, references=References({}, failed={"launch templates": "AccessDenied"}))

    assert entry.action == KEEP
    assert entry.reason.endswith("nobody knows who uses it: launch templates did not answer")


def test_source_that_does_not_exist_in_a_region_stops_nothing() -> None:
    assert first(DISABLED, references=References({}, lacking={"Image Builder": "not here"})).action == DEREGISTER


def test_no_more_than_so_many_go_in_one_run_and_the_oldest_first() -> None:
    images = [replace(DISABLED, ami_id=f"ami-{number}") for number in range(4)]
    account = Account(NOW, [*images, PROMOTED, OLD], {"stable": ["ami-9"]}, NOBODY)

    entries = prune_plan.plan(account, most=2)

    assert [entry.action for entry in entries] == [DEREGISTER, DEREGISTER, KEEP, KEEP, KEEP, DEPRECATE]
    assert entries[2].reason == "deregister is due, after the 2 of this run"


def test_each_action_has_a_cap_of_its_own() -> None:
    stages = [OLD, OLD, DEPRECATED, DEPRECATED, DISABLED, DISABLED]
    images = [replace(stage, ami_id=f"ami-{number}") for number, stage in enumerate(stages)]
    account = Account(NOW, [*images, PROMOTED], {"stable": ["ami-9"]}, NOBODY)

    actions = [entry.action for entry in prune_plan.plan(account, most=1)]

    assert actions == [DEPRECATE, KEEP, DISABLE, KEEP, DEREGISTER, KEEP, KEEP]


def test_image_that_was_protected_by_hand_stays() -> None:
    entry = first(replace(DISABLED, is_protected_by_hand=True))

    assert (entry.action, entry.reason) == (KEEP, "protected from deregistration by hand (with a cool-down)")


def test_plan_is_reconsidered_for_what_was_found_later() -> None:
    entries = planned(DISABLED)
    users = References({"ami-1": [Reference("ami-1", "ec2:Instance", "arn:i-1")]})

    assert prune_plan.reconsider(entries, users)[0].reason == "in use by ec2:Instance arn:i-1"
    assert prune_plan.reconsider(entries, References({}, failed={"EC2": "no"}))[0].action == KEEP
    assert prune_plan.reconsider(entries, NOBODY) == entries


def test_images_of_a_channel_without_promotions_stay() -> None:
    account = Account(NOW, [OLD], {}, NOBODY)

    assert [entry.action for entry in prune_plan.plan(account)] == [KEEP]


moments = st.none() | st.integers(-60, 60).map(lambda days: NOW + days * DAY)
images = st.builds(
    OwnImage,
    st.sampled_from([f"ami-{number}" for number in range(5)]),
    st.just("name"),
    st.sampled_from(["stable", "canary"]),
    st.sampled_from(["candidate", "proven", "failed", ""]),
    st.integers(0, 100).map(lambda days: NOW - days * DAY),
    st.booleans(),
    moments,
    moments,
    st.sampled_from(["", "audit"]),
)
histories = st.dictionaries(
    st.sampled_from(["stable", "canary"]), st.lists(st.sampled_from([f"ami-{number}" for number in range(5)]))
)
users = st.sets(st.sampled_from([f"ami-{number}" for number in range(5)])).map(
    lambda ids: {ami_id: [Reference(ami_id, "instance", "i-1")] for ami_id in ids}
)


@given(
    st.lists(images, unique_by=lambda found: found.ami_id, max_size=5),
    histories,
    users,
    st.sampled_from([{}, {"instances": "no"}]),
    st.integers(0, 3),
)
def test_nothing_in_use_promoted_or_kept_ever_goes(
    found: list[OwnImage],
    named: dict[str, list[str]],
    used: dict[str, list[Reference]],
    failed: dict[str, str],
    most: int,
) -> None:
    entries = prune_plan.plan(Account(NOW, found, named, References(used, failed=failed)), most)

    gone = [entry.image for entry in entries if entry.action in {DISABLE, DEREGISTER}]
    usable = {each.ami_id for each in found if each.state != "failed"}  # the others are no way back
    current = {history[0] for history in named.values() if history}
    for history in named.values():
        current |= set([ami_id for ami_id in dict.fromkeys(history[1:]) if ami_id in usable - {history[0]}][:2])
    assert len(entries) == len(found)
    assert all(sum(entry.action == action for entry in entries) <= most for action in (DEPRECATE, DISABLE, DEREGISTER))
    assert not gone or not failed
    assert all(each.ami_id not in used and each.ami_id not in current and not each.kept_because for each in gone)
    deregistered = [entry.image for entry in entries if entry.action == DEREGISTER]
    assert all(each.is_disabled and each.disabled_at and NOW - each.disabled_at >= 30 * DAY for each in deregistered)
