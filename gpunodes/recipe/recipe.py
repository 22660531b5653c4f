"""What an image is made of, and the fingerprint of that: equal fingerprints mean equal inputs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hcl2
from lark.exceptions import LarkError

from gpunodes.errors import PreflightError
from gpunodes.recipe.pins import Pins
from gpunodes.recipe.wheelhouse import Wheelhouse
from gpunodes.settings import REPOSITORY

TEMPLATE_FOLDER = REPOSITORY / "packer"
PROVISION_FOLDER = REPOSITORY / "scripts" / "provision"


@dataclass(frozen=True)
class Recipe:
    """The inputs of a bake.

    Attributes:
        source_ami: the base image.
        flavor: its kind.
        wheelhouse_digest: gpumon and what it needs.
        template_digest: the Packer template, parsed: comments and layout do not count.
        files_digest: provisioning scripts and the files that go into the image.
        agent_version: of the CloudWatch agent, or `latest`.
        agent_sha256: of its package; empty where the signature alone holds it.
        agent_key_fingerprint: who must have signed it.
        root_volume_size_gib: of the image.
    """

    source_ami: str
    flavor: str
    wheelhouse_digest: str
    template_digest: str
    files_digest: str
    agent_version: str
    agent_sha256: str
    agent_key_fingerprint: str
    root_volume_size_gib: int

    @property
    def fingerprint(self) -> str:
        """Hex digest over all inputs."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def summary(self) -> str:
        """Every input, shortened to fit an AMI's tag (256 characters); `inputs_of` reads it back."""
        inputs = {**asdict(self), "agent_key_fingerprint": self.agent_key_fingerprint[-8:]}
        return " ".join(f"{name}={str(inputs[name])[: _SUMMARY_DIGITS[name]]}" for name in _SUMMARY_DIGITS)


# In the order of the tag; characters kept of each.
_SUMMARY_DIGITS = {
    "source_ami": 21,
    "flavor": 20,
    "wheelhouse_digest": 10,
    "template_digest": 10,
    "files_digest": 10,
    "agent_version": 18,
    "agent_sha256": 10,
    "agent_key_fingerprint": 8,
    "root_volume_size_gib": 6,
}


def inputs_of(summary: str) -> dict[str, str]:
    """The inputs in a recipe's summary, by name; empty for an image without one."""
    return dict(word.split("=", 1) for word in summary.split() if "=" in word)


def read(
    source_ami: str,
    flavor: str,
    pins: Pins,
    wheelhouse: Wheelhouse,
    root_volume_size_gib: int,
    *,
    templates: Path = TEMPLATE_FOLDER,
    provisioning: Path = PROVISION_FOLDER,
) -> Recipe:
    """The recipe of this checkout for a base image of a flavor.

    Raises:
        PreflightError: a file of the checkout cannot be read, or one of the template is no HCL.
    """
    try:
        template, files = template_digest(templates), _files_digest(provisioning, templates / "rootfs")
    except OSError as error:
        raise PreflightError(f"{error.filename} cannot be read ({error.strerror}); give it to your user.") from error
    return Recipe(
        source_ami=source_ami,
        flavor=flavor,
        wheelhouse_digest=wheelhouse.digest,
        template_digest=template,
        files_digest=files,
        agent_version=pins.agent_version,
        agent_sha256=pins.agent_sha256.get(flavor, ""),
        agent_key_fingerprint=pins.agent_key_fingerprint,
        root_volume_size_gib=root_volume_size_gib,
    )


def template_digest(folder: Path) -> str:
    """Digest of a folder's HCL as python-hcl2 parses it.

    Raises:
        PreflightError: a file is no HCL.
    """
    parsed = {path.name: parse(path.name, path.read_bytes()) for path in sorted(folder.rglob("*.pkr.hcl"))}
    return hashlib.sha256(json.dumps(_without_comments(parsed), sort_keys=True).encode()).hexdigest()


def parse(name: str, source: bytes) -> dict[str, Any]:
    """A file of the template, as python-hcl2 parses it.

    Raises:
        PreflightError: it is no HCL.
    """
    try:
        found: dict[str, Any] = hcl2.loads(source.decode())
    except (LarkError, UnicodeDecodeError) as error:
        line = getattr(error, "line", 0)
        place = f"{name} line {line}" if line > 0 else name
        raise PreflightError(f"The template is no valid HCL ({place}); correct it.") from error
    return found


def _without_comments(node: Any) -> Any:
    """Parsed HCL without what python-hcl2 adds about the source: comments and line numbers."""
    if isinstance(node, dict):
        return {key: _without_comments(child) for key, child in node.items() if not key.startswith("__")}
    if isinstance(node, list):
        return [_without_comments(child) for child in node]
    return node


def _files_digest(*folders: Path) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(f"{folder.name}/{path.relative_to(folder)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
