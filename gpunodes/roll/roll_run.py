"""A roll with the channel's policy, for the command."""

from __future__ import annotations

from collections.abc import Mapping

from gpunodes.aws import Clients
from gpunodes.channel import policy
from gpunodes.operation.steps import Progress
from gpunodes.roll.roll import Roll, Rolled
from gpunodes.roll.wish import wish
from gpunodes.settings import Settings
from gpunodes.target import Target


def roll_channel(target: Target, settings: Settings, progress: Progress, options: Mapping[str, str]) -> Rolled:
    """Bring groups to the image of the settings' channel.

    Args:
        target: where.
        settings: with the channel.
        progress: told what happens.
        options: of the command line, as `wish` takes them.

    Raises:
        GpunodesError: as `Roll.run` and `wish`.
    """
    asked = wish(policy.load(settings.channel), options)
    return Roll(Clients(target), settings.channel, asked, progress).run()
