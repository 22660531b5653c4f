"""`prune`: a plan, and with --apply what it says, while no channel can change."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from gpunodes.aws import Clients
from gpunodes.channel import policy
from gpunodes.channel.promote import channel_lock
from gpunodes.errors import UsageError
from gpunodes.operation import runs
from gpunodes.operation.steps import Progress, Step, run_steps
from gpunodes.prune import account, last_look, prune, prune_plan, references
from gpunodes.prune.permissions import named_permissions
from gpunodes.prune.prune import Done, Pruned
from gpunodes.prune.prune_plan import DEREGISTER, DISABLE, KEEP, Entry
from gpunodes.prune.references import References
from gpunodes.settings import Settings
from gpunodes.target import Target

_STOPPED = 3


@dataclass(frozen=True)
class Prune:
    """What a prune found and did.

    Attributes:
        entries: what is planned for each image of ours, oldest first.
        failed: sources of references that did not answer, and why; then nothing is disabled or deleted.
        lacking: sources that do not exist in this region, and why nobody asked them.
        was_applied: whether the plan was carried out.
        done: what became of each image that was handled.
        stopped: why it went no further; empty where it got to the end.
        named: channel -> what it names at home.
    """

    entries: Sequence[Entry]
    failed: Mapping[str, str]
    lacking: Mapping[str, str]
    was_applied: bool = False
    done: Sequence[Done] = field(default_factory=tuple)
    stopped: str = ""
    named: Mapping[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> Counter[str]:
        """How many images each action is planned for."""
        return Counter(entry.action for entry in self.entries)

    @property
    def exit_code(self) -> int:
        """0 where all was answered and done; 3 where a source did not answer, or something stopped it."""
        return _STOPPED if self.failed or self.stopped else 0


def prune_region(
    target: Target,
    settings: Settings,
    progress: Progress,
    *,
    apply: bool,
    most: str = "",
    clock: Callable[[], datetime] = runs.utc_now,
    wait: Callable[[float], None] = time.sleep,
) -> Prune:
    """Plan for every image of ours, at home and in every region of the policies; carry it out where that is asked for.

    Args:
        target: where.
        settings: folders.
        progress: told about each step.
        apply: whether it is carried out; without, nothing changes.
        most: so many images for each action, a whole number from 1; empty for the default.
        clock: UTC.
        wait: sleeps for so many seconds, while EC2 writes a report.

    Raises:
        UsageError: `most` is no such number, or the policy file has a mistake.
        PreflightError: a channel is locked by another run, or a region is switched off.
        AwsError: images or channels cannot be read.
    """
    limit = _limit(most)
    clients = Clients(target)
    if not apply:
        return _planned(clients, limit, clock())
    with named_permissions():
        return _carried_out(clients, settings, progress, limit, clock=clock, wait=wait)


def _carried_out(
    clients: Clients,
    settings: Settings,
    progress: Progress,
    limit: int,
    *,
    clock: Callable[[], datetime],
    wait: Callable[[float], None],
) -> Prune:
    """Plan and do it while every channel is locked."""
    run = runs.start(settings, clients.target.destination, clock())
    found: list[Prune] = []
    channels = sorted({*account.channels_of(clients), *policy.load_all()})  # the locks are at home
    locks = [(name, channel_lock(clients, replace(settings, channel=name), run, progress, clock)) for name in channels]

    def carry_out() -> None:
        planned = _planned(clients, limit, clock())
        pruned = _carry_out(clients, planned, clock, wait)
        found.append(replace(planned, was_applied=True, done=tuple(pruned.done), stopped=pruned.stopped))

    steps = [Step(f"lock channel {name}", lock.acquire, lock.release) for name, lock in locks]
    with runs.going_on(run):
        run_steps([*steps, Step("look who uses what, and let go what is due", carry_out)], progress)
    return found[0]


def _planned(clients: Clients, most: int, now: datetime) -> Prune:
    """Of every region; `most` is of all of them together."""
    entries: list[Entry] = []
    failed: dict[str, str] = {}
    lacking: dict[str, str] = {}
    counts: Counter[str] = Counter()
    everywhere = account.look_everywhere(clients, now)
    for region, looked in everywhere.items():
        of_region = prune_plan.plan(looked, most, counts)
        asked = [looked.references]
        if going := [entry.image.ami_id for entry in of_region if entry.action in {DISABLE, DEREGISTER}]:
            asked.append(references.collect(clients.in_region(region), [last_look.source_of(going)]))
            of_region = prune_plan.reconsider(of_region, asked[-1])
        entries += of_region
        where = "" if region == clients.target.region else f" in {region}"
        for each in asked:
            failed |= {f"{name}{where}": why for name, why in each.failed.items()}
            lacking |= {f"{name}{where}": why for name, why in each.lacking.items()}
    # A source that fails in one region stops all of them: whoever may not ask there has too few permissions here, too.
    entries = prune_plan.reconsider(entries, References(failed=failed))
    named = {channel: names[0] for channel, names in everywhere[clients.target.region].histories.items() if names}
    return Prune(entries, failed, lacking, named=named)


def _carry_out(
    clients: Clients, planned: Prune, clock: Callable[[], datetime], wait: Callable[[float], None]
) -> Pruned:
    """Region by region; what stops one stops all that come after it."""
    done: list[Done] = []
    for region in dict.fromkeys(entry.image.region for entry in planned.entries):
        entries = [entry for entry in planned.entries if entry.image.region == region and entry.action != KEEP]
        if entries:
            pruned = prune.carry_out(clients.in_region(region), entries, clock, wait)
            done += pruned.done
            if pruned.stopped:
                return Pruned(done, pruned.stopped)
    return Pruned(done)


def _limit(most: str) -> int:
    if not most:
        return prune_plan.DEFAULT_MOST
    if not most.isdecimal() or int(most) < 1:
        raise UsageError(f"`--most {most}` must be a whole number from 1.")
    return int(most)
