"""Checks of the operator's machine: programs and disk."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from gpunodes import commands
from gpunodes.bake import packer
from gpunodes.errors import PreflightError, ToolError
from gpunodes.preflight.finding import NotAnsweredError, Seen

NEEDED_GIB = 2
_GIB = 2**30
_PLUGIN = "session-manager-plugin"


def packer_version() -> Seen[tuple[int, ...]]:
    """Packer, 1.6.6 or newer.

    Raises:
        PreflightError: it is not installed, or too old.
    """
    version = packer.version()
    text = ".".join(str(part) for part in version)
    return Seen(version, f"Packer {text} is new enough.", {"version": text})


def session_manager_plugin() -> Seen[str]:
    """AWS's plugin for tunnels, which Packer and SSH start themselves.

    Raises:
        PreflightError: it is not installed, or does not work.
    """
    if shutil.which(_PLUGIN) is None:
        raise PreflightError(
            f"The {_PLUGIN} is not installed; install it as AWS documents, or set ssh_interface to public_ip or"
            " private_ip in gpunodes.toml."
        )
    try:
        version = commands.run([_PLUGIN, "--version"]).strip()
    except ToolError as error:
        raise PreflightError(f"The {_PLUGIN} on PATH does not work; install it anew.") from error
    return Seen(version, f"The {_PLUGIN} {version} is installed.", {"version": version})


def git() -> Seen[str]:
    """Git, which names the commit in the evidence.

    Raises:
        NotAnsweredError: it is not installed or does not work; the evidence will lack the commit.
    """
    lacking = "Without git the evidence of an image cannot name the commit that it was baked from; install git."
    if shutil.which("git") is None:
        raise NotAnsweredError(lacking)
    try:
        found = re.search(r"\d+(\.\d+)+", commands.run(["git", "--version"]))
    except ToolError as error:
        raise NotAnsweredError(lacking) from error
    version = found.group() if found else "of an unknown version"
    return Seen(version, f"git {version} is installed.", {"version": version})


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def disk(work_folder: Path, free_bytes_in: Callable[[Path], int] = _free_bytes) -> Seen[float]:
    """Room for a run in the work folder, which need not exist yet; the fact is GiB.

    Raises:
        PreflightError: less than 2 GiB are free, or nobody can say.
    """
    folder = next(place for place in [work_folder, *work_folder.absolute().parents] if place.exists())
    try:
        free_gib = free_bytes_in(folder) / _GIB
    except OSError as error:
        raise PreflightError(
            f"{folder} cannot be read ({error.strerror}); set work_folder in gpunodes.toml."
        ) from error
    if free_gib < NEEDED_GIB:
        raise PreflightError(
            f"{work_folder} has {free_gib:.1f} GiB free and a run needs {NEEDED_GIB} GiB; make room there."
        )
    evidence = {"folder": str(folder), "free_gib": round(free_gib, 1), "needed_gib": NEEDED_GIB}
    return Seen(free_gib, f"{work_folder} has {free_gib:.1f} GiB free.", evidence)
