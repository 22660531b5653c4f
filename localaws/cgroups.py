"""A control group for each machine, so that two systemds never manage the same one."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path


class ControlGroups:
    """The groups of one offline cloud's machines, in every hierarchy in which systemd keeps its units."""

    def __init__(self, name: str, root: Path = Path("/sys/fs/cgroup")) -> None:
        # One hierarchy with cgroup v2; `systemd` and perhaps `unified` with v1 and the hybrid of both.
        unified = (root / "cgroup.controllers").exists()
        hierarchies = [root] if unified else [root / "systemd", root / "unified"]
        self._tops = [hierarchy / name for hierarchy in hierarchies if hierarchy.is_dir()]

    def create(self, machine: str) -> list[Path]:
        """Make a machine's groups and return the files to which a process writes its id to enter them."""
        files = []
        for top in self._tops:
            folder = top / machine
            folder.mkdir(parents=True, exist_ok=True)
            files.append(folder / "cgroup.procs")
        return files

    def process_ids(self, machine: str = ".") -> set[int]:
        """Ids of the processes inside one machine's groups, or inside every machine's."""
        found: set[int] = set()
        for top in self._tops:
            for procs in (top / machine).rglob("cgroup.procs"):
                with suppress(OSError):  # a group that goes while it is looked at has no processes
                    found.update(int(line) for line in procs.read_text().split())
        return found - {0}

    def kill(self, machine: str = ".") -> None:
        """Kill what is inside one machine's groups, or inside every machine's."""
        for process_id in self.process_ids(machine):
            with suppress(ProcessLookupError):  # it ended by itself meanwhile, which is what was wanted
                os.kill(process_id, signal.SIGKILL)

    def remove(self, machine: str | None = None, patience_seconds: float = 5.0) -> None:
        """Remove one machine's groups, or every machine's, once their last process has gone.

        Raises:
            OSError: a process is still inside after `patience_seconds`.
        """
        deadline = time.monotonic() + patience_seconds
        for top in self._tops:
            folder = top / machine if machine else top
            while (failure := _try_to_remove(folder)) is not None:
                if time.monotonic() > deadline:
                    raise failure
                self.kill(machine or ".")  # one may have been started while the others were killed
                time.sleep(0.02)  # the kernel empties a group a moment after its processes died


def _try_to_remove(folder: Path) -> OSError | None:
    try:
        _remove_tree(folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        return error
    return None


def _remove_tree(folder: Path) -> None:
    below = [path for path in folder.rglob("*") if path.is_dir()]
    for path in sorted(below, reverse=True):
        path.rmdir()
    folder.rmdir()
