from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunodes.channel.policy import Policy, Window
from gpunodes.plan.plan import Difference
from gpunodes.refresh.decide import BAKE, NOTHING, PROMOTE, PROVE, WAIT, ChannelImage, Situation, decide

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)  # a Wednesday
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ALWAYS = Policy(window=None)
SUNDAYS = Policy()
BASE = Difference("source_ami", "ami-1", "ami-2")
OLD, NEW = "a" * 64, "b" * 64


def image(
    ami_id: str = "ami-0", state: str = "proven", fingerprint: str = OLD, age: timedelta = 3 * DAY
) -> ChannelImage:
    return ChannelImage(ami_id, state, fingerprint, NOW - age)


def changed(*more: ChannelImage, urgency: str = "", age: timedelta = 3 * DAY) -> Situation:
    promoted = image(age=age)
    return Situation(NOW, NEW, promoted, [BASE], [promoted, *more], urgency)


def unchanged(age: timedelta = 3 * DAY) -> Situation:
    promoted = image(age=age)
    return Situation(NOW, OLD, promoted, [], [promoted])


def test_nothing_changed_is_nothing_to_do_and_says_until_when() -> None:
    decision = decide(unchanged(), ALWAYS)

    assert (decision.action, decision.is_due, decision.due_at) == (NOTHING, False, NOW + 27 * DAY)
    assert decision.reason == (
        "nothing has changed since the promoted image was baked; its age demands a new one on 22 December 2026"
    )


def test_channel_without_an_image_gets_one_whatever_the_window() -> None:
    assert decide(Situation(NOW, NEW), SUNDAYS).action == BAKE


def test_change_is_baked_and_named() -> None:
    decision = decide(changed(), ALWAYS)

    assert (decision.action, decision.reason) == (BAKE, "changed: source_ami ami-1 -> ami-2")


def test_change_waits_for_the_window() -> None:
    decision = decide(changed(), SUNDAYS)

    assert (decision.action, decision.due_at) == (WAIT, datetime(2026, 11, 29, 2, tzinfo=UTC))
    assert decision.reason.endswith("the policy says not before Sun 29 Nov 02:00 UTC")


def test_change_waits_for_the_gap() -> None:
    decision = decide(changed(age=5 * HOUR), ALWAYS)

    assert (decision.action, decision.due_at) == (WAIT, NOW + 15 * HOUR)


def test_urgency_waits_for_neither_window_nor_gap_unless_the_policy_wants_it() -> None:
    urgent = changed(urgency="CVE-2026-1", age=HOUR)

    now, window = decide(urgent, SUNDAYS), decide(urgent, replace(SUNDAYS, security="window"))

    assert (now.action, now.reason) == (BAKE, "it is urgent: CVE-2026-1")
    assert window.action == WAIT


def test_age_demands_a_new_image_of_the_same_recipe_at_any_hour() -> None:
    assert decide(unchanged(age=29 * DAY), SUNDAYS).action == NOTHING

    decision = decide(unchanged(age=30 * DAY), SUNDAYS)

    assert (decision.action, decision.reason) == (BAKE, "the promoted image is 30 days old, and 30 days are allowed")


@pytest.mark.parametrize(("state", "action"), [("candidate", PROVE), ("proven", PROMOTE)])
def test_what_an_earlier_refresh_baked_is_not_baked_again(state: str, action: str) -> None:
    decision = decide(changed(image("ami-9", state, NEW[:16], HOUR)), SUNDAYS)

    assert (decision.action, decision.ami_id) == (action, "ami-9")


def test_of_several_the_newest_counts() -> None:
    older, newer = image("ami-8", "proven", NEW, 2 * HOUR), image("ami-9", "candidate", NEW, HOUR)

    assert decide(changed(older, newer), ALWAYS).ami_id == "ami-9"


@pytest.mark.parametrize(
    "other",
    [
        image("ami-9", "candidate", "c" * 64, 25 * HOUR),  # of another recipe
        image("ami-9", "candidate", "", 25 * HOUR),  # of a recipe that nobody knows
        image("ami-9", "retired", NEW, 25 * HOUR),
        image("ami-9", "proven", NEW, 4 * DAY),  # it was baked before the promoted one
    ],
)
def test_another_image_is_not_gone_on_with(other: ChannelImage) -> None:
    assert decide(changed(other), ALWAYS).action == BAKE


