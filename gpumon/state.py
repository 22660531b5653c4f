"""What gpumon remembers from one process to the next: one small JSON file in its state directory."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

VERSION = 1
BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
MACHINE_FILE = Path("/sys/class/dmi/id/product_name")  # on EC2 the instance type
MACHINE_ID_FILE = Path("/etc/machine-id")

log = logging.getLogger(__name__)


class StateFile:
    """Loads and saves a document; a disk that fails costs the memory of it, never the service."""

    def __init__(self, directory: Path | None) -> None:
        """Use ``state.json`` in `directory`; None: nothing is kept."""
        self._path = None if directory is None else directory / "state.json"

    def load(self) -> dict[str, Any]:
        """Return what was saved last; empty if nothing was, or if it cannot be read."""
        if self._path is None:
            return {}
        try:
            document = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            log.warning("%s cannot be read (%s), beginning anew", self._path, error)
            return {}
        if not isinstance(document, dict) or document.get("version") != VERSION:
            log.warning("%s is of another version of gpumon, beginning anew", self._path)
            return {}
        return document

    def save(self, document: dict[str, Any]) -> None:
        """Replace what was saved, in one step."""
        if self._path is None:
            return
        draft = self._path.with_suffix(".new")
        try:
            draft.write_text(json.dumps({"version": VERSION, **document}, separators=(",", ":")), encoding="utf-8")
            draft.replace(self._path)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error.strerror)


def boot_id() -> str:
    """Return what names the present boot of the kernel, or ""."""
    return read_line(BOOT_ID_FILE)


def machine_id() -> str:
    """Return what names this installation; every instance of an image gets one of its own (machine-id(5))."""
    return read_line(MACHINE_ID_FILE)


def machine() -> str:
    """Return what names this machine and its kind: on EC2 the latter is the instance type, which a stop may change."""
    return f"{machine_id()} {read_line(MACHINE_FILE)}"


def read_line(path: Path) -> str:
    """Return the first line of a file of the system, or "" if there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
