"""`destroy`: finish what a run left: a test instance that was kept, or the remains of a run that was killed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.cleanup import leftovers
from gpunodes.connection.key_pair import KeyPair
from gpunodes.errors import GpunodesError, InterruptedRunError, UsageError
from gpunodes.operation import runs
from gpunodes.operation.runs import TAG_RUN_ID, Run
from gpunodes.operation.steps import Progress, Step, Timing, run_steps
from gpunodes.proof import launch
from gpunodes.settings import Settings
from gpunodes.target import Target


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


def destroy(target: Target, settings: Settings, progress: Progress, run_id: str | None = None) -> Destroyed:
    """Destroy what one run left, or every run of this checkout that is not going on.

    Args:
        target: where.
        settings: where the runs are.
        progress: told about each run.
        run_id: one run, of another checkout too.

    Raises:
        UsageError: there is no such run, or it is going on.
        GpunodesError: something could not be destroyed; the other runs' remains are gone all the same.
    """
    clients = Clients(target)
    going_on: list[str] = []
    tagged = _tagged(clients)
    runs_here = {folder.name for folder in settings.runs_folder.glob("*") if folder.is_dir()}
    # A run's state says nothing of another target: "destroying" it there would only forget what still exists.
    own = {name for name in runs_here if runs.target_of(settings, name) == target.destination}
    if run_id is None:
        left = sorted(name for name in own if name in tagged or _is_here(target, settings, progress, name))
        going_on = [name for name in left if runs.is_going_on(settings, name)]
        left = [name for name in left if name not in going_on]
    elif run_id in runs_here - own:
        where = runs.target_of(settings, run_id) or "another target"
        raise UsageError(f"Run {run_id} happened on {where}, not on {target.destination}; say so with your options.")
    elif run_id not in own | tagged:
        raise UsageError(f"There is no run {run_id}; `ls {settings.runs_folder}` shows those of this checkout.")
    elif runs.is_going_on(settings, run_id):
        raise UsageError(f"Run {run_id} is going on; interrupt it with Ctrl-C, and it removes what it made.")
    else:
        left = [run_id]
    timings = _destroy_each(target, settings, clients, progress, left)
    return Destroyed(left, going_on, timings)


def _destroy_each(
    target: Target, settings: Settings, clients: Clients, progress: Progress, run_ids: list[str]
) -> list[Timing]:
    timings: list[Timing] = []
    failures: list[GpunodesError] = []

    def destroy_one(name: str) -> None:
        launch.destroy_run(target, settings, clients, Run(name, settings.runs_folder / name), progress)
        leftovers.remove_images(clients, name, sealed=False)

    for name in run_ids:
        try:
            timings += run_steps([Step(f"destroy what run {name} left", partial(destroy_one, name))], progress)
        except InterruptedRunError:
            raise
        except GpunodesError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return timings


def _is_here(target: Target, settings: Settings, progress: Progress, run_id: str) -> bool:
    """Whether something of a run lies on this machine: its key, or the state of its stack."""
    run = Run(run_id, settings.runs_folder / run_id)
    return KeyPair.of(run).private_key.exists() or not launch.stack_of(target, settings, run, progress).is_empty


def _tagged(clients: Clients) -> set[str]:
    filters = [{"Name": "tag-key", "Values": [TAG_RUN_ID]}]
    alive = [*filters, {"Name": "instance-state-name", "Values": leftovers.ALIVE}]
    with aws_errors("looking for what runs left"):
        pages = clients.ec2.get_paginator("describe_instances").paginate(Filters=alive)
        found = [i for page in pages for reservation in page["Reservations"] for i in reservation["Instances"]]
        found += clients.ec2.describe_key_pairs(Filters=filters)["KeyPairs"]
        found += [image for image in _images(clients, filters) if not leftovers.has_state(image)]
    return {tag["Value"] for resource in found for tag in resource.get("Tags", []) if tag["Key"] == TAG_RUN_ID}


def _images(clients: Clients, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pages = clients.ec2.get_paginator("describe_images").paginate(Owners=["self"], Filters=filters)
    return [image for page in pages for image in page["Images"]]