def test_recipe_that_failed_is_tried_again_after_the_gap_only_even_if_urgent() -> None:
    failed = image("ami-9", "failed", NEW, HOUR)

    soon = decide(changed(failed, urgency="CVE-2026-1"), ALWAYS)
    later = decide(changed(replace(failed, baked_at=NOW - 20 * HOUR)), ALWAYS)

    assert (soon.action, soon.due_at) == (WAIT, NOW + 19 * HOUR)
    assert later.action == BAKE
    assert later.reason == "changed: source_ami ami-1 -> ami-2; ami-9, of the same recipe, failed its proof"


@pytest.mark.parametrize("state", ["candidate", "proven", "failed"])
def test_recipe_that_was_rolled_back_is_neither_baked_nor_promoted_again(state: str) -> None:
    left = replace(image("ami-9", state, NEW, HOUR), rolled_back="2026-11-25 NCCL hangs")

    held, other = decide(changed(left, urgency="CVE"), ALWAYS), decide(changed(replace(left, fingerprint=OLD)), ALWAYS)

    assert (held.action, held.is_due) == (NOTHING, False)
    assert "the recipe is that of ami-9, which was rolled back (2026-11-25 NCCL hangs): change it" in held.reason
    assert other.action == WAIT


def test_an_agent_that_cannot_be_looked_up_is_no_change_and_is_told() -> None:
    decision = decide(replace(unchanged(), agent_version=None), ALWAYS)

    assert decision.action == NOTHING
    assert "; which CloudWatch agent is published could not be read; its age demands" in decision.reason


@pytest.mark.parametrize(
    ("in_it", "published", "action"),
    [("1.1", "1.2", BAKE), ("1.2", "1.2", PROVE), ("", "1.2", PROVE), ("1.1", "", PROVE)],
)
def test_what_was_begun_with_an_outdated_agent_is_left(in_it: str, published: str, action: str) -> None:
    begun = replace(image("ami-9", "candidate", NEW, 25 * HOUR), agent_version=in_it)

    assert decide(replace(changed(begun), agent_version=published), ALWAYS).action == action


def test_a_newer_agent_ends_what_a_rollback_holds() -> None:
    left = replace(image("ami-9", "proven", NEW, 25 * HOUR), rolled_back="it hangs", agent_version="1.1")

    assert decide(replace(changed(left), agent_version="1.1"), ALWAYS).action == NOTHING
    assert decide(replace(changed(left), agent_version="1.2"), ALWAYS).action == BAKE


ages = st.timedeltas(timedelta(0), timedelta(days=60))
images = st.builds(
    image,
    st.sampled_from(["ami-7", "ami-8"]),
    st.sampled_from(["candidate", "proven", "failed"]),
    st.sampled_from([OLD, NEW]),
    ages,
)
windows = st.none() | st.builds(Window, st.integers(0, 6), st.times(), st.timedeltas(timedelta(minutes=1), DAY))
policies = st.builds(
    Policy,
    st.sampled_from(["now", "window"]),
    windows,
    st.timedeltas(timedelta(minutes=1), DAY),
    st.timedeltas(DAY, timedelta(days=40)),
)
situations = st.builds(
    Situation,
    st.just(NOW),
    st.just(NEW),
    st.none() | st.builds(image, st.just("ami-0"), st.just("proven"), st.sampled_from([OLD, NEW]), ages),
    st.sampled_from([[], [BASE]]),
    st.lists(images, max_size=4),
    st.sampled_from(["", "CVE-2026-1"]),
)


@given(situations, policies)
def test_whoever_waits_is_told_until_when_and_it_is_due_then(situation: Situation, policy: Policy) -> None:
    decision = decide(situation, policy)

    assert (decision.action == WAIT) == (decision.due_at is not None and decision.action != NOTHING)
    if decision.due_at:
        assert decision.due_at > NOW
        assert decide(replace(situation, now=decision.due_at), policy).is_due


@given(situations, policies)
def test_no_two_bakes_are_nearer_than_the_gap_unless_it_is_urgent(situation: Situation, policy: Policy) -> None:
    if decide(situation, policy).action == BAKE and not situation.urgency:
        assert all(NOW - known.baked_at >= policy.minimum_gap for known in situation.images)
