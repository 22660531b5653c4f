"""The record of an image, `image.json`: what it was baked from, what is in it, what was done to it, what that took."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gpunodes.errors import UsageError
from gpunodes.operation.steps import Timing

SCHEMA_VERSION = 1
FILE_NAME = "image.json"

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class BaseImage:
    """The image that the bake began with, as in DescribeImages.

    Attributes:
        image_id: the AMI's.
        name: its name.
        owner_id: account that published it.
        creation_date: ISO 8601.
        deprecation_time: ISO 8601; None where its publisher set none.
    """

    image_id: str
    name: str
    owner_id: str
    creation_date: str
    deprecation_time: str | None = None


@dataclass(frozen=True)
class RecipeRecord:
    """What went into the fingerprint.

    Attributes:
        fingerprint: hex digest over all inputs.
        inputs: each input of the fingerprint by name; digests are hex.
        git_commit: of the checkout; None outside a repository.
        git_is_dirty: whether the checkout had changes that were not committed; None outside a repository.
    """

    fingerprint: str
    inputs: Mapping[str, Scalar]
    git_commit: str | None = None
    git_is_dirty: bool | None = None


@dataclass(frozen=True)
class PackageList:
    """The packages of the image.

    Attributes:
        count: how many.
        file: the CycloneDX document beside `image.json`.
        sha256: hex digest of that file.
    """

    count: int
    file: str
    sha256: str


@dataclass(frozen=True)
class Wheel:
    """A wheel that was installed into the image, and the hex digest it was held against."""

    file: str
    sha256: str


@dataclass(frozen=True)
class Seal:
    """What was done to the finished image.

    Attributes:
        done: e.g. "instances must use IMDSv2".
        missing: a sentence for each call that this API lacks.
    """

    done: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Durations:
    """What the bake took, in seconds.

    Attributes:
        steps: in their order, up to the one that wrote this.
        packer_seconds: Packer's own part.
        own_seconds: everything else.
    """

    steps: tuple[Timing, ...]
    packer_seconds: float
    own_seconds: float


@dataclass(frozen=True)
class CostEstimate:
    """What the bake cost, estimated.

    Attributes:
        usd: US dollars; None where it could not be estimated.
        reason: what the estimate covers, or why there is none.
    """

    usd: float | None
    reason: str


@dataclass(frozen=True)
class ImageRecord:
    """All that is recorded of an image; `docs/evidence.md` describes each field.

    Attributes:
        ami_id: the image.
        name: of the AMI.
        run_id: of the bake.
        reason: why it was baked.
        target: `aws` or `offline`.
        region: where it is.
        account: whose it is; None where that could not be asked.
        flavor: which kind of base image.
        base: the base image.
        recipe: what went into the fingerprint.
        pins: what the bake took from elsewhere, by name.
        versions: what the instance said of itself during the bake; None where it could not read one.
        held_packages: that no upgrade changes.
        packages: of the image.
        wheels: gpumon and what it needs.
        seal: what was done to the finished image.
        notes: sentences for whoever reads this.
        durations: of the bake.
        cost: of the bake.
        baked_at: ISO 8601 with time zone.
        tools: versions of the tools on the operator's machine.
        schema_version: of this document.
    """

    ami_id: str
    name: str
    run_id: str
    reason: str
    target: str
    region: str
    account: str | None
    flavor: str
    base: BaseImage
    recipe: RecipeRecord
    pins: Mapping[str, Scalar]
    versions: Mapping[str, str | None]
    held_packages: tuple[str, ...]
    packages: PackageList
    wheels: tuple[Wheel, ...]
    seal: Seal
    notes: tuple[str, ...]
    durations: Durations
    cost: CostEstimate
    baked_at: str
    tools: Mapping[str, str]
    schema_version: int = SCHEMA_VERSION

    @property
    def to_know(self) -> list[str]:
        """The notes, and what the API lacks; each once."""
        return list(dict.fromkeys([*self.notes, *self.seal.missing]))

    def to_document(self) -> dict[str, Any]:
        """As JSON has it."""
        document: dict[str, Any] = msgspec.to_builtins(self, enc_hook=dict)  # mappings of other kinds
        return document

    def canonical_bytes(self) -> bytes:
        """The file's bytes: keys sorted, two spaces, UTF-8, a newline at the end; `jq -S .` writes the same."""
        text = json.dumps(self.to_document(), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return f"{text}\n".encode()


def from_document(document: Any, origin: str = FILE_NAME) -> ImageRecord:
    """The record of a document.

    Args:
        document: parsed JSON.
        origin: where it came from, for the message.

    Raises:
        UsageError: a field is missing or of another type, or another schema wrote it.
    """
    if not isinstance(document, dict):
        raise UsageError(f"{origin} is damaged (it is no JSON object); {_RESTORE}")
    schema = document.get("schema_version")
    if schema is None:
        raise UsageError(f"{origin} was written by a gpunodes that had no such record yet; bake the image again.")
    if isinstance(schema, int) and schema != SCHEMA_VERSION:
        raise UsageError(
            f"{origin} has schema {schema} and this checkout reads {SCHEMA_VERSION}; take the other checkout."
        )
    try:
        return msgspec.convert(document, ImageRecord)
    except msgspec.ValidationError as error:
        raise UsageError(f"{origin} is damaged ({error}); {_RESTORE}") from error


def read(path: Path) -> ImageRecord:
    """The record that a file keeps.

    Raises:
        UsageError: the file cannot be read, is no JSON, or is no record.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); give it to your user, or restore it.") from error
    except ValueError as error:  # no JSON, or no UTF-8
        raise UsageError(f"{path} is damaged ({error}); {_RESTORE}") from error
    return from_document(document, str(path))


def sha256_of(path: Path) -> str:
    """Hex digest of a file, as `sha256sum` prints it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


_RESTORE = "restore it from a copy, or bake the image again."
