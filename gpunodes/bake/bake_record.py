"""What `build-ami` records of an image: gathered from its steps, and from what its instance said of itself."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from gpunodes.aws import Clients
from gpunodes.bake.seal import Sealed
from gpunodes.errors import ToolError
from gpunodes.evidence import sbom
from gpunodes.evidence.image_record import BaseImage, CostEstimate, Durations, RecipeRecord, Seal, Wheel
from gpunodes.evidence.sbom import Distribution, Package, Subject
from gpunodes.operation.steps import Timing
from gpunodes.plan.cost import hourly_price
from gpunodes.recipe.base import Base
from gpunodes.recipe.checkout import Checkout
from gpunodes.recipe.pins import Pins
from gpunodes.recipe.recipe import Recipe
from gpunodes.recipe.wheelhouse import Wheelhouse
from gpunodes.settings import Settings

TAG_BAKE_INSTANCE = "gpunodes:bake-instance"
TAG_AGENT_VERSION = "gpunodes:agent-version"
UNKNOWN_VERSION = "unknown"
# Facts of the instance that are no versions of what is in the image.
_NOT_VERSIONS = frozenset({"booted_at", "collected_at", "free_disk_bytes", "held_packages", "instance_id"})


def facts(folder: Path) -> dict[str, Any]:
    """What `collect-facts.sh` found on the instance that baked; None where it could not read one.

    Raises:
        ToolError: Packer did not bring the file, or it is damaged.
    """
    path = folder / "facts.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ToolError(f"The facts of the image did not arrive in {path} ({error}); bake again.") from error
    return found


def versions(found: dict[str, Any]) -> dict[str, str | None]:
    """The facts that say what is in the image."""
    return {name: None if value is None else str(value) for name, value in found.items() if name not in _NOT_VERSIONS}


def held(found: dict[str, Any]) -> tuple[str, ...]:
    """Packages that no upgrade changes."""
    value = found.get("held_packages") or []
    return tuple(value.split() if isinstance(value, str) else value)


def packages(folder: Path) -> list[Package]:
    """What is installed in the image.

    Raises:
        ToolError: Packer did not bring the list, or it is damaged.
    """
    return sbom.read_packages(folder / "packages.tsv")


def subject(ami_id: str, name: str, found: dict[str, Any], baked_at: datetime) -> Subject:
    """The image, as its package list names it."""
    distribution = Distribution(str(found.get("os_id") or ""), str(found.get("os_version") or ""))
    return Subject(ami_id, name, distribution, baked_at)


def base_image(base: Base) -> BaseImage:
    """The base image, as the record keeps it."""
    return BaseImage(base.image_id, base.name, base.owner_id, base.creation_date, base.deprecation_time or None)


def recipe_record(recipe: Recipe, checkout: Checkout) -> RecipeRecord:
    """The inputs, and the commit that they come from."""
    return RecipeRecord(recipe.fingerprint, asdict(recipe), checkout.commit, checkout.is_dirty)


def pins_record(pins: Pins, flavor: str) -> dict[str, str]:
    """The pins that counted."""
    return {
        "cloudwatch_agent.version": pins.agent_version,
        "cloudwatch_agent.key_fingerprint": pins.agent_key_fingerprint,
        "cloudwatch_agent.sha256": pins.agent_sha256.get(flavor, ""),
    }


def wheels(wheelhouse: Wheelhouse) -> tuple[Wheel, ...]:
    """Every wheel of the image with the digest that pip held it against."""
    return tuple(
        Wheel(path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(wheelhouse.folder.glob("*.whl"))
    )


def seal_record(sealed: Sealed) -> Seal:
    """What the seal did, and what the API lacks."""
    return Seal(tuple(sealed.done), tuple(sealed.notes))


def version_tags(found: dict[str, Any]) -> dict[str, str]:
    """Tags of the image that say what is in it where its evidence is not at hand."""
    tagged = {
        "gpunodes:driver-version": "nvidia_driver_version",
        TAG_AGENT_VERSION: "cloudwatch_agent_version",
        TAG_BAKE_INSTANCE: "instance_id",
    }
    return {tag: str(found.get(name) or UNKNOWN_VERSION)[:256] for tag, name in tagged.items()}


def durations(timings: list[Timing], packer_seconds: float) -> Durations:
    """The steps so far, and whose time it was."""
    own_seconds = max(0.0, sum(timing.seconds for timing in timings) - packer_seconds)
    return Durations(tuple(map(_rounded, timings)), round(packer_seconds, 3), round(own_seconds, 3))


def _rounded(timing: Timing) -> Timing:
    return Timing(timing.name, round(timing.seconds, 3), tuple(map(_rounded, timing.phases)))


def cost(clients: Clients, settings: Settings, packer_seconds: float) -> CostEstimate:
    """What the instance cost that baked; it lived about as long as Packer ran."""
    price = hourly_price(clients, settings.build_instance_type, spot=settings.spot)
    usd = price.of(packer_seconds)
    if usd is None:
        return CostEstimate(None, price.reason)
    return CostEstimate(round(usd, 4), f"{price.reason} of {settings.build_instance_type}, without its volume")
