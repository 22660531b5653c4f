"""What a bake gives Packer's template: early what is known before anything was made, the rest later."""

from __future__ import annotations

from typing import Any

from gpunodes.bake.template_check import Template
from gpunodes.operation import runs
from gpunodes.operation.runs import Run
from gpunodes.recipe.flavors import Flavor
from gpunodes.recipe.pins import Pins
from gpunodes.recipe.recipe import TEMPLATE_FOLDER
from gpunodes.settings import REPOSITORY, Settings
from gpunodes.target import Target

# Given once the bake has them: what the steps before Packer make.
LATER = frozenset({"iam_instance_profile", "gpumon_version", "root_device_name", "root_volume_size_gib",
    "security_group_id", "spot_price", "ssh_interface", "ssh_keypair_name", "ssh_private_key_file",
    "temporary_tags", "wheelhouse_dir"})  # fmt: skip


def image_name(run: Run, flavor: Flavor) -> str:
    """Of the image; it begins as everything does that the run makes."""
    return f"gpunodes-{run.run_id}-{flavor.name}"


def early(target: Target, settings: Settings, flavor: Flavor, pins: Pins, run: Run) -> dict[str, Any]:
    """The variables that are known at the beginning."""
    return {
        "region": target.region,
        "instance_type": settings.build_instance_type,
        "ami_name": image_name(run, flavor),
        "run_id": run.run_id,
        "tags": runs.tags(run),
        "ssh_username": flavor.ssh_username,
        "subnet_id": target.subnet_id,
        "package_family": flavor.package_family,
        "agent_base_url": target.agent_base_url,
        "agent_version": pins.agent_version,
        "agent_sha256": pins.agent_sha256.get(flavor.name, ""),
        "agent_key_fingerprint": pins.agent_key_fingerprint,
        "manifest_path": str(run.folder / "manifest.json"),
        "facts_dir": str(run.folder / "facts"),
        **target.packer_variables,
    }


def template(target: Target, settings: Settings, flavor: Flavor, pins: Pins, run: Run) -> Template:
    """The template with the early variables, for the preflight."""
    # Two of the later ones have a form that Packer checks; the base image is still being looked up meanwhile.
    stand_ins = {"source_ami": "ami-00000000", "temporary_security_group_source_cidrs": ["127.0.0.1/32"]}
    variables = stand_ins | early(target, settings, flavor, pins, run)
    return Template(TEMPLATE_FOLDER, variables, REPOSITORY, LATER, target.environment)
