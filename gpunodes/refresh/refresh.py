"""`refresh-ami`: decide, bake, prove, promote, retire, while nobody else changes the channel.

What a refresh that was stopped has left is gone on with: all that the next run needs is in AWS. The state of an image
is its tag, what is promoted is the channel's parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gpunodes.channel.channel_lock import ChannelLock
from gpunodes.errors import GpunodesError
from gpunodes.operation.runs import LIFE
from gpunodes.operation.steps import Progress
from gpunodes.prune.prune import Pruned
from gpunodes.refresh.decide import BAKE, NOTHING, PROMOTE, WAIT, Decision
from gpunodes.refresh.situation import RefreshPlan

FAILED = "failed"
REFRESHED = "refreshed"
_CHECK_FAILED, _NOT_RETIRED = 1, 3


@dataclass(frozen=True)
class Proof:
    """What a proof said of an image.

    Attributes:
        has_passed: every check did.
        reason: of a proof that failed.
    """

    has_passed: bool
    reason: str = ""


class Work(Protocol):
    """What a refresh lets others do; each holds or is given the channel's lock."""

    def bake(self, lock: ChannelLock) -> str:
        """Bake a candidate and return its id."""

    def prove(self, ami_id: str) -> Proof:
        """Prove it; the verdict becomes its tag."""

    def promote(self, ami_id: str, lock: ChannelLock) -> str:
        """Let the channel name it; return what that names now."""

    def retire(self) -> Pruned:
        """Deprecate what the channel has left behind."""


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did.

    Attributes:
        channel: whose.
        decision: `refreshed`, `failed`, `wait` or `nothing`.
        reason: why, one sentence without its end.
        ami_id: what the channel names now; empty where it names nothing.
        done: what was done, in words, in its order.
        problem: why the older images were not retired; empty where they were, or nothing was promoted.
        plan: what was decided at first.
    """

    channel: str
    decision: str
    reason: str
    ami_id: str
    done: list[str] = field(default_factory=list)
    problem: str = ""
    plan: RefreshPlan | None = None

    @property
    def exit_code(self) -> int:
        """0 done or nothing to do, 1 where the new image failed its proof, 3 where only the end of it went wrong."""
        if self.decision == FAILED:
            return _CHECK_FAILED
        return _NOT_RETIRED if self.problem else 0


def refresh(decide: Callable[[], RefreshPlan], lock: ChannelLock, work: Work, progress: Progress) -> Refreshed:
    """Do what is due for a channel.

    Whether something is due is decided twice: once without the lock, for mostly nothing is, and again with it, for
    another refresh may just have ended.

    Args:
        decide: looks at AWS and says what is due.
        lock: of the channel; taken while something is done, and freed whatever happens.
        work: does it.
        progress: told what was decided.

    Raises:
        PreflightError: another run has the channel.
        GpunodesError: of the bake, the proof or the promotion; what they made is as their errors say.
    """
    planned = decide()
    if not planned.decision.is_due:
        return _nothing(planned)
    lock.acquire()
    try:
        planned = decide()
        progress.say(f"{planned.decision.action}: {planned.decision.reason}")
        return _carry_out(planned, lock, work) if planned.decision.is_due else _nothing(planned)
    finally:
        lock.release()


def _carry_out(planned: RefreshPlan, lock: ChannelLock, work: Work) -> Refreshed:
    decision, done = planned.decision, []
    ami_id = decision.ami_id
    if decision.action == BAKE:
        ami_id = work.bake(lock)
        done.append(f"baked {ami_id}")
    lock.extend(LIFE)  # a proof on many types lasts hours, and whoever finds the lock expired takes it over
    if decision.action != PROMOTE:
        proof = work.prove(ami_id)
        if not proof.has_passed:
            done.append(f"proved {ami_id}, which failed")
            reason = f"{ami_id} failed its proof: {proof.reason.rstrip('.')}"
            return Refreshed(planned.channel, FAILED, reason, planned.promoted_ami, done, plan=planned)
        done.append(f"proved {ami_id}")
        lock.extend(LIFE)
    now_named = work.promote(ami_id, lock)
    done.append(f"promoted {ami_id}")
    problem = _retire(work, done)
    return Refreshed(planned.channel, REFRESHED, decision.reason, now_named, done, problem, planned)


def _retire(work: Work, done: list[str]) -> str:
    """Retire what is old, and say what went wrong: the new image is promoted and stays so."""
    try:
        retired = work.retire()
    except GpunodesError as error:
        return str(error)
    done.extend(f"deprecated {image.ami_id}" for image in retired.done if image.was_done)
    return retired.stopped


def _nothing(planned: RefreshPlan) -> Refreshed:
    decision: Decision = planned.decision
    said = WAIT if decision.action == WAIT else NOTHING
    return Refreshed(planned.channel, said, decision.reason, planned.promoted_ami, plan=planned)
