"""Packer: which one is installed, and a bake with it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpunodes import commands
from gpunodes.bake.packer_output import BuildOutput, Phases
from gpunodes.errors import ToolError
from gpunodes.operation.steps import Timing
from gpunodes.tool_versions import installed_version

OLDEST = (1, 6, 6)
_PLUGINS_SINCE = (1, 7, 0)
_CRASH_LOG = "crash.log"
_FAILED = 1  # Packer's exit status for a build or a template that it refuses


@dataclass(frozen=True)
class PackerResult:
    """What a build made, and how long its parts took.

    Attributes:
        ami_id: the image.
        phases: in their order, with their seconds.
        seconds: of `packer build` (and `packer init`) as a whole.
    """

    ami_id: str
    phases: list[Timing]
    seconds: float


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
    on_made: Callable[[str, str], None] = lambda _kind, _id: None,
    phases: Sequence[Phases] = (),
    manifest: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> PackerResult:
    """Run `packer build`; for a Packer with plugins `packer init` first.

    Args:
        folder: the laid out template; gets Packer's own output, `machine-readable.log`.
        variables: written to a variables file, so that no value meets a shell or a process list.
        installed: Packer's version.
        environment: of the target.
        repository: working directory; the template's paths are relative to it.
        log: gets everything that Packer prints, as people read it.
        on_step: told what Packer is doing.
        on_made: told kind and id of what Packer makes, such as `instance` and `i-...`, as soon as it says so.
        phases: told when each phase begins and ends.
        manifest: Packer's; when given, its image must be the one that Packer named.
        clock: seconds, monotonic.

    Raises:
        ToolError: Packer failed, with what it said first; or crashed; or ended well without exactly one image.
    """
    begin = clock()
    env = {
        **environment,
        "CHECKPOINT_DISABLE": "1",
        "PACKER_NO_COLOR": "1",
        "PACKER_CACHE_DIR": str(folder / "cache"),
    }
    variables_file = folder / "run.pkrvars.json"
    variables_file.write_text(json.dumps(dict(variables), indent=2))
    run = _Run(env, repository, log)
    output = BuildOutput(clock, on_detail=on_step, on_made=on_made, listeners=phases)
    output.begin()
    if installed >= _PLUGINS_SINCE:
        run.follow(["packer", "init", str(folder)], output, folder / "init.log")
    arguments = ["packer", "-machine-readable", "build", "-color=false", f"-var-file={variables_file}", str(folder)]
    run.follow(arguments, output, folder / "machine-readable.log")
    if not output.ended:  # 1.6.6 exits with 0 when its worker was killed
        raise ToolError(f"Packer crashed: it ended in the middle of the build; all that it printed is in {log}.")
    output.close(is_well=True)
    ami_id = _only_image(output, log)
    if manifest is not None and artifact_ami(manifest) != ami_id:
        raise ToolError(f"Packer named {ami_id}, and {manifest} another image; bake again.")
    return PackerResult(ami_id, output.phases, clock() - begin)


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


@dataclass(frozen=True)
class _Run:
    """Where Packer runs, and the log for people."""

    environment: Mapping[str, str]
    repository: Path
    log: Path

    def follow(self, argv: Sequence[str], output: BuildOutput, raw: Path) -> None:
        """Run Packer; what it prints once it is interrupted reaches `raw` alone, and is read from there at the end."""
        lines_read = 0
        with self.log.open("a", buffering=1) as written:

            def take(line: str) -> None:
                nonlocal lines_read
                lines_read += 1
                written.writelines(f"{text}\n" for text in output.read(line))

            try:
                status = commands.follow(argv, log=raw, env=self.environment, cwd=self.repository, on_line=take)
            except BaseException:
                if raw.exists():
                    for line in raw.read_text(errors="replace").rstrip("\n").split("\n")[lines_read:]:
                        take(line)
                output.close(is_well=False)
                raise
        if status != 0:
            output.close(is_well=False)
            raise self._failure(output, status)

    def _failure(self, output: BuildOutput, status: int) -> ToolError:
        all_in = f"all that it printed is in {self.log}"
        reason = output.reason.rstrip(".")
        if output.crashed or status < 0 or (status != _FAILED and not output.ended):
            reason = reason if output.crashed else ""
            ended_by = f"signal {-status} ended it" if status < 0 else f"exit status {status} in the middle of its work"
            return ToolError(f"Packer crashed: {reason or ended_by}; {all_in}{self._crash_log()}.")
        return ToolError(f"Packer failed: {reason or f'exit status {status}'}; {all_in}.")

    def _crash_log(self) -> str:
        """Take the log that a Packer which panics leaves where it was started."""
        crash_log = self.repository / _CRASH_LOG
        if not crash_log.exists():
            return ""
        kept = self.log.with_name(f"packer-{_CRASH_LOG}")
        shutil.move(crash_log, kept)
        return f", its crash log is {kept}"


def _only_image(output: BuildOutput, log: Path) -> str:
    images = sorted(set(output.artifacts.values()))
    if len(images) != 1:
        named = ", ".join(images) or "no image"
        raise ToolError(f"Packer ended well with {named}, not with one image; all that it printed is in {log}.")
    return images[0]
