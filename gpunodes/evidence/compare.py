"""`compare`: what differs between two images: base, recipe, versions, pins, wheels, and every package."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gpunodes.aws import Clients
from gpunodes.errors import UsageError
from gpunodes.evidence import evidence, explain
from gpunodes.evidence.image_record import ImageRecord
from gpunodes.evidence.sbom import Package
from gpunodes.recipe import ami
from gpunodes.settings import Settings


@dataclass(frozen=True)
class Change:
    """One thing that differs.

    Attributes:
        name: of it.
        before: in the first image; None where it has none.
        after: in the second; None where it has none.
    """

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class PackageChange:
    """A package that both images have, in other versions.

    Attributes:
        manager: `deb`, `rpm` or `pypi`.
        name: of the package.
        architecture: of it.
        before: version in the first image.
        after: version in the second.
        direction: `newer` or `older` by the manager's own order; None where that cannot tell.
    """

    manager: str
    name: str
    architecture: str
    before: str
    after: str
    direction: str | None


@dataclass(frozen=True)
class PackageChanges:
    """What differs in packages; a package in several versions at once, such as a kernel, is added and removed."""

    added: tuple[Package, ...] = ()
    removed: tuple[Package, ...] = ()
    changed: tuple[PackageChange, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True)
class Comparison:
    """What differs between two images.

    Attributes:
        first: AMI id.
        second: AMI id.
        is_identical: whether nothing of the below differs; names, dates and the commit do not count.
        summary: one sentence.
        base: of the base image.
        recipe: inputs of the fingerprint.
        versions: what the instances said of themselves.
        pins: what was taken from elsewhere.
        wheels: gpumon and what it needs; the digest is what counts.
        packages: of the system and of Python.
        checkout: commit, and whether all was committed; for the reader only.
        notes: what makes the comparison weaker.
    """

    first: str
    second: str
    is_identical: bool
    summary: str
    base: tuple[Change, ...]
    recipe: tuple[Change, ...]
    versions: tuple[Change, ...]
    pins: tuple[Change, ...]
    wheels: tuple[Change, ...]
    packages: PackageChanges
    checkout: tuple[Change, ...]
    notes: tuple[str, ...]


def compare(clients: Clients, settings: Settings, first: str, second: str) -> Comparison:
    """Compare two images by their evidence on this machine.

    Args:
        clients: for the images' tags, which vouch for the evidence.
        settings: where the evidence is.
        first: AMI id of the older one, as a person thinks of it.
        second: AMI id of the newer one.

    Raises:
        UsageError: the same image twice, no evidence of one of them here, or evidence that is damaged.
        AwsError: DescribeImages was refused.
    """
    if first == second:
        raise UsageError(f"{first} was named twice; name two images.")
    notes = [note for ami_id in (first, second) if (note := _doubt(clients, settings, ami_id))]
    before, after = _record(settings, first), _record(settings, second)
    packages = package_changes(evidence.read_packages(settings, before), evidence.read_packages(settings, after))
    return _comparison(before, after, packages, notes)


def _comparison(before: ImageRecord, after: ImageRecord, packages: PackageChanges, notes: Sequence[str]) -> Comparison:
    groups = {
        "base": _changes(asdict(before.base), asdict(after.base)),
        "recipe": _changes(before.recipe.inputs, after.recipe.inputs),
        "versions": _changes(before.versions, after.versions),
        "pins": _changes(before.pins, after.pins),
        "wheels": _wheel_changes(before, after),
    }
    differing = [name for name, changes in groups.items() if changes] + (["packages"] if packages else [])
    return Comparison(
        first=before.ami_id,
        second=after.ami_id,
        is_identical=not differing,
        summary=_summary(before, after, differing),
        packages=packages,
        checkout=_changes(_checkout(before), _checkout(after)),
        notes=tuple(notes),
        **groups,
    )


def _summary(before: ImageRecord, after: ImageRecord, differing: Sequence[str]) -> str:
    same_recipe = before.recipe.fingerprint == after.recipe.fingerprint
    if not differing:
        return "Identical: same base, recipe, versions, pins, wheels and packages."
    if same_recipe:
        return f"The same recipe gave different {_list(differing)}: what it takes from elsewhere has changed since."
    return f"They differ in {_list(differing)}."


def _list(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def package_changes(before: Iterable[Package], after: Iterable[Package]) -> PackageChanges:
    """What was added, removed, and changed its version."""
    old, new = _by_name(before), _by_name(after)
    added: list[Package] = []
    removed: list[Package] = []
    changed: list[PackageChange] = []
    for key in sorted(old.keys() | new.keys()):
        manager, name, architecture = key
        gone, come = sorted(old[key] - new[key]), sorted(new[key] - old[key])
        if len(old[key]) == len(new[key]) == len(gone) == 1:
            changed.append(PackageChange(*key, gone[0], come[0], direction(manager, gone[0], come[0])))
        else:
            removed += [Package(manager, name, version, architecture) for version in gone]
            added += [Package(manager, name, version, architecture) for version in come]
    return PackageChanges(tuple(added), tuple(removed), tuple(changed))


def direction(manager: str, before: str, after: str) -> str | None:
    """`newer` or `older`, by the version order of the package manager; None where it knows none or calls them equal."""
    # Imported here: comparing is the only command that needs them.
    import packaging.version  # noqa: PLC0415
    import univers.debian  # noqa: PLC0415
    import univers.rpm  # noqa: PLC0415

    order = 0
    try:
        if manager == "deb":
            order = univers.debian.compare_versions(after, before)  # type: ignore[no-untyped-call]
        elif manager == "rpm":
            order = univers.rpm.compare_rpm_versions(after, before)
        elif manager == "pypi":
            old, new = packaging.version.Version(before), packaging.version.Version(after)
            order = (new > old) - (new < old)
    except ValueError:  # no version by that manager's rules
        return None
    return {1: "newer", -1: "older"}.get(order)


def _by_name(packages: Iterable[Package]) -> defaultdict[tuple[str, str, str], set[str]]:
    versions: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
    for package in packages:
        versions[package.manager, package.name, package.architecture].add(package.version)
    return versions


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    names = sorted(before.keys() | after.keys())
    return tuple(
        Change(name, _text(before.get(name)), _text(after.get(name)))
        for name in names
        if before.get(name) != after.get(name)
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _wheel_changes(before: ImageRecord, after: ImageRecord) -> tuple[Change, ...]:
    """By distribution name, so that a new version reads as one change; the digest stands behind the file's name."""
    return _changes(_wheels(before), _wheels(after))


