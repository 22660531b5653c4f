"""A refresh with the real bake, proof and promotion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from gpunodes.aws import Clients
from gpunodes.bake.bake import bake
from gpunodes.channel import policy
from gpunodes.channel.channel_lock import ChannelLock
from gpunodes.channel.policy import Policy
from gpunodes.channel.promote import channel_lock, promote
from gpunodes.operation import runs
from gpunodes.operation.steps import Progress
from gpunodes.plan.plan import BakePlan, plan
from gpunodes.proof import matrix_policy
from gpunodes.proof.matrix import prove_matrix
from gpunodes.proof.proof import prove
from gpunodes.prune.prune import Pruned
from gpunodes.prune.retire import retire
from gpunodes.refresh.refresh import Proof, Refreshed, Work, refresh
from gpunodes.refresh.situation import RefreshPlan, plan_refresh
from gpunodes.settings import Settings
from gpunodes.target import Target

_PASSED = "passed"


@dataclass(frozen=True)
class _Work:
    """Bake, proof and promotion of one channel.

    Attributes:
        target: where.
        settings: channel, instance types and folders.
        policy: of the channel.
        progress: told about each step.
    """

    target: Target
    settings: Settings
    policy: Policy
    progress: Progress

    def bake(self, lock: ChannelLock) -> str:
        return bake(self.target, self.settings, self.progress, held_lock=lock).ami_id

    def prove(self, ami_id: str) -> Proof:
        if self.policy.test_types:
            types = matrix_policy.read(self.policy.test_types)
            matrix = prove_matrix(self.target, self.settings, self.progress, types, ami_id=ami_id)
            return Proof(matrix.result == _PASSED, matrix.reason)
        verdict = prove(self.target, self.settings, self.progress, ami_id=ami_id)
        return Proof(verdict.result == _PASSED, verdict.reason)

    def promote(self, ami_id: str, lock: ChannelLock) -> str:
        return promote(self.target, self.settings, self.policy, self.progress, ami_id=ami_id, held_lock=lock).ami_id

    def retire(self) -> Pruned:
        return retire(Clients(self.target), self.settings.channel)


def refresh_channel(target: Target, settings: Settings, progress: Progress) -> Refreshed:
    """Do what is due for the settings' channel; nothing, mostly.

    Args:
        target: where.
        settings: channel, instance types and folders.
        progress: told about each step.

    Raises:
        UsageError: the policy file has a mistake.
        PreflightError: another run has the channel, or it names a foreign image.
        GpunodesError: of the bake, the proof or the promotion.
    """
    work = _Work(target, settings, policy.load(settings.channel), progress)
    return run_refresh(
        Clients(target), settings, progress, work=work, bake_plan=lambda: plan(target, settings, progress.say)
    )


def run_refresh(
    clients: Clients,
    settings: Settings,
    progress: Progress,
    *,
    work: Work,
    bake_plan: Callable[[], BakePlan],
    clock: Callable[[], datetime] = runs.utc_now,
) -> Refreshed:
    """The same with whatever bakes, proves and promotes: a run of its own, under the channel's lock.

    Args:
        clients: of the target.
        settings: channel and folders.
        progress: told what was decided.
        work: does what is due.
        bake_plan: what a bake would make now.
        clock: UTC.

    Raises:
        UsageError: the policy file has a mistake.
        PreflightError: another run has the channel, or it names a foreign image.
        GpunodesError: of the bake, the proof or the promotion.
    """

    def decide() -> RefreshPlan:
        return plan_refresh(clients, bake_plan(), clock())

    run = runs.start(settings, clients.target.destination, clock())
    with runs.going_on(run):
        return refresh(decide, channel_lock(clients, settings, run, progress, clock), work, progress)
