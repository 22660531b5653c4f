"""A refresh that is stopped at each of its calls in turn, and what the next one makes of it."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from gpunodes.errors import PreflightError
from gpunodes.refresh.refresh import REFRESHED
from tests.gpunodes.lifecycle.account import Account
from tests.gpunodes.lifecycle.api_in_process import Crash, Process, Trouble

_MOST_CALLS = 100
_LONGER_THAN_A_LOCK = timedelta(hours=5)


def refreshed(account: Account, machine: str, trouble: Trouble | None = None) -> Process:
    with account.api.process(trouble) as process:
        assert account.refresh("canary", machine).decision == REFRESHED
    account.api.settle()
    return process


def require_done_once(account: Account, stopped_at: int) -> None:
    """One bake got to its end, the channel names its image, and whatever else there was is gone in time."""
    [images] = account.completed.values()
    assert (stopped_at, account.named("canary"), account.violations) == (stopped_at, images, [])
    assert len(images) == 1
    assert not account.lock_owner("canary")[0]
    account.api.now += _LONGER_THAN_A_LOCK
    assert not account.reap("laptop").failures
    assert (stopped_at, account.orphans()) == (stopped_at, [])


@pytest.fixture
def length(tmp_path: Path) -> int:
    """Calls of a refresh that nothing befalls."""
    process = refreshed(Account(tmp_path / "whole"), "scheduler")
    assert process.ended_by is None
    assert 30 < process.calls < _MOST_CALLS
    return process.calls


def test_killed_after_any_call_it_is_gone_on_with_and_nothing_is_baked_twice(tmp_path: Path, length: int) -> None:
    """By the same machine at once, which knows that it was killed; by another one when its lock is over."""
    taken_over: set[str] = set()
    for number in range(length - 1):
        account = Account(tmp_path / str(number))
        assert isinstance(refreshed(account, "scheduler", Trouble(crash_in=number)).ended_by, Crash)
        is_locked, is_done = bool(account.lock_owner("canary")[0]), bool(account.named("canary"))
        if is_locked and not is_done:
            with pytest.raises(PreflightError, match=r"is being baked by run .* wait for it"):
                account.refresh("canary", "laptop")
        machine = "scheduler" if number % 2 else "laptop"
        account.api.now += timedelta() if number % 2 else _LONGER_THAN_A_LOCK
        account.told.clear()
        if not is_done:
            assert refreshed(account, machine).ended_by is None
            said = [text for text in account.told if "taking the lock over" in text]
            assert len(said) == int(is_locked)
            taken_over |= {"killed" if "which was killed" in text else "expired" for text in said}
        else:  # it named the image, and all that is left is a lock
            account.refresh("canary", machine)
            account.api.now += _LONGER_THAN_A_LOCK
            account.reap(machine)
        require_done_once(account, number)
    assert taken_over == {"killed", "expired"}


def test_refresh_that_outlived_its_lock_does_not_promote_over_another_one(tmp_path: Path, length: int) -> None:
    """Its proof took longer than its lock; whenever another refresh comes, nobody writes without the lock."""
    lost = 0
    for number in range(length // 2, length):
        account = Account(tmp_path / str(number))
        other = Trouble(meet_in=number, meeting=partial(refreshed_or_refused, account, "laptop"))
        with account.api.process(other) as process:
            account.refresh("canary", "scheduler", proof_lasts=_LONGER_THAN_A_LOCK)
        lost += "took so long that another one has channel `canary` now" in str(process.ended_by)
        account.api.settle()
        assert (number, account.violations) == (number, [])
        assert account.tag(account.named("canary")[0], "state") == "proven"
    assert lost


def refreshed_or_refused(account: Account, machine: str) -> None:
    with account.api.process():
        account.refresh("canary", machine)


@pytest.mark.parametrize("was_heard", [False, True])
def test_after_any_call_that_fails_the_next_refresh_gets_to_the_end(
    tmp_path: Path, length: int, was_heard: bool
) -> None:
    """Whether the call was carried out, and only its answer lost, or not; the clean-up may be what fails."""
    for number in range(int(was_heard), length, 3):
        account = Account(tmp_path / str(number))
        process = refreshed(account, "scheduler", Trouble(fail_in=number, was_heard=was_heard))
        if process.ended_by is not None and not account.named("canary"):
            assert refreshed(account, "scheduler").ended_by is None
        account.api.now += _LONGER_THAN_A_LOCK
        account.reap("laptop")
        require_done_once(account, number)
