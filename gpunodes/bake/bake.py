"""`build-ami`: preflight, lock, wheelhouse, a way in, Packer, seal, evidence; whatever happens, nothing else stays."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gpunodes.aws import Clients
from gpunodes.bake import bake_variables
from gpunodes.bake.bake_steps import BakeSteps, given
from gpunodes.channel.channel_lock import ChannelLock
from gpunodes.connection import connection
from gpunodes.evidence import evidence
from gpunodes.operation import durations, runs
from gpunodes.operation.durations import Durations
from gpunodes.operation.journal import FILE as JOURNAL_FILE
from gpunodes.operation.journal import Journal
from gpunodes.operation.runs import Run
from gpunodes.operation.steps import Progress, Timing, run_steps
from gpunodes.plan.plan import COMMAND
from gpunodes.preflight.diagnosis import Diagnosis, doctor
from gpunodes.recipe import base as base_image
from gpunodes.recipe import checkout, flavors, pins
from gpunodes.settings import Settings
from gpunodes.target import Target


@dataclass(frozen=True)
class Baked:
    """What `build-ami` made.

    Attributes:
        run_id: of the bake.
        ami_id: the candidate.
        name: its name.
        channel: what it was baked for.
        flavor: kind of its base image.
        source_ami: the base image.
        fingerprint: of the recipe.
        gpumon_version: in the image.
        packages: how many are in the image.
        evidence: folder with the record of the image.
        notes: what this API could not do.
        packer_seconds: Packer's own part.
        own_seconds: ours.
        timings: seconds per step.
    """

    run_id: str
    ami_id: str
    name: str
    channel: str
    flavor: str
    source_ami: str
    fingerprint: str
    gpumon_version: str
    packages: int
    evidence: Path
    notes: list[str]
    packer_seconds: float
    own_seconds: float
    timings: list[Timing]


def bake(
    target: Target,
    settings: Settings,
    progress: Progress,
    source_ami: str | None = None,
    *,
    held_lock: ChannelLock | None = None,
) -> Baked:
    """Bake an image and leave nothing else behind.

    Args:
        target: where.
        settings: channel, instance types and folders.
        progress: told about each step.
        source_ami: base image instead of the flavor's newest.
        held_lock: of the channel, where the caller holds it already.

    Raises:
        GpunodesError: with the exit code for what went wrong.
    """
    flavor = flavors.load(target.flavor)
    pinned = pins.of_target(target, pins.read())
    run = runs.start(settings, target.destination)
    journal = Journal(run.folder / JOURNAL_FILE, notice=progress.say)
    way_in = connection.of(target, settings, run)
    state = checkout.read()
    clients = Clients(target)
    work = BakeSteps(
        target, settings, run, clients, progress, journal, flavor, pinned, source_ami, way_in, state, held_lock
    )
    options = {"flavor": flavor.name, "channel": settings.channel, "source_ami": source_ami, "spot": settings.spot}
    book = Durations(settings.cache_folder / durations.FILE, progress.say)
    progress.expect(book.typical(target.name, COMMAND))
    with runs.going_on(run), journal.run(COMMAND, target.destination, options, {"git": str(state)}):
        run_steps(work.steps(), progress, journal=journal, timings=work.timings, remedy=_remedy(target, run))
    book.remember(target.name, COMMAND, work.timings)
    return _baked(work)


def diagnose(target: Target, settings: Settings, source_ami: str | None = None) -> Diagnosis:
    """`doctor`: the preflight of a bake, without the bake.

    Args:
        target: where.
        settings: instance type and folders.
        source_ami: base image instead of the flavor's newest.
    """
    now = datetime.now(UTC)
    run = Run(f"{now:%Y%m%d-%H%M%S}-0000", settings.runs_folder / "none")  # names what would be made; nothing is
    flavor, pinned = flavors.load(target.flavor), pins.of_target(target, pins.read())
    clients = Clients(target)
    template = bake_variables.template(target, settings, flavor, pinned, run)
    return doctor(
        target,
        settings,
        clients,
        base=lambda: base_image.resolve(clients, target, flavor, source_ami, now),
        template=template,
    )


def _baked(work: BakeSteps) -> Baked:
    record, packer_seconds = given(work.record), given(work.packer).seconds
    return Baked(
        run_id=work.run.run_id,
        ami_id=record.ami_id,
        name=work.name,
        channel=work.settings.channel,
        flavor=work.flavor.name,
        source_ami=record.base.image_id,
        fingerprint=record.recipe.fingerprint,
        gpumon_version=given(work.wheels).gpumon_version,
        packages=record.packages.count,
        evidence=evidence.image_folder(work.settings, record.ami_id),
        notes=work.notes,
        packer_seconds=packer_seconds,
        own_seconds=sum(timing.seconds for timing in work.timings) - packer_seconds,
        timings=work.timings,
    )


def _remedy(target: Target, run: Run) -> str:
    option = "--offline " if target.name == "offline" else ""
    return f"run `invoke reap {option}--run {run.run_id} --apply`"