def _wheels(record: ImageRecord) -> dict[str, str]:
    return {wheel.file.split("-")[0]: f"{wheel.file} (sha256 {wheel.sha256[:12]})" for wheel in record.wheels}


def _checkout(record: ImageRecord) -> dict[str, Any]:
    dirty = {True: "yes", False: "no", None: None}[record.recipe.git_is_dirty]
    return {"git commit": record.recipe.git_commit, "changes not committed": dirty}


def _record(settings: Settings, ami_id: str) -> ImageRecord:
    record = evidence.read_record(settings, ami_id)
    if record is None:
        folder = evidence.image_folder(settings, ami_id)
        raise UsageError(
            f"The evidence of {ami_id} is not on this machine; copy .gpunodes/evidence/{ami_id} from the one that baked"
            f" it to {folder}."
        )
    return record


def _doubt(clients: Clients, settings: Settings, ami_id: str) -> str:
    """Why the evidence of an image may not be its own; empty where its tag vouches for it."""
    image = explain.look_up(clients, ami_id)
    has_evidence = evidence.image_folder(settings, ami_id).is_dir()
    if image is None and not has_evidence:
        raise UsageError(f"There is no image {ami_id} in this region; give the id of one that `build-ami` made.")
    if image is None:
        return f"{ami_id} is no longer in this region, so nothing vouches for its evidence."
    check = explain.check_digest(settings, ami_id, ami.tags_of(image).get(evidence.TAG_DIGEST))
    return "" if check.outcome == "matches" else f"{ami_id}: {check.text}."
