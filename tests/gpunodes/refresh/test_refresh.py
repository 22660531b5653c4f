"""A refresh from its decision to its end, with stand-ins for bake, proof and promotion, and a real lock."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from gpunodes.aws import Clients
from gpunodes.channel.channel_lock import ChannelLock, LockOwner
from gpunodes.errors import AwsError, GpunodesError, PreflightError, ToolError
from gpunodes.prune.prune import Done, Pruned
from gpunodes.prune.prune_plan import DEPRECATE
from gpunodes.refresh.decide import BAKE, NOTHING, PROMOTE, PROVE, WAIT, Decision
from gpunodes.refresh.refresh import FAILED, REFRESHED, Proof, Refreshed, refresh
from gpunodes.refresh.situation import RefreshPlan
from tests.gpunodes.fakes import RecordingProgress

NEW, OLD, OLDER = "ami-0000000000000000b", "ami-0000000000000000a", "ami-00000000000000009"
FAR = datetime(2100, 1, 1, tzinfo=UTC)


def planned(action: str, ami_id: str = "") -> RefreshPlan:
    return RefreshPlan("stable", Decision(action, f"because of {action}", ami_id), OLD, [], "")


@dataclass
class Work:
    """Remembers what it was asked to do, and whether the channel was locked meanwhile."""

    clients: Clients
    proof: Proof = field(default_factory=lambda: Proof(True))
    error: GpunodesError | None = None
    retired: Pruned | GpunodesError = field(default_factory=lambda: Pruned([]))
    calls: list[str] = field(default_factory=list)

    def note(self, call: str) -> None:
        assert lock(self.clients, "other").read().owner is not None, "the channel is not locked"
        self.calls.append(call)

    def bake(self, lock: ChannelLock) -> str:
        assert lock.is_held()
        self.note("bake")
        if self.error:
            raise self.error
        return NEW

    def prove(self, ami_id: str) -> Proof:
        self.note(f"prove {ami_id}")
        return self.proof

    def promote(self, ami_id: str, lock: ChannelLock) -> str:
        assert lock.is_held()
        self.note(f"promote {ami_id}")
        return ami_id

    def retire(self) -> Pruned:
        self.note("retire")
        if isinstance(self.retired, GpunodesError):
            raise self.retired
        return self.retired


def lock(clients: Clients, run_id: str = "20260101-000000-0001") -> ChannelLock:
    return ChannelLock(clients, "stable", LockOwner(run_id, "who", "host"), FAR, lambda _text: None)


def refreshed(clients: Clients, work: Work, *plans: RefreshPlan) -> Refreshed:
    remaining = list(plans)
    return refresh(
        lambda: remaining.pop(0) if len(remaining) > 1 else remaining[0], lock(clients), work, RecordingProgress()
    )


@pytest.mark.parametrize(
    ("plan", "calls"),
    [
        (planned(BAKE), ["bake", f"prove {NEW}", f"promote {NEW}", "retire"]),
        (planned(PROVE, NEW), [f"prove {NEW}", f"promote {NEW}", "retire"]),
        (planned(PROMOTE, NEW), [f"promote {NEW}", "retire"]),
    ],
)
def test_what_is_due_is_done_to_its_end_and_no_more(clients: Clients, plan: RefreshPlan, calls: list[str]) -> None:
    work = Work(clients)

    done = refreshed(clients, work, plan)

    assert work.calls == calls
    assert (done.decision, done.ami_id, done.exit_code, len(done.done)) == (REFRESHED, NEW, 0, len(calls) - 1)
    assert done.problem == ""
    assert done.reason == f"because of {plan.decision.action}"
    assert lock(clients).read().owner is None


@pytest.mark.parametrize(
    "retired",
    [
        Pruned([Done(OLDER, DEPRECATE, True, "old"), Done(OLD, DEPRECATE, False, "in use")], "AWS refused."),
        AwsError("AWS refused."),
    ],
)
def test_old_images_that_stay_leave_the_new_one_promoted_and_are_told(
    clients: Clients, retired: Pruned | GpunodesError
) -> None:
    done = refreshed(clients, Work(clients, retired=retired), planned(PROMOTE, NEW))

    gone = [f"deprecated {OLDER}"] if isinstance(retired, Pruned) else []
    assert (done.decision, done.ami_id, done.done) == (REFRESHED, NEW, [f"promoted {NEW}", *gone])
    assert (done.problem, done.exit_code) == ("AWS refused.", 3)
    assert lock(clients).read().owner is None


@pytest.mark.parametrize("action", [NOTHING, WAIT])
def test_nothing_due_is_nothing_done_and_no_lock(clients: Clients, action: str) -> None:
    work = Work(clients)

    done = refreshed(clients, work, planned(action))

    assert (work.calls, done.decision, done.ami_id, done.exit_code) == ([], action, OLD, 0)
    assert lock(clients).read().version == 0


def test_image_that_fails_its_proof_is_not_promoted(clients: Clients) -> None:
    work = Work(clients, Proof(False, "swap is missing."))

    done = refreshed(clients, work, planned(BAKE))

    assert work.calls == ["bake", f"prove {NEW}"]
    assert (done.decision, done.ami_id, done.exit_code) == (FAILED, OLD, 1)
    assert done.reason == f"{NEW} failed its proof: swap is missing"
    assert lock(clients).read().owner is None


def test_error_frees_the_channel(clients: Clients) -> None:
    work = Work(clients, error=ToolError("Packer failed."))

    with pytest.raises(ToolError, match="Packer failed"):
        refreshed(clients, work, planned(BAKE))

    assert lock(clients).read().owner is None


def test_second_scheduler_is_refused_and_changes_nothing(clients: Clients) -> None:
    work = Work(clients)
    other = lock(clients, "20260101-000000-0002")
    other.acquire()

    with pytest.raises(PreflightError, match="run 20260101-000000-0002"):
        refreshed(clients, work, planned(BAKE))

    assert work.calls == []
    assert other.is_held()


def test_what_another_refresh_did_just_now_is_not_done_again(clients: Clients) -> None:
    work = Work(clients)

    done = refreshed(clients, work, planned(BAKE), planned(NOTHING))

    assert (work.calls, done.decision) == ([], NOTHING)
    assert lock(clients).read().owner is None
