"""HashiCorp's tools on PATH: whether they are there, what they are, and whether they are new enough."""

from __future__ import annotations

import re
import shutil

from gpunodes import commands
from gpunodes.errors import PreflightError, ToolError


def installed_version(tool: str, oldest: tuple[int, ...]) -> tuple[int, ...]:
    """The version that `TOOL version` prints as `Tool v1.2.3`.

    Args:
        tool: name of the program, such as `packer`.
        oldest: version that is just new enough.

    Raises:
        PreflightError: it is not installed, is another program of that name, does not work, or is too old.
    """
    name, wanted = tool.capitalize(), _text(oldest)
    if shutil.which(tool) is None:
        raise PreflightError(f"{name} is not installed; run scripts/bootstrap, or put {wanted} or newer on PATH.")
    try:
        output = commands.run([tool, "version"], env={"CHECKPOINT_DISABLE": "1"})
    except ToolError as error:
        raise PreflightError(f"The `{tool}` on PATH does not work; put {name} {wanted} or newer first.") from error
    found = re.search(rf"{name} v(\d+)\.(\d+)\.(\d+)", output)
    if found is None:
        raise PreflightError(f"`{tool}` on PATH is not HashiCorp's {name}; put {name} {wanted} or newer first on PATH.")
    version = tuple(int(part) for part in found.groups())
    if version < oldest:
        raise PreflightError(
            f"{name} {_text(version)} is too old; run scripts/bootstrap, or install {wanted} or newer."
        )
    return version


def _text(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
