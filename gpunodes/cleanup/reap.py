"""`reap`: remove what runs left in a region and what has expired since, from any machine.

A run removes what it made; this is for runs that could not: killed, cut off, or run by a machine that is gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from gpunodes.aws import Clients
from gpunodes.cleanup import leftovers, resource_kinds, resources
from gpunodes.cleanup.resource_kinds import INSTANCE, KINDS
from gpunodes.cleanup.resources import Kind, Resource
from gpunodes.connection.key_pair import KeyPair
from gpunodes.errors import AwsError, GpunodesError, PreflightError
from gpunodes.operation import journal, runs
from gpunodes.operation.runs import Run
from gpunodes.settings import Settings
from gpunodes.target import Target

_GRACE = timedelta(hours=24)
_INCOMPLETE = 3


@dataclass(frozen=True)
class Leftover:
    """Something that goes.

    Attributes:
        kind: what it is, e.g. "security group".
        id: EC2's id, or IAM's or the key pair's name.
        run_id: the run that made it.
        expires_at: UTC; None for what an older version made.
        reason: why it goes.
        age: since it was made; None where nothing says.
        resource: what deletes it.
    """

    kind: str
    id: str
    run_id: str
    expires_at: datetime | None
    reason: str
    age: timedelta | None
    resource: Resource = field(repr=False)


@dataclass(frozen=True)
class Plan:
    """What would go.

    Attributes:
        leftovers: in the order in which they can go.
        failures: a sentence for each kind that could not be looked for, so that nothing of it is in the plan.
        going_on: runs of this machine that go on: nothing of theirs is in the plan.
        undated: resources of runs that carry neither an expiry nor a time; a person must judge them.
    """

    leftovers: list[Leftover]
    failures: list[str]
    going_on: list[str]
    undated: list[str]


@dataclass(frozen=True)
class Reaped:
    """What `reap` did, or would do.

    Attributes:
        plan: what was found.
        is_applied: whether anything was deleted at all.
        gone: what was.
        failures: a sentence for each that was not, and those of the plan.
    """

    plan: Plan
    is_applied: bool
    gone: list[Leftover]
    failures: list[str]

    @property
    def exit_code(self) -> int:
        """0, or 3 where a call failed: something may be left that nobody saw or could delete."""
        return _INCOMPLETE if self.failures else 0


def plan(
    clients: Clients,
    now: datetime,
    *,
    run_id: str | None = None,
    is_going_on: Callable[[str], bool] = lambda _run_id: False,
    is_over: Callable[[str], bool] = lambda _run_id: False,
    kinds: Sequence[Kind] = KINDS,
) -> Plan:
    """Look for everything that runs left and that has expired, kind by kind; nothing is changed.

    Args:
        clients: of the region; IAM's part is of the whole account.
        now: UTC.
        run_id: only what this run left.
        is_going_on: whether a run still lives on this machine.
        is_over: whether a run is known to have ended; where it is named, its leftovers need not have expired.
        kinds: in the order in which they can go.

    Raises:
        PreflightError: the credentials are not accepted.
    """
    found: list[Leftover] = []
    failures: list[str] = []
    going_on: set[str] = set()
    undated: list[str] = []
    for kind in kinds:
        try:
            candidates = resources.find(kind, clients, run_id)
        except PreflightError:
            raise
        except GpunodesError as error:
            failures.append(str(error))
            continue
        for resource in sorted(candidates, key=lambda candidate: (candidate.run_id, candidate.id)):
            if resource.is_sealed:
                continue
            if is_going_on(resource.run_id):
                going_on.add(resource.run_id)
            elif resource.expires_at is None and resource.created_at is None:
                undated.append(f"{resource.kind} {resource.id}")
            elif reason := _reason(resource, now) or _over(resource, run_id, is_over):
                found.append(_leftover(resource, reason, now))
    return Plan(found, failures, sorted(going_on), undated)


def reap(
    clients: Clients,
    what: Plan,
    *,
    wait: Callable[[float], None] = time.sleep,
    record: Callable[[Leftover, str], None] = lambda _leftover, _failure: None,
    kinds: Sequence[Kind] = KINDS,
) -> Reaped:
    """Delete what a plan names, kind by kind; what fails is noted and the rest goes on. May be repeated.

    Args:
        clients: those of the plan.
        what: the plan.
        wait: seconds, for instances that end and what they still hold.
        record: told of each leftover, with the sentence of its failure or an empty one.
        kinds: those of the plan.
    """
    gone: list[Leftover] = []
    failures = list(what.failures)
    for kind in kinds:
        batch = [leftover for leftover in what.leftovers if leftover.kind == kind.name]
        outcomes = {leftover.id: _delete(kind, clients, leftover, wait) for leftover in batch}
        if kind is INSTANCE:
            outcomes |= _still_running(clients, [name for name, failure in outcomes.items() if not failure], wait)
        for leftover in batch:
            record(leftover, outcomes[leftover.id])
        gone += [leftover for leftover in batch if not outcomes[leftover.id]]
        failures += [failure for failure in outcomes.values() if failure]
    return Reaped(what, True, gone, failures)


def reap_region(
    target: Target,
    settings: Settings,
    *,
    apply: bool,
    run_id: str | None = None,
    now: datetime | None = None,
    wait: Callable[[float], None] = time.sleep,
    kinds: Sequence[Kind] = KINDS,
) -> Reaped:
    """`invoke reap`: the plan, and with `apply` what it names; the journals of this checkout's runs are told.

    Args:
        target: account and region.
        settings: where the runs of this checkout are.
        apply: delete; without it nothing is changed.
        run_id: only what this run left.
        now: UTC; the clock's by default.
        wait: seconds.
        kinds: what to look for, in the order in which it can go.

    Raises:
        PreflightError: the credentials are not accepted.
    """
    clients = Clients(target)
    alive, over = partial(runs.is_going_on, settings), partial(runs.is_over, settings)
    what = plan(clients, now or datetime.now(UTC), run_id=run_id, is_going_on=alive, is_over=over, kinds=kinds)
    if not apply:
        return Reaped(what, False, [], list(what.failures))
    reaped = reap(clients, what, wait=wait, record=partial(_tell_journal, settings), kinds=kinds)
    for name in {leftover.run_id for leftover in what.leftovers} | ({run_id} if run_id else set()):
        _remove_private_key(settings, name)
    return reaped


def _remove_private_key(settings: Settings, run_id: str) -> None:
    """The half of a run's key that lies in this checkout; it opens nothing any more."""
    if runs.is_over(settings, run_id):
        KeyPair.of(Run(run_id, settings.runs_folder / run_id)).forget()


