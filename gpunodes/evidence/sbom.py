"""The packages of an image as CycloneDX, made and read with the libraries of the CycloneDX and purl projects.

The libraries are imported where they are used: they cost a quarter of a second that no other command should pay.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpunodes.errors import ToolError

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from packageurl import PackageURL

FILE_NAME = "sbom.cdx.json"
_MANAGERS = ("deb", "rpm", "pypi")
_FIELDS = 4
_NAMESPACE = uuid.UUID("c9d6e3a7-6f0e-5b53-9c7d-3a1d5a3c8f42")  # ours, random once; ids of documents grow from it
_ABSENT = "(none)"  # what rpm prints for an epoch or architecture that a package does not have


@dataclass(frozen=True, order=True)
class Package:
    """One installed package.

    Attributes:
        manager: `deb`, `rpm` or `pypi`.
        name: as its manager names it.
        version: with the epoch, where there is one, as `1:2.3-4`.
        architecture: as its manager names it; empty where it has none.
    """

    manager: str
    name: str
    version: str
    architecture: str = ""


@dataclass(frozen=True)
class Distribution:
    """ID and VERSION_ID of /etc/os-release, as `debian` and `12`, or `amzn` and `2023`."""

    id: str
    version: str


@dataclass(frozen=True)
class Subject:
    """The image whose packages a document lists.

    Attributes:
        ami_id: the document's serial number grows from it.
        name: of the AMI.
        distribution: scanners look vulnerabilities up by it.
        baked_at: the document's time stamp, with its time zone.
    """

    ami_id: str
    name: str
    distribution: Distribution
    baked_at: datetime


def read_packages(path: Path) -> list[Package]:
    """Read what was collected on the instance: lines of manager, name, version and architecture, tabs between.

    Returns:
        Each package once, sorted.

    Raises:
        ToolError: the file cannot be read, or has a line of another form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(f"The package list {path} cannot be read ({error}); bake again.") from error
    packages: set[Package] = set()
    for number, line in enumerate(lines, 1):
        fields = line.split("\t")
        # No manager has a package with a slash in its name, and a package URL cannot tell it from a namespace.
        if len(fields) != _FIELDS or fields[0] not in _MANAGERS or not fields[1] or "/" in fields[1] or not fields[2]:
            raise ToolError(
                f"Line {number} of the package list {path} is not manager, name, version and architecture; bake again."
            )
        packages.add(_package(*fields))
    return sorted(packages)


def _package(manager: str, name: str, version: str, architecture: str) -> Package:
    if manager == "rpm":
        # Epoch 0 is no epoch; rpm prints it either way.
        version = version.removeprefix(f"{_ABSENT}:").removeprefix("0:")
        architecture = "" if architecture == _ABSENT else architecture
    if manager == "pypi":
        architecture = ""  # the wheel's, which Python does not keep
    return Package(manager, name, version, architecture)


def document(packages: Sequence[Package], subject: Subject) -> dict[str, Any]:
    """A CycloneDX 1.6 document of an image's packages; the same arguments give the same document."""
    from cyclonedx.model.bom import Bom, BomMetaData  # noqa: PLC0415 - see the top
    from cyclonedx.model.component import Component, ComponentType  # noqa: PLC0415
    from cyclonedx.output.json import JsonV1Dot6  # noqa: PLC0415

    system = Component(
        type=ComponentType.OPERATING_SYSTEM,
        name=subject.distribution.id,
        version=subject.distribution.version,
        bom_ref="os",
    )
    # As scanners describe machine images, too: CycloneDX has no type of its own for them.
    image = Component(type=ComponentType.CONTAINER, name=subject.name, version=subject.ami_id, bom_ref=subject.ami_id)
    head = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, subject.ami_id),
        metadata=BomMetaData(component=image, timestamp=subject.baked_at),
    )
    whole: dict[str, Any] = json.loads(JsonV1Dot6(head).output_as_string())
    whole.pop("dependencies", None)  # what depends on what was not asked of the package managers
    # One by one: the library's own container compares each component with all others, 7 s for 2,500 of them.
    whole["components"] = list(_components([system], packages, subject.distribution))
    return whole


def _components(
    first: Iterable[Component], packages: Iterable[Package], distribution: Distribution
) -> Iterator[dict[str, Any]]:
    from cyclonedx.model.component import Component, ComponentType  # noqa: PLC0415
    from cyclonedx.schema.schema import SchemaVersion1Dot6  # noqa: PLC0415

    for component in first:
        yield json.loads(component.as_json(view_=SchemaVersion1Dot6))  # type: ignore[attr-defined]
    seen: set[str] = set()
    for package in packages:
        purl = _purl(package, distribution)
        text = purl.to_string()
        if text not in seen:
            seen.add(text)
            component = Component(
                type=ComponentType.LIBRARY, name=package.name, version=package.version, purl=purl, bom_ref=text
            )
            yield json.loads(component.as_json(view_=SchemaVersion1Dot6))  # type: ignore[attr-defined]


def _purl(package: Package, distribution: Distribution) -> PackageURL:
    from packageurl import PackageURL  # noqa: PLC0415

    if package.manager == "pypi":
        return PackageURL("pypi", name=package.name, version=package.version)
    qualifiers = {"arch": package.architecture, "distro": f"{distribution.id}-{distribution.version}".rstrip("-")}
    version = package.version
    if package.manager == "rpm" and ":" in version:
        qualifiers["epoch"], version = version.split(":", 1)
    return PackageURL(package.manager, distribution.id, package.name, version, qualifiers)


def packages_of(sbom: dict[str, Any]) -> list[Package]:
    """The packages that a document of ours lists, sorted.

    Raises:
        ValueError: it is no such document.
    """
    from packageurl import PackageURL  # noqa: PLC0415

    packages = []
    for component in sbom["components"]:
        if "purl" in component:
            purl = PackageURL.from_string(component["purl"])
            packages.append(
                Package(purl.type, component["name"], component["version"], purl.qualifiers.get("arch", ""))
            )
    return sorted(packages)
