"""Whether a fresh instance booted as it should: in time, without errors, with its doors shut and its clock right."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence

from gpunodes.proof.check import Check, check
from gpunodes.proof.clone import Clone, in_common
from gpunodes.proof.instance_facts import InstanceFacts

_CLOCK_SECONDS = 5.0  # EC2's own time service keeps a clock within milliseconds; a minute's datapoint forgives seconds
_REASON_WIDTH = 400
_REFUSED = 401


def of_boot(facts: InstanceFacts, *, boot_budget_seconds: float, allowed: Collection[str]) -> list[Check]:
    """Every check that one look at the instance answers.

    Args:
        facts: of the instance.
        boot_budget_seconds: that a boot may take.
        allowed: what may listen, as `port/protocol`, e.g. `22/tcp`.
    """
    return [
        boots_in_time(facts.boot_seconds, boot_budget_seconds),
        cloud_init_is_done(facts.cloud_init_errors),
        no_unit_failed(facts.failed_units),
        imdsv1_is_refused(facts.imds_v1_status, facts.imds_v2_status),
        nothing_else_listens(facts, allowed),
        clock_is_right(facts.clock_ahead_seconds, facts.clock_error_seconds),
    ]


def boots_in_time(boot_seconds: float | None, budget_seconds: float) -> Check:
    """Whether systemd finished booting within a budget; None means that it has not finished."""
    if boot_seconds is None:
        reason = f"it still boots; the budget is {budget_seconds:.0f} s (`systemctl list-jobs` says what for)"
    else:
        reason = f"{boot_seconds:.1f} s of {budget_seconds:.0f} s"
    evidence = {"boot_seconds": boot_seconds, "budget_seconds": budget_seconds}
    return check("boots_in_time", boot_seconds is not None and boot_seconds <= budget_seconds, reason, evidence)


def cloud_init_is_done(errors: Sequence[str] | None) -> Check:
    """Whether cloud-init left a result, and no error in it."""
    if errors is None:
        reason = "cloud-init left no result: it did not finish, or is not there"
    else:
        reason = _shorten("; ".join(errors)) or "done, no errors"
    return check("cloud_init_is_done", errors is not None and not errors, reason, {"errors": errors})


def no_unit_failed(units: Sequence[str]) -> Check:
    """Whether no systemd unit is in the state failed."""
    reason = _shorten(f"failed: {', '.join(units)}") if units else "none failed"
    return check("no_unit_failed", not units, reason, {"failed_units": list(units)})


def imdsv1_is_refused(v1_status: int | None, v2_status: int | None) -> Check:
    """Whether the metadata service refuses a request without a token, and answers one with a token."""
    passed = v1_status == _REFUSED and v2_status == 200
    if passed:
        reason = "without a token 401, with a token 200"
    elif v1_status == 200:
        reason = "a request without a session token was answered; launch with HttpTokens=required"
    else:
        reason = f"without a token {v1_status or 'no answer'}, with a token {v2_status or 'no answer'}"
    return check("imdsv1_is_refused", passed, reason, {"without_token": v1_status, "with_token": v2_status})


def nothing_else_listens(facts: InstanceFacts, allowed: Collection[str]) -> Check:
    """Whether every socket that takes what comes from outside is on the allow list."""
    strangers = [listener for listener in facts.listeners if listener.door not in allowed]
    named = ", ".join(f"{one.door} ({one.process or 'a process that is hidden'})" for one in strangers)
    seen = ", ".join(sorted({listener.door for listener in facts.listeners})) or "nothing"
    return check(
        "nothing_else_listens",
        not strangers,
        _shorten(f"{named} listens and is not on the allow list" if strangers else f"{seen} listens"),
        {"listeners": [vars(listener) for listener in facts.listeners], "allowed": sorted(allowed)},
    )


def clock_is_right(ahead_seconds: float, error_seconds: float) -> Check:
    """Whether the instance's clock agrees with this machine's; AWS refuses requests from a machine whose own is off."""
    off_seconds = max(0.0, abs(ahead_seconds) - error_seconds)
    direction = "ahead" if ahead_seconds > 0 else "behind"
    passed = off_seconds <= _CLOCK_SECONDS
    reason = "it agrees with this machine's" if passed else f"it is {off_seconds:.0f} s {direction} of this machine's"
    evidence = {"ahead_seconds": ahead_seconds, "error_seconds": error_seconds, "tolerance_seconds": _CLOCK_SECONDS}
    return check("clock_is_right", passed, reason, evidence)


def nothing_is_inherited(clone: Clone, builder_id: str) -> Check:
    """Whether a clone has nothing of the instance that baked its image.

    Args:
        clone: what `verify-clone.sh` said.
        builder_id: that instance; empty where the image does not say: then only the rest was looked at.
    """
    if clone.complaints:
        # One of them may list hundreds of files; the evidence has them all.
        reason = _shorten(" ".join(clone.complaints))
    elif builder_id:
        reason = f"its keys are its own, and no file names {builder_id}, which baked the image"
    else:
        reason = "its keys are its own; which instance baked the image is not known, so no file was searched for it"
    return check(
        "nothing_is_inherited",
        not clone.complaints,
        reason,
        {"identity": dict(clone.identity), "complaints": list(clone.complaints), "builder_id": builder_id or None},
    )


def clones_differ(one: Clone, other: Clone) -> Check:
    """Whether two instances of an image share nothing that each must have for itself."""
    shared = in_common(one, other)
    compared = [name for name in one.identity if other.identity.get(name) is not None]
    if shared:
        reason = f"both have the same {', '.join(shared)}"
    elif compared:
        reason = f"{', '.join(compared)} differ"
    else:
        reason = "there is nothing to compare: one of them does not say who it is"
    evidence = {"one": dict(one.identity), "other": dict(other.identity), "shared": shared}
    return check("clones_differ", bool(compared) and not shared, reason, evidence)


def survives_a_reboot(before: InstanceFacts, after: InstanceFacts, again: Sequence[Check]) -> Check:
    """Whether an instance came back from a reboot as good as it was.

    Args:
        before: what it was like.
        after: what it is like now.
        again: the checks that were made once more.
    """
    wrong = [f"{made.name}: {made.reason}" for made in again if made.passed is False]
    if before.boot_id == after.boot_id:
        wrong.insert(0, "it did not boot again")
    reason = _shorten("; ".join(wrong)) or f"{len(again)} of {len(again)} checks hold again"
    evidence = {"checks": [vars(made) for made in again], "boot_ids": [before.boot_id, after.boot_id]}
    return check("survives_a_reboot", bool(again) and not wrong, reason, evidence)


def _shorten(text: str) -> str:
    return textwrap.shorten(text, _REASON_WIDTH, placeholder=" ...") if len(text) > _REASON_WIDTH else text
