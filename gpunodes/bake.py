"""`build-ami`: preflight, wheelhouse, Packer, seal, evidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpunodes import ami, evidence, leftovers, packer, recipe, runs, wheelhouse
from gpunodes.aws import Clients
from gpunodes.errors import GpunodesError, PreflightError
from gpunodes.key_pair import KeyPair
from gpunodes.recipe import Recipe
from gpunodes.runs import Run
from gpunodes.security_group import SecurityGroup
from gpunodes.settings import REPOSITORY, Settings
from gpunodes.steps import Progress, Step, Timing, run_steps
from gpunodes.target import Target
from gpunodes.wheelhouse import Wheelhouse


@dataclass(frozen=True)
class Baked:
    """What `build-ami` made.

    Attributes:
        run_id: of the bake.
        ami_id: the candidate.
        name: its name.
        source_ami: the base image.
        fingerprint: of the recipe.
        gpumon_version: in the image.
        evidence: file with the record of the image.
        notes: what this API could not do.
        timings: seconds per step.
    """

    run_id: str
    ami_id: str
    name: str
    source_ami: str
    fingerprint: str
    gpumon_version: str
    evidence: Path
    notes: list[str]
    timings: list[Timing]


@dataclass
class _Bake:
    """A bake while it runs; each method is a step."""

    target: Target
    settings: Settings
    run: Run
    clients: Clients
    progress: Progress
    asked_source_ami: str | None
    packer_version: tuple[int, ...] = ()
    source: dict[str, Any] = field(default_factory=dict)
    wheels: Wheelhouse | None = None
    recipe: Recipe | None = None
    group: SecurityGroup | None = None
    ami_id: str = ""
    notes: list[str] = field(default_factory=list)
    is_complete: bool = False

    @property
    def name(self) -> str:
        return f"gpunodes-{self.run.run_id}"

    @property
    def key_pair(self) -> KeyPair:
        return KeyPair.of(self.run)

    def preflight(self) -> None:
        self.packer_version = packer.version()
        if not self.target.ssh_source_cidr:
            raise PreflightError(
                "Set ssh_source_cidr in gpunodes.toml to the network you bake from, as 203.0.113.7/32."
            )
        ami.gpu_count(self.clients, self.settings.build_instance_type)
        self.source = ami.source_ami(self.clients, self.target, self.settings, self.asked_source_ami)

    def build_wheelhouse(self) -> None:
        self.wheels = wheelhouse.ensure(self.settings.cache_folder)
        self.recipe = recipe.read(self.target, self.source["ImageId"], self.wheels)

    def import_key(self) -> None:
        self.key_pair.import_into(self.clients, self.run)

    def delete_key(self) -> None:
        self.key_pair.delete_from(self.clients)

    def open_ssh(self) -> None:
        self.group = SecurityGroup(self.target, self.run)
        self.group.create(self.clients)

    def build(self) -> None:
        folder = self.run.folder / "packer"
        packer.lay_out(recipe.TEMPLATE_FOLDER, folder, self.packer_version)
        packer.build(
            folder,
            self._variables(),
            installed=self.packer_version,
            environment=self.target.environment,
            repository=REPOSITORY,
            log=self.run.folder / "packer.log",
            on_step=self.progress.detail,
        )
        self.ami_id = packer.artifact_ami(self.run.folder / "manifest.json")

    def remove_leftovers(self) -> None:
        """What Packer could not remove itself, and the image too where the bake did not get to its end."""
        leftovers.remove_instances(self.clients, self.run.run_id)
        if not self.is_complete:
            leftovers.remove_images(self.clients, self.run.run_id)

    def seal(self) -> None:
        tags = runs.tags(
            self.run,
            Name=self.name,
            **{
                runs.TAG_STATE: ami.STATE_CANDIDATE,
                "gpunodes:fingerprint": self._recipe.fingerprint,
                "gpunodes:source-ami": self.source["ImageId"],
                "gpunodes:gpumon-version": self._wheels.gpumon_version,
            },
        )
        self.notes = ami.seal(self.clients, self.ami_id, tags)

    def write_evidence(self) -> None:
        document = {
            "ami_id": self.ami_id,
            "name": self.name,
            "run_id": self.run.run_id,
            "target": self.target.name,
            "region": self.target.region,
            "source_ami": {key: self.source.get(key) for key in ("ImageId", "Name", "CreationDate", "OwnerId")},
            "fingerprint": self._recipe.fingerprint,
            "recipe": asdict(self._recipe),
            "gpumon_version": self._wheels.gpumon_version,
            "packer_version": ".".join(str(part) for part in self.packer_version),
            "wheels": sorted(path.name for path in self._wheels.folder.glob("*.whl")),
            "notes": self.notes,
            "baked_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        evidence.write_image(self.settings, self.run, self.ami_id, document)
        self.is_complete = True

    @property
    def _wheels(self) -> Wheelhouse:
        if self.wheels is None:
            raise GpunodesError("The wheelhouse was asked for before its step.")
        return self.wheels

    @property
    def _recipe(self) -> Recipe:
        if self.recipe is None:
            raise GpunodesError("The recipe was asked for before its step.")
        return self.recipe

    def _variables(self) -> dict[str, Any]:
        return {
            "region": self.target.region,
            "source_ami": self.source["ImageId"],
            "instance_type": self.settings.build_instance_type,
            "ami_name": self.name,
            "run_id": self.run.run_id,
            "tags": runs.tags(self.run),
            "ssh_username": self.target.ssh_username,
            "ssh_private_key_file": str(self.key_pair.private_key),
            "ssh_keypair_name": self.key_pair.name,
            "ssh_interface": self.target.ssh_interface,
            "security_group_id": self.group.group_id if self.group else "",
            "temporary_security_group_source_cidrs": [self.target.ssh_source_cidr],
            "subnet_id": self.target.subnet_id,
            "root_device_name": self.target.root_device_name,
            "root_volume_size_gib": self.target.root_volume_size_gib,
            "wheelhouse_dir": str(self._wheels.folder),
            "gpumon_version": self._wheels.gpumon_version,
            "agent_base_url": self.target.agent_base_url,
            "agent_key_fingerprint": self.target.agent_key_fingerprint,
            "manifest_path": str(self.run.folder / "manifest.json"),
            **self.target.packer_variables,
        }


def bake(target: Target, settings: Settings, progress: Progress, source_ami: str | None = None) -> Baked:
    """Bake an image and leave nothing else behind.

    Args:
        target: where.
        settings: instance types and folders.
        progress: told about each step.
        source_ami: base image instead of the target's.

    Raises:
        GpunodesError: with the exit code for what went wrong.
    """
    run = runs.start(settings, target.destination)
    work = _Bake(target, settings, run, Clients(target), progress, source_ami)
    with runs.going_on(run):
        timings = run_steps(
            [
                Step("check tools, account and base image", work.preflight),
                Step("build gpumon's wheelhouse", work.build_wheelhouse),
                Step("import an SSH key", work.import_key, work.delete_key),
                Step("make a security group", work.open_ssh, work.remove_leftovers),
                Step("bake with Packer", work.build),
                Step("seal the image", work.seal),
                Step("write the evidence", work.write_evidence),
            ],
            progress,
        )
    return Baked(
        run_id=run.run_id,
        ami_id=work.ami_id,
        name=work.name,
        source_ami=work.source["ImageId"],
        fingerprint=work.recipe.fingerprint if work.recipe else "",
        gpumon_version=work.wheels.gpumon_version if work.wheels else "",
        evidence=evidence.image_folder(settings, work.ami_id),
        notes=work.notes,
        timings=timings,
    )
