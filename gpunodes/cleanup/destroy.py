"""`destroy`: finish what a run left: a test instance that was kept, or the remains of a run that was killed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from gpunodes.aws import Clients
from gpunodes.cleanup import leftovers, resources
from gpunodes.cleanup.resource_kinds import KINDS
from gpunodes.connection.key_pair import KeyPair
from gpunodes.errors import AwsError, GpunodesError, InterruptedRunError, UsageError
from gpunodes.operation import runs
from gpunodes.operation.runs import Run
from gpunodes.operation.steps import Progress, Step, Timing, run_steps
from gpunodes.proof import launch
from gpunodes.settings import Settings
from gpunodes.target import Target

_MANY = 3


@dataclass(frozen=True)
class Destroyed:
    """What `destroy` did.

    Attributes:
        run_ids: runs of which something was left.
        going_on: runs that were left alone, since their process lives.
        timings: seconds per run.
    """

    run_ids: list[str]
    going_on: list[str]
    timings: list[Timing]


def destroy(
    target: Target, settings: Settings, progress: Progress, run_id: str | None = None, *, everything: bool = False
) -> Destroyed:
    """Destroy what one run left, or every run of this checkout that is not going on.

    Args:
        target: where.
        settings: where the runs are.
        progress: told about each run.
        run_id: one run, of another checkout too.
        everything: every run of this checkout; without it and without a run, only whether anything is left is said.

    Raises:
        UsageError: there is no such run, or it is going on; or something is left, and nobody said whose shall go.
        GpunodesError: something could not be destroyed; the other runs' remains are gone all the same.
    """
    if run_id is not None and everything:
        raise UsageError("Both --run and --all were given; name one.")
    clients = Clients(target)
    if run_id is not None:
        _require_over(target, settings, clients, run_id)
        return Destroyed([run_id], [], _destroy_each(target, settings, clients, progress, [run_id]))
    left, failures = _left_by_this_checkout(target, settings, clients)
    going_on = [name for name in left if runs.is_going_on(settings, name)]
    left = [name for name in left if name not in going_on]
    if left and not everything:
        few = f"{', '.join(left[:_MANY])}{' and others' if len(left) > _MANY else ''}"
        raise UsageError(f"Something is left of {few}; name one with --run, or all with --all.")
    timings = _destroy_each(target, settings, clients, progress, left)
    if failures:  # of what could not be looked for, something may be left
        raise failures[0]
    return Destroyed(left, going_on, timings)


def _left_by_this_checkout(target: Target, settings: Settings, clients: Clients) -> tuple[list[str], list[AwsError]]:
    """Runs of this checkout of which AWS has something, or this machine the key; and what could not be looked for."""
    made: set[str] = set()
    failures: list[AwsError] = []
    for kind in KINDS:
        try:
            made |= {found.run_id for found in resources.find(kind, clients, None) if not found.is_sealed}
        except AwsError as error:
            if leftovers.is_the_same_for_every_kind(error):
                raise
            failures.append(error)
    own = {name for name in _runs_here(settings) if runs.target_of(settings, name) == target.destination}
    with_key = {name for name in own if KeyPair.of(Run(name, settings.runs_folder / name)).private_key.exists()}
    return sorted(made & own | with_key), failures


def _runs_here(settings: Settings) -> set[str]:
    return {folder.name for folder in settings.runs_folder.glob("*") if folder.is_dir()}


def _require_over(target: Target, settings: Settings, clients: Clients, run_id: str) -> None:
    """That a run may be destroyed here.

    Raises:
        UsageError: nobody knows it, it is another target's, or it is going on.
    """
    if run_id in _runs_here(settings):
        where = runs.target_of(settings, run_id)
        if where != target.destination:
            where = where or "another target"
            raise UsageError(
                f"Run {run_id} happened on {where}, not on {target.destination}; say so with your options."
            )
    elif not leftovers.of_run(clients, run_id):
        raise UsageError(f"There is no run {run_id}; `ls {settings.runs_folder}` shows those of this checkout.")
    if runs.is_going_on(settings, run_id):
        raise UsageError(f"Run {run_id} is going on; interrupt it with Ctrl-C, and it removes what it made.")


def _destroy_each(
    target: Target, settings: Settings, clients: Clients, progress: Progress, run_ids: list[str]
) -> list[Timing]:
    timings: list[Timing] = []
    failures: list[GpunodesError] = []

    def destroy_one(run: Run) -> None:
        launch.require_nothing_left(run, launch.destroy_run(target, settings, clients, run, progress))

    for name in run_ids:
        run = Run(name, settings.runs_folder / name)
        try:
            timings += run_steps(
                [Step(f"destroy what run {name} left", partial(destroy_one, run))],
                progress,
                remedy=f"run `{launch.destroy_command(target, name)}`",
            )
        except InterruptedRunError:
            raise
        except GpunodesError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return timings
