"""Flavors: what gpunodes knows of each kind of base image, one TOML file each in packer/flavors/."""

from __future__ import annotations

import difflib
import fnmatch
from dataclasses import dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import tomllib

from gpunodes.errors import UsageError
from gpunodes.settings import REPOSITORY
from gpunodes.target import Target

FOLDER = REPOSITORY / "packer" / "flavors"


@dataclass(frozen=True)
class Flavor:
    """One kind of base image.

    Attributes:
        name: of its file, and what `--flavor` takes.
        description: for people.
        ssm_parameter: public SSM parameter with the id of the newest base image; empty where there is none.
        owners: accounts that publish it.
        name_pattern: of its images' names, as in DescribeImages; several separated by commas.
        architecture: `x86_64` or `arm64`.
        ssh_username: user that may sudo without a password.
        root_device_name: as in DescribeImages.
        package_family: `apt` or `dnf`.
        minimum_root_gib: smallest root volume that an image of it needs.
        end_of_life: after that day its publisher mends nothing any more.
    """

    name: str
    description: str
    ssm_parameter: str
    owners: tuple[str, ...]
    name_pattern: str
    architecture: str
    ssh_username: str
    root_device_name: str
    package_family: str
    minimum_root_gib: int
    end_of_life: date

    def fits(self, image_name: str) -> bool:
        """Whether an image of this name is one of this flavor."""
        return any(fnmatch.fnmatchcase(image_name, pattern) for pattern in self.name_pattern.split(","))

    def has_ended(self, today: date) -> bool:
        """Whether its end of life is past."""
        return today > self.end_of_life


def load(name: str, folder: Path = FOLDER) -> Flavor:
    """One flavor.

    Raises:
        UsageError: there is none of that name, or its file is wrong.
    """
    known = _names(folder)
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean `{nearest[0]}`?" if nearest else f"known are: {', '.join(known)}."
        raise UsageError(f"There is no flavor `{name}`; {hint}")
    return _read(folder / f"{name}.toml")


def every(folder: Path = FOLDER) -> list[Flavor]:
    """All flavors, those past their end of life too."""
    return [load(name, folder) for name in _names(folder)]


def choose(target: Target, name: str, folder: Path = FOLDER) -> Target:
    """The target with another flavor than its own; an empty name leaves it as it is.

    Raises:
        UsageError: there is no such flavor, or the target has another one only.
    """
    if not name:
        return target
    flavor = load(name, folder)
    if target.base_parameter and flavor.name != target.flavor:
        raise UsageError(f"The offline cloud has flavor {target.flavor} only; leave out --flavor, or bake on AWS.")
    return replace(target, flavor=flavor.name)


def usable(today: date, folder: Path = FOLDER) -> list[str]:
    """Names of the flavors that AWS publishes a base image for and that are still maintained."""
    return [flavor.name for flavor in every(folder) if flavor.ssm_parameter and not flavor.has_ended(today)]


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.toml"))


def _read(path: Path) -> Flavor:
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text())
    except ValueError as error:
        raise UsageError(f"{path.name} is not valid TOML ({error}); correct that line.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); give it to your user.") from error
    known = {field.name: type(value) for field, value in zip(fields(Flavor), _EXAMPLE, strict=True)}
    del known["name"]
    for key in document.keys() ^ known.keys():
        raise UsageError(f"{path.name}: `{key}` is {'missing' if key in known else 'unknown'}; see the other flavors.")
    if isinstance(document["owners"], list) and all(isinstance(owner, str) for owner in document["owners"]):
        document["owners"] = tuple(document["owners"])
    for key, value in document.items():
        if type(value) is not known[key]:
            raise UsageError(f"{path.name}: `{key}` must not be {value!r}; see the other flavors.")
    return Flavor(name=path.stem, **document)


_EXAMPLE = ("", "", "", (), "", "", "", "", "", 0, date.min)  # one value of each attribute's type
