"""A run: its id, and the folder that keeps its logs and its evidence."""

from __future__ import annotations

import fcntl
import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gpunodes.errors import PreflightError, UsageError
from gpunodes.operation import journal
from gpunodes.settings import Settings

TAG_RUN_ID = "gpunodes:run-id"
TAG_STATE = "gpunodes:state"
TAG_EXPIRES_AT = "gpunodes:expires-at"
LIFE = timedelta(hours=4)
_LOCK = "lock"
_TARGET = "target"
_NEEDED_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Run:
    """One execution of a task.

    Attributes:
        run_id: on every resource that the run makes.
        folder: logs and evidence of the run.
    """

    run_id: str
    folder: Path

    def write_json(self, name: str, document: Any) -> Path:
        """Keep a document in the run's folder."""
        path = self.folder / name
        path.write_text(json.dumps(document, indent=2, default=str) + "\n")
        return path


def utc_now() -> datetime:
    """The clock that is used where nobody gives another."""
    return datetime.now(UTC)


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def start(
    settings: Settings,
    target: str,
    now: datetime | None = None,
    free_bytes_in: Callable[[Path], int] = _free_bytes,
) -> Run:
    """Begin a run with a folder of its own.

    Args:
        settings: where the runs are.
        target: name and region of the target, as `destination`; only there can what it makes be destroyed.
        now: UTC; the clock's by default.
        free_bytes_in: free disk space of a folder, bytes.

    Raises:
        PreflightError: the folder cannot be written, or less than 2 GiB of disk are free.
    """
    try:
        settings.work_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PreflightError(
            f"{settings.work_folder} cannot be made ({error.strerror}); set work_folder in gpunodes.toml."
        ) from error
    free_bytes = free_bytes_in(settings.work_folder)
    if free_bytes < _NEEDED_BYTES:
        raise PreflightError(
            f"{settings.work_folder} has {free_bytes / 2**30:.1f} GiB free and a run needs 2 GiB; make room there."
        )
    run_id = f"{now or utc_now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    folder = settings.runs_folder / run_id
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise PreflightError(
            f"{folder.parent} cannot be written ({error.strerror}); give it to your user, or set work_folder."
        ) from error
    (folder / _TARGET).write_text(target)
    return Run(run_id, folder)


def target_of(settings: Settings, run_id: str) -> str | None:
    """Where a run of this checkout happened; None for a run of another checkout."""
    path = settings.runs_folder / run_id / _TARGET
    return path.read_text() if path.exists() else None


@contextmanager
def going_on(run: Run) -> Iterator[None]:
    """Hold the run's lock; it goes with the process, however that ends."""
    with (run.folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        except (PreflightError, UsageError):
            _forget_if_nothing_was_made(run)
            raise


def _forget_if_nothing_was_made(run: Run) -> None:
    if {path.name for path in run.folder.iterdir()} <= {_LOCK, _TARGET, journal.FILE}:
        shutil.rmtree(run.folder)


def is_going_on(settings: Settings, run_id: str) -> bool:
    """Whether the process of a run still lives: it holds the run's lock to its end."""
    path = settings.runs_folder / run_id / _LOCK
    if not path.exists():
        return False
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def is_over(settings: Settings, run_id: str) -> bool:
    """Whether a run is known to have ended: it is one of this checkout, and its process is gone."""
    return target_of(settings, run_id) is not None and not is_going_on(settings, run_id)


def tags(run: Run, **more: str) -> dict[str, str]:
    """Tags for everything that a run makes."""
    return {"gpunodes": "true", TAG_RUN_ID: run.run_id, **more}


def temporary_tags(run: Run, **more: str) -> dict[str, str]:
    """Tags for what must not outlive a run: with the time after which `invoke reap` may remove it."""
    return tags(run, **{TAG_EXPIRES_AT: f"{expires_at(run):%Y-%m-%dT%H:%M:%SZ}"}, **more)


def expires_at(run: Run) -> datetime:
    """When everything temporary of a run is surely not needed any more, UTC; a run's id begins with its start."""
    return datetime.strptime(run.run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC) + LIFE
