"""The steps of a bake: each a method, each with what it takes to undo it."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gpunodes.aws import Clients
from gpunodes.bake import bake_record, bake_variables, packer, seal
from gpunodes.bake.packer import PackerResult
from gpunodes.bake.seal import Sealed
from gpunodes.channel.channel_lock import ChannelLock, LockOwner
from gpunodes.cleanup import leftovers
from gpunodes.connection.connection import Connection
from gpunodes.connection.key_pair import KeyPair
from gpunodes.errors import GpunodesError
from gpunodes.evidence import evidence
from gpunodes.evidence.image_record import ImageRecord
from gpunodes.operation import runs
from gpunodes.operation.journal import Journal
from gpunodes.operation.runs import Run
from gpunodes.operation.steps import Progress, Step, Timing
from gpunodes.plan import plan
from gpunodes.preflight.checks import checks
from gpunodes.preflight.diagnosis import require
from gpunodes.recipe import ami, wheelhouse
from gpunodes.recipe import base as base_image
from gpunodes.recipe import recipe as recipes
from gpunodes.recipe.base import Base
from gpunodes.recipe.checkout import Checkout
from gpunodes.recipe.flavors import Flavor
from gpunodes.recipe.pins import Pins
from gpunodes.recipe.recipe import Recipe
from gpunodes.recipe.wheelhouse import Wheelhouse
from gpunodes.settings import REPOSITORY, Settings
from gpunodes.target import Target

T = TypeVar("T")


@dataclass
class BakeSteps:
    """A bake while it runs.

    Attributes:
        target: where.
        settings: channel, instance type and folders.
        run: names and tags everything.
        clients: of the target.
        progress: told what goes on.
        journal: the run's.
        flavor: kind of base image.
        pins: of what comes from elsewhere.
        asked_source_ami: of `--source-ami`.
        way_in: how the instance is reached.
        checkout: as it was when the bake began: what happens in it meanwhile is not in the image.
        held_lock: of the channel, where whoever bakes holds it already; None to take and free it here.
        timings: of the steps that are done.
        record: of the image; None before the last step. What the steps between have made is None before them, too.
    """

    target: Target
    settings: Settings
    run: Run
    clients: Clients
    progress: Progress
    journal: Journal
    flavor: Flavor
    pins: Pins
    asked_source_ami: str | None
    way_in: Connection
    checkout: Checkout
    held_lock: ChannelLock | None = None
    timings: list[Timing] = field(default_factory=list)
    account: str | None = None
    packer_version: tuple[int, ...] = ()
    base: Base | None = None
    wheels: Wheelhouse | None = None
    recipe: Recipe | None = None
    packer: PackerResult | None = None
    sealed: Sealed | None = None
    record: ImageRecord | None = None
    is_complete: bool = False

    @property
    def name(self) -> str:
        """Of the image."""
        return bake_variables.image_name(self.run, self.flavor)

    @property
    def _key_pair(self) -> KeyPair:
        return KeyPair.of(self.run)

    @property
    def _lock(self) -> ChannelLock:
        return self.held_lock or ChannelLock(
            self.clients,
            self.settings.channel,
            LockOwner.of(self.run),
            runs.expires_at(self.run),
            self.progress.say,
            partial(runs.is_over, self.settings),
        )

    def _preflight(self) -> None:
        template = bake_variables.template(self.target, self.settings, self.flavor, self.pins, self.run)
        findings = checks(self.target, self.settings, self.clients, base=self._resolve_base, template=template)
        require(findings)
        self.account = next((str(f.evidence["account"]) for f in findings if "account" in f.evidence), None)
        self.packer_version = packer.version()

    def _resolve_base(self) -> Base:
        self.base = base_image.resolve(self.clients, self.target, self.flavor, self.asked_source_ami, datetime.now(UTC))
        return self.base

    def _build_wheelhouse(self) -> None:
        base = given(self.base)
        self.wheels = wheelhouse.ensure(self.settings.cache_folder)
        size = base_image.root_volume_size_gib(base, self.flavor, self.settings.root_volume_size_gib)
        self.recipe = recipes.read(base.image_id, self.flavor.name, self.pins, self.wheels, size)

    def _import_key(self) -> None:
        self._key_pair.import_into(self.clients, self.run)

    def _delete_key(self) -> None:
        self._key_pair.delete_from(self.clients)

    def _open_way_in(self) -> None:
        self.way_in.make(self.clients, given(self.base).image_id)

    def _remove_leftovers(self) -> None:
        """What Packer could not remove itself, and the image too where the bake did not get to its end."""
        try:
            self.way_in.remove(self.clients)
        finally:  # an instance that does not end keeps no image
            if not self.is_complete:
                for ami_id in leftovers.remove_images(self.clients, self.run.run_id):
                    evidence.remove(self.settings, ami_id)

    def _build(self) -> None:
        folder = self.run.folder / "packer"
        packer.lay_out(recipes.TEMPLATE_FOLDER, folder, self.packer_version)
        self._facts_folder.mkdir()
        self.packer = packer.build(
            folder,
            {**self._early_variables(), **self._late_variables()},
            installed=self.packer_version,
            environment=self.target.environment,
            repository=REPOSITORY,
            log=self.run.folder / "packer.log",
            on_step=self.progress.detail,
            on_made=self.journal.made,
            phases=[self.progress, self.journal],
            manifest=self.run.folder / "manifest.json",
        )

    def _seal(self) -> None:
        if not self._lock.is_held():
            raise GpunodesError("This bake took so long that another one has its channel now; bake again.")
        self.sealed = seal.seal(self.clients, given(self.packer).ami_id)

    def _write_evidence(self) -> None:
        """The record first, the state last: an image that has a state is finished in every way."""
        found = bake_record.facts(self._facts_folder)
        now = datetime.now(UTC)
        subject = bake_record.subject(given(self.packer).ami_id, self.name, found, now)
        packages = evidence.write_packages(self.settings, bake_record.packages(self._facts_folder), subject)
        self.record = record = self._record(found, packages, now)
        evidence.write_record(self.settings, self.run, record)
        key, digest = evidence.seal_digest(record)
        tags = {**self._tags(), **bake_record.version_tags(found), key: digest, runs.TAG_STATE: ami.STATE_CANDIDATE}
        seal.tag(self.clients, record.ami_id, given(self.sealed).snapshot_ids, tags)
        self.is_complete = True

    def _record(self, found: dict[str, Any], packages: Any, now: datetime) -> ImageRecord:
        result = given(self.packer)
        return ImageRecord(
            ami_id=result.ami_id,
            name=self.name,
            run_id=self.run.run_id,
            reason=self._reason,
            target=self.target.name,
            region=self.target.region,
            account=self.account,
            flavor=self.flavor.name,
            base=bake_record.base_image(given(self.base)),
            recipe=bake_record.recipe_record(given(self.recipe), self.checkout),
            pins=bake_record.pins_record(self.pins, self.flavor.name),
            versions=bake_record.versions(found),
            held_packages=bake_record.held(found),
            packages=packages,
            wheels=bake_record.wheels(given(self.wheels)),
            seal=bake_record.seal_record(given(self.sealed)),
            notes=tuple(self.notes),
            durations=bake_record.durations(self.timings, result.seconds),
            cost=bake_record.cost(self.clients, self.settings, result.seconds),
            baked_at=now.isoformat(timespec="seconds"),
            tools={"packer": ".".join(map(str, self.packer_version)), "python": platform.python_version()},
        )

    @property
    def notes(self) -> list[str]:
        """What a person must know: what is odd about the base image, and what this API could not do."""
        return [*given(self.base).notes, *self.way_in.notes, *given(self.sealed).notes]

    def _tags(self) -> dict[str, str]:
        recipe, base = given(self.recipe), given(self.base)
        return runs.tags(
            self.run,
            **{
                "Name": self.name,
                plan.TAG_CHANNEL: self.settings.channel,
                plan.TAG_RECIPE: recipe.summary,
                "gpunodes:reason": self._reason,
                "gpunodes:fingerprint": recipe.fingerprint,
                "gpunodes:flavor": self.flavor.name,
                "gpunodes:source-ami": base.image_id,
                "gpunodes:source-ami-name": base.name[:256],
                "gpunodes:git-commit": str(self.checkout),
                "gpunodes:gpumon-version": given(self.wheels).gpumon_version,
            },
        )

    @property
    def _reason(self) -> str:
        return f"baked for channel {self.settings.channel} by `invoke {plan.COMMAND}`"

    @property
    def _facts_folder(self) -> Path:
        return self.run.folder / "facts"

    def _early_variables(self) -> dict[str, Any]:
        return bake_variables.early(self.target, self.settings, self.flavor, self.pins, self.run)

    def _late_variables(self) -> dict[str, Any]:
        base, wheels = given(self.base), given(self.wheels)
        return {
            "source_ami": base.image_id,
            "root_device_name": base.root_device_name,
            "root_volume_size_gib": given(self.recipe).root_volume_size_gib,
            "ssh_private_key_file": str(self._key_pair.private_key),
            "ssh_keypair_name": self._key_pair.name,
            "wheelhouse_dir": str(wheels.folder),
            "gpumon_version": wheels.gpumon_version,
            **self.way_in.packer_variables(),
        }

    def steps(self) -> list[Step]:
        """In their order."""
        lock = Step(f"lock channel {self.settings.channel}", self._lock.acquire, self._lock.release)
        return [
            Step("check tools, account and base image", self._preflight),
            *([] if self.held_lock else [lock]),
            Step("build gpumon's wheelhouse", self._build_wheelhouse),
            Step("import an SSH key", self._import_key, self._delete_key),
            Step("open a way in", self._open_way_in, self._remove_leftovers),
            Step("bake with Packer", self._build, phases=lambda: given(self.packer).phases),
            Step("seal the image", self._seal),
            Step("write the evidence", self._write_evidence),
        ]


def given(value: T | None) -> T:
    """What an earlier step has made."""
    if value is None:
        raise GpunodesError("A step of the bake was run before the one that it needs.")
    return value
