"""`destroy`: finish what a run left: a test instance that was kept, or the remains of a run that was killed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from gpunodes import launch, leftovers
from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import UsageError
from gpunodes.runs import TAG_RUN_ID, Run
from gpunodes.settings import Settings
from gpunodes.steps import Progress, Step, Timing, run_steps
from gpunodes.target import Target


@dataclass(frozen=True)
class Destroyed:
    """What `destroy` did.

    Attributes:
        run_ids: runs of which something was left.
        timings: seconds per run.
    """

    run_ids: list[str]
    timings: list[Timing]


def destroy(target: Target, settings: Settings, progress: Progress, run_id: str | None = None) -> Destroyed:
    """Destroy what one run left, or every run of this checkout.

    Args:
        target: where.
        settings: where the runs are.
        progress: told about each run.
        run_id: one run; without it all that this checkout knows of or that carries a run's tag.

    Raises:
        UsageError: there is no such run.
        GpunodesError: something could not be destroyed.
    """
    clients = Clients(target)
    left = _with_leftovers(target, settings, clients, progress)
    if run_id is not None:
        if not (settings.runs_folder / run_id).is_dir() and run_id not in left:
            raise UsageError(f"There is no run {run_id}; `ls {settings.runs_folder}` shows those of this checkout.")
        left = [run_id]

    def destroy_one(name: str) -> None:
        launch.destroy_run(target, settings, clients, Run(name, settings.runs_folder / name), progress)

    steps = [Step(f"destroy what run {name} left", partial(destroy_one, name)) for name in left]
    return Destroyed(left, run_steps(steps, progress))


def _with_leftovers(target: Target, settings: Settings, clients: Clients, progress: Progress) -> list[str]:
    """Runs with a Terraform state that is not empty, and runs whose id is on an instance or a key pair."""
    folders = sorted(settings.runs_folder.iterdir()) if settings.runs_folder.is_dir() else []
    known = [
        folder.name
        for folder in folders
        if not launch.stack_of(target, settings, Run(folder.name, folder), progress).is_empty
    ]
    return sorted({*known, *_tagged(clients)})


def _tagged(clients: Clients) -> set[str]:
    filters = [{"Name": "tag-key", "Values": [TAG_RUN_ID]}]
    alive = [*filters, {"Name": "instance-state-name", "Values": leftovers.ALIVE}]
    with aws_errors("looking for what runs left"):
        pages = clients.ec2.get_paginator("describe_instances").paginate(Filters=alive)
        found = [i for page in pages for reservation in page["Reservations"] for i in reservation["Instances"]]
        found += clients.ec2.describe_key_pairs(Filters=filters)["KeyPairs"]
    return {tag["Value"] for resource in found for tag in resource.get("Tags", []) if tag["Key"] == TAG_RUN_ID}
