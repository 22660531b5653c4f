"""Deprecate what a channel has left behind: the first stage of a prune, which harms nobody and asks nobody."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from gpunodes.aws import Clients
from gpunodes.prune import account, prune, prune_plan
from gpunodes.prune.prune import Pruned
from gpunodes.prune.prune_plan import DEPRECATE


def retire(clients: Clients, channel: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Pruned:
    """Deprecate the images of a channel that no channel names, and that are no way back.

    Args:
        clients: of the target.
        channel: whose lock is held.
        clock: UTC.

    Raises:
        UsageError: the policy file has a mistake.
        AwsError: images or channels cannot be read; where a deprecation fails, what is returned says so.
    """
    looked = account.look(clients, clock(), sources=())
    due = [
        entry
        for entry in prune_plan.plan(looked, most=len(looked.images))  # a prune counts, a refresh does not
        if entry.action == DEPRECATE and entry.image.channel == channel
    ]  # fmt: skip
    return prune.carry_out(clients, due, clock)
