"""The checkout that a bake is made from: its git commit, for the record of the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpunodes import commands
from gpunodes.errors import ToolError
from gpunodes.settings import REPOSITORY


@dataclass(frozen=True)
class Checkout:
    """State of a checkout.

    Attributes:
        commit: 40 hexadecimal digits; None where it cannot be read, as in an unpacked archive.
        is_dirty: whether files differ from that commit; None where that cannot be read.
    """

    commit: str | None
    is_dirty: bool | None

    def __str__(self) -> str:
        if self.commit is None:
            return "unknown"
        return f"{self.commit}{'-dirty' if self.is_dirty else ''}"


def read(folder: Path = REPOSITORY, run: Callable[[Sequence[str]], str] = commands.run) -> Checkout:
    """The state of a checkout by `git status`; unknown where there is no git, or no repository."""
    try:
        # One call, and no lock: a bake must not get in the way of who works in the same checkout.
        status = run(["git", "--no-optional-locks", "-C", str(folder), "status", "--porcelain=v2", "--branch"])
    except ToolError:
        return Checkout(None, None)
    lines = status.splitlines()
    oid = next((line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid ")), "")
    commit = oid if oid and oid != "(initial)" else None
    return Checkout(commit, any(not line.startswith("#") for line in lines))
