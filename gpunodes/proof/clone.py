"""A clone, that is a fresh instance of an image: what it inherited of the instance that baked, and who it is itself."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from gpunodes.bake import bake_record
from gpunodes.errors import ToolError
from gpunodes.operation import runs
from gpunodes.recipe import ami
from gpunodes.settings import REPOSITORY, Settings

_SCRIPT = REPOSITORY / "scripts" / "provision" / "verify-clone.sh"
_COMPLAINT = f"{_SCRIPT.name}: error: "
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")
_NO_ID = "i-not-known"  # the script wants a name to look for; no file has this one
_CLOCK_MARGIN = timedelta(hours=1)  # a run's id is by the operator's clock, files are by the instance's
_LONGEST_SECONDS = 100  # less than the connection's own patience, so that it is the clone that gives up and says so
_TIMED_OUT = 124  # of timeout(1)


class Shell(Protocol):
    """What is needed of a connection; `Remote` is one."""

    def run(self, command: str) -> str:
        """Run a command and return what it printed."""

    def write(self, path: str, content: str) -> None:
        """Write a file."""


@dataclass(frozen=True)
class Origin:
    """Where an image comes from, as far as that is known.

    Attributes:
        instance_id: the instance that baked it; empty where nobody knows.
        begun_at: UTC, some time before that instance booted; None where nobody knows.
        imaged_at: ISO 8601, when its disk became the image; None where nobody knows.
    """

    instance_id: str = ""
    begun_at: datetime | None = None
    imaged_at: str | None = None

    def facts(self) -> dict[str, str | None]:
        """The two times that `verify-clone.sh` reads: no older file names the instance, no host key may be older."""
        begun_at = None if self.begun_at is None else f"{self.begun_at:%Y-%m-%dT%H:%M:%SZ}"
        # Where there is nothing to look for, a disk of 75 GiB need not be read for it.
        return {"booted_at": begun_at if self.instance_id else self.imaged_at, "collected_at": self.imaged_at}


@dataclass(frozen=True)
class Clone:
    """What `verify-clone.sh` said.

    Attributes:
        identity: `instance_id`, `hostname`, `machine_id`, `ssh_host_keys` and more; None where the clone has none.
            Empty where the script did not get that far.
        complaints: a sentence for each thing that the clone inherited; empty when it is clean.
    """

    identity: Mapping[str, Any] = field(default_factory=dict)
    complaints: tuple[str, ...] = ()


def origin_of(settings: Settings, image: Mapping[str, Any]) -> Origin:
    """Where an image comes from: by its tags, or else by what this machine keeps of the run that baked it.

    Args:
        settings: where the runs are.
        image: as in DescribeImages; one that gpunodes did not bake has no such tags, and an origin of unknowns.
    """
    tags = ami.tags_of(dict(image))
    run_id = tags.get(runs.TAG_RUN_ID, "")
    instance_id = _instance_id(tags.get(bake_record.TAG_BAKE_INSTANCE))
    if not instance_id and run_id:
        # A tag may be anything, but must not lead out of the folder of runs.
        instance_id = _instance_id_in(settings.runs_folder / Path(run_id).name / "facts")
    return Origin(instance_id, _begun_at(run_id), image.get("CreationDate"))


def look_at(shell: Shell, origin: Origin) -> Clone:
    """Run `verify-clone.sh` on a clone.

    Args:
        shell: a connection to it, of a user who may sudo.
        origin: of its image.

    Raises:
        ToolError: the connection broke.
    """
    folder = shell.run("mktemp --directory").strip()  # in /tmp, where the script does not look
    shell.write(f"{folder}/{_SCRIPT.name}", _SCRIPT.read_text())
    shell.write(f"{folder}/facts.json", json.dumps(origin.facts()))
    printed = shell.run(
        f"sudo env BUILDER_INSTANCE_ID={shlex.quote(origin.instance_id or _NO_ID)} BUILDER_FACTS={folder}/facts.json"
        f" timeout {_LONGEST_SECONDS} bash {folder}/{_SCRIPT.name} 2>&1; echo $?; rm -rf {folder}"
    )
    *lines, status = printed.splitlines()
    return _clone(lines, int(status))


def in_common(one: Clone, other: Clone) -> list[str]:
    """Names of what two clones share and each must have for itself; what a clone has none of, it does not share."""
    return [name for name in one.identity if _shared(one.identity[name], other.identity.get(name))]


def _clone(lines: list[str], status: int) -> Clone:
    identity: dict[str, Any] = next((json.loads(line) for line in lines if line.startswith('{"')), {})
    complaints = tuple(line.removeprefix(_COMPLAINT) for line in lines if line.startswith(_COMPLAINT))
    if status == _TIMED_OUT:
        complaints += (f"{_SCRIPT.name} did not finish within {_LONGEST_SECONDS} s.",)
    elif not complaints and (status or not identity):
        complaints = (f"{_SCRIPT.name} could not finish: {lines[-1] if lines else 'it printed nothing'}",)
    return Clone(identity, complaints)


def _shared(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return bool(set(one) & set(other))
    return one is not None and bool(one == other)


def _instance_id(text: object) -> str:
    return text if isinstance(text, str) and _INSTANCE_ID.fullmatch(text) else ""


def _instance_id_in(facts_folder: Path) -> str:
    with contextlib.suppress(ToolError):  # baked on another machine, or the run's folder was deleted
        return _instance_id(bake_record.facts(facts_folder).get("instance_id"))
    return ""


def _begun_at(run_id: str) -> datetime | None:
    try:
        return datetime.strptime(run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC) - _CLOCK_MARGIN
    except ValueError:  # no run of ours
        return None