def _tell_journal(settings: Settings, leftover: Leftover, failure: str) -> None:
    """Only a run of this checkout has its journal here."""
    folder = settings.runs_folder / Path(leftover.run_id).name
    if failure or not leftover.run_id or not folder.is_dir():
        return
    record = journal.Journal(folder / journal.FILE)
    record.reaped("invoke reap", leftover.kind, leftover.id)
    record.close()


def _reason(resource: Resource, now: datetime) -> str:
    """Why it goes; empty for what may stay."""
    if resource.expires_at is not None:
        if resource.expires_at > now:
            return ""
        never = "never sealed, " if resource.kind == resource_kinds.IMAGE.name else ""
        return f"{never}expired {span(now - resource.expires_at)} ago"
    if resource.created_at is None or now - resource.created_at < _GRACE:
        return ""
    return f"no expiry, and made {span(now - resource.created_at)} ago"


def _over(resource: Resource, run_id: str | None, is_over: Callable[[str], bool]) -> str:
    """The reason of what somebody asks to be removed before its time; a kept test instance is only kept until then."""
    return "its run is over" if run_id is not None and is_over(resource.run_id) else ""


def _leftover(resource: Resource, reason: str, now: datetime) -> Leftover:
    age = None if resource.created_at is None else now - resource.created_at.astimezone(UTC)
    return Leftover(resource.kind, resource.id, resource.run_id, resource.expires_at, reason, age, resource)


def _delete(kind: Kind, clients: Clients, leftover: Leftover, wait: Callable[[float], None]) -> str:
    """Empty, or the sentence of the failure."""
    try:
        resources.delete(kind, clients, leftover.resource, wait)
    except GpunodesError as error:
        return str(error)
    return ""


def _still_running(clients: Clients, instance_ids: list[str], wait: Callable[[float], None]) -> dict[str, str]:
    try:
        remaining = leftovers.wait_until_ended(clients, instance_ids, wait)
    except AwsError as error:
        return dict.fromkeys(instance_ids, str(error))
    return {name: f"Instance {name} does not terminate; look at it in the EC2 console." for name in remaining}


def span(elapsed: timedelta) -> str:
    """A time for people: minutes, hours, or days."""
    hours = elapsed / timedelta(hours=1)
    if hours < 1:
        return f"{elapsed / timedelta(minutes=1):.0f} min"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"
