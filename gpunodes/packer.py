"""Packer: which one is installed, and a bake with it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpunodes import commands
from gpunodes.errors import ToolError
from gpunodes.tool_versions import installed_version

OLDEST = (1, 6, 6)
_PLUGINS_SINCE = (1, 7, 0)
_COMPLAINT = re.compile(r"(?<![\w-])[Ee]rror(?:ed)?(?![\w-])|failed|==>.*(?:missing|refus|mismatch)")


def version() -> tuple[int, ...]:
    """The installed Packer's version.

    Raises:
        PreflightError: there is none, or it is older than 1.6.6.
    """
    return installed_version("packer", OLDEST)


def lay_out(templates: Path, folder: Path, installed: tuple[int, ...]) -> None:
    """Copy the template to a folder of the run, with `required_plugins` beside it for a Packer that knows plugins."""
    folder.mkdir(parents=True)
    sources = list(templates.glob("*.pkr.hcl"))
    if installed >= _PLUGINS_SINCE:
        sources += (templates / "required-plugins").glob("*.pkr.hcl")
    for source in sources:
        shutil.copy(source, folder)


def build(
    folder: Path,
    variables: Mapping[str, Any],
    *,
    installed: tuple[int, ...],
    environment: Mapping[str, str],
    repository: Path,
    log: Path,
    on_step: Callable[[str], None],
) -> None:
    """Run `packer build`; for a Packer with plugins `packer init` first.

    Args:
        folder: the laid out template.
        variables: written to a variables file, so that no value meets a shell or a process list.
        installed: Packer's version.
        environment: of the target.
        repository: working directory; the template's paths are relative to it.
        log: gets everything that Packer prints.
        on_step: told what Packer is doing.

    Raises:
        ToolError: Packer failed; the message ends with what it said.
    """
    variables_file = folder / "run.pkrvars.json"
    variables_file.write_text(json.dumps(dict(variables), indent=2))
    env = {
        **environment,
        "CHECKPOINT_DISABLE": "1",
        "PACKER_NO_COLOR": "1",
        "PACKER_CACHE_DIR": str(folder / "cache"),
    }
    if installed >= _PLUGINS_SINCE:
        _run(["packer", "init", str(folder)], env, repository, log, on_step)
    arguments = ["packer", "build", "-color=false", "-timestamp-ui", f"-var-file={variables_file}", str(folder)]
    _run(arguments, env, repository, log, on_step)


def artifact_ami(manifest: Path) -> str:
    """The AMI id in a manifest; `last_run_uuid` picks the entry, since Packer appends to a manifest that exists.

    Raises:
        ToolError: there is none.
    """
    try:
        document = json.loads(manifest.read_text())
        entry = next(build for build in document["builds"] if build["packer_run_uuid"] == document["last_run_uuid"])
        return str(entry["artifact_id"]).rpartition(":")[2]
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise ToolError(f"Packer ended well but wrote no usable manifest to {manifest}; bake again.") from error


def _run(
    argv: Sequence[str],
    env: Mapping[str, str],
    repository: Path,
    log: Path,
    on_step: Callable[[str], None],
) -> None:
    errors: list[str] = []

    def note(line: str) -> None:
        text = _message(line)
        if "==>" in line and text:
            on_step(text)
        if _COMPLAINT.search(line):
            errors.append(text or line.strip())

    status = commands.follow(argv, log=log, env=env, cwd=repository, on_line=note)
    if status != 0:
        reason = errors[0] if errors else f"exit status {status}"
        raise ToolError(f"Packer failed: {reason.rstrip('.')}; all that it printed is in {log}.")


def _message(line: str) -> str:
    """A line of Packer without time stamp, arrow and the builder's name."""
    text = re.sub(r"^\d{4}-\d\d-\d\dT\S+", "", line.strip()).strip()
    return re.sub(r"^(==>)?\s*(amazon-ebs\.gpu|Builds finished[^:]*)?:?\s*", "", text).strip()
