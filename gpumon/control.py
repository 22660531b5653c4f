"""``gpumon release`` and ``gpumon resume``: ask the service to let go of the driver, and to take it back.

Two files in the runtime directory are the whole protocol: ``released`` is the wish (it is there or not, and outlives a
restart of the service), and ``driver-state`` is what the service does about it. The second names the first one that it
answers, so that an answer to an earlier wish is never taken for one to this.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gpumon.clock import SystemClock
from gpumon.errors import GpumonError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpumon.clock import Clock

    DriverState = Literal["held", "released"]

DEFAULT_DIRECTORY = Path("/run/gpumon")
TIMEOUT_SECONDS = 15.0
RESTART_SECONDS = 8.0  # a driver that was replaced ends the service, and systemd starts it again after RestartSec=
DRIVER_NOT_BACK = 3  # exit code, as DriverUnavailableError's
_POLL_SECONDS = 0.1
_FLAG = "released"
_STATE = "driver-state"
_MOST_BYTES = 4096
_STATES = ("held", "released")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServiceStatus:
    """What the service says of itself.

    Attributes:
        pid: Its process.
        state: "held": it has a session of the driver; "released": it has none.
        unix_seconds: Since when.
        flag: Which flag it had seen then ("" for none).
    """

    pid: int
    state: DriverState
    unix_seconds: float
    flag: str


@dataclass(frozen=True)
class Outcome:
    """What came of a command: a sentence, and the exit code."""

    message: str
    exit_code: int = 0


class ReleaseFlag:
    """The service's side."""

    def __init__(self, directory: Path | None, clock: Clock | None = None, pid: int | None = None) -> None:
        """Work in `directory` (None: nobody can ask for a release) as process `pid` (None: this one)."""
        self._directory = directory
        self._clock = clock or SystemClock()
        self._pid = os.getpid() if pid is None else pid
        self._seen = ""
        self._reported: tuple[DriverState, str] | None = None

    def is_released(self) -> bool:
        """Say whether the driver is to be left alone: one system call."""
        if self._directory is None:
            return False
        try:
            self._seen = _flag_of(self._directory)
        except OSError as error:
            self._seen = ""
            log.warning("cannot see whether the driver is to be released: %s", error)
        return bool(self._seen)

    def report(self, state: DriverState) -> None:
        """Write what this process does, if that is news; a directory that cannot be written costs a warning.

        "released" must be reported only after the driver was closed (and `is_released` was asked before that): whoever
        reads it unloads the driver.
        """
        news = (state, self._seen)
        if self._directory is None or news == self._reported:
            return
        status = ServiceStatus(self._pid, state, self._clock.unix_seconds(), self._seen)
        new = self._directory / f"{_STATE}.new"
        try:
            new.write_text(json.dumps(asdict(status)) + "\n", encoding="ascii")
            new.chmod(0o644)
            new.replace(self._directory / _STATE)
        except OSError as error:
            log.warning("gpumon release and resume do not work: %s", error)
        else:
            self._reported = news

    def withdraw(self) -> None:
        """Take the report back, at the end of the service; the flag stays."""
        self._reported = None
        if self._directory is not None:
            with suppress(OSError):
                (self._directory / _STATE).unlink()


def release(
    directory: Path, clock: Clock, is_alive: Callable[[int], bool], timeout_seconds: float = TIMEOUT_SECONDS
) -> Outcome:
    """Ask the service to let go of the driver, and wait until it has.

    Args:
        directory: The runtime directory of the service.
        clock: What to wait with.
        is_alive: Says whether a process exists.
        timeout_seconds: How long to wait.

    Raises:
        GpumonError: This user may not ask, there is no service, or it did not let go in time.
    """
    flag = _set_flag(directory)

    def has_let_go(status: ServiceStatus) -> bool:
        return status.state == "released" and status.flag == flag

    status = _wait_for(has_let_go, directory, clock, is_alive, timeout_seconds)
    if status is None:
        return Outcome("gpumon is not running, and will leave the driver alone when it starts; undo with gpumon resume")
    if not has_let_go(status):
        raise GpumonError(
            f"Look at the log of gpumon.service: process {status.pid} holds the driver after {timeout_seconds:g} s."
        )
    return Outcome("gpumon has let go of the driver; take it back with gpumon resume")


def resume(
    directory: Path, clock: Clock, is_alive: Callable[[int], bool], timeout_seconds: float = TIMEOUT_SECONDS
) -> Outcome:
    """Let the service take the driver back, and wait until it has.

    Args:
        directory: The runtime directory of the service.
        clock: What to wait with.
        is_alive: Says whether a process exists.
        timeout_seconds: How long to wait.

    Returns:
        Exit code 0: the service holds the driver; `DRIVER_NOT_BACK`: it will, as soon as a driver answers.

    Raises:
        GpumonError: This user may not ask, or there is no service.
    """
    _remove_flag(directory)
    status = _wait_for(
        lambda status: status.state == "held",
        directory,
        clock,
        is_alive,
        timeout_seconds,
        restart_seconds=RESTART_SECONDS,
    )
    if status is None:
        raise GpumonError("Start gpumon.service: it may use the driver again, but it is not running.")
    if status.state != "held":
        return Outcome("gpumon takes the driver as soon as it answers, which it does not yet", DRIVER_NOT_BACK)
    return Outcome("gpumon reads the GPUs again")


def process_exists(pid: int) -> bool:
    """Say whether a process exists (what `release` and `resume` take as `is_alive`)."""
    return Path(f"/proc/{pid}").exists()


def read_status(directory: Path) -> ServiceStatus | None:
    """Return what the service said last, or None if it said nothing that can be understood.

    Raises:
        GpumonError: This user may not read it.
    """
    try:
        # The service is no more trusted than its user: neither a link nor a pipe of it may fool root.
        descriptor = os.open(directory / _STATE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise _not_allowed(error) from error
    except OSError:
        return None
    try:
        fields = json.loads(os.read(descriptor, _MOST_BYTES))
        status = ServiceStatus(int(fields["pid"]), fields["state"], float(fields["unix_seconds"]), str(fields["flag"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    finally:
        os.close(descriptor)
    return status if status.pid > 0 and status.state in _STATES else None


def _wait_for(
    is_done: Callable[[ServiceStatus], bool],
    directory: Path,
    clock: Clock,
    is_alive: Callable[[int], bool],
    timeout_seconds: float,
    *,
    restart_seconds: float = 0.0,
) -> ServiceStatus | None:
    """Return the status once it `is_done`, else the one at the end of the time.

    None: no service runs, and none began to within `restart_seconds`.
    """
    never = threading.Event()
    begin = clock.monotonic_seconds()
    while True:
        status = read_status(directory)
        waited = clock.monotonic_seconds() - begin
        if status is None or not is_alive(status.pid):
            if waited >= restart_seconds:
                return None
        elif is_done(status) or waited >= timeout_seconds:
            return status
        clock.wait(never, _POLL_SECONDS)


def _flag_of(directory: Path) -> str:
    """Return what tells the flag from every other one, "" if there is none."""
    try:
        found = os.lstat(directory / _FLAG)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return f"{found.st_ino}-{found.st_mtime_ns}"


def _set_flag(directory: Path) -> str:
    try:
        # O_EXCL follows no link that somebody put there.
        with suppress(FileExistsError):
            os.close(os.open(directory / _FLAG, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        return _flag_of(directory)
    except OSError as error:
        raise _problem(directory, error) from error


def _remove_flag(directory: Path) -> None:
    try:
        if not directory.is_dir():
            raise _not_running(directory)
        (directory / _FLAG).unlink(missing_ok=True)
    except OSError as error:
        raise _problem(directory, error) from error


def _problem(directory: Path, error: OSError) -> GpumonError:
    if isinstance(error, PermissionError):
        return _not_allowed(error)
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return _not_running(directory)
    return GpumonError(f"Make {directory} writable: {error}.")


def _not_allowed(error: OSError) -> GpumonError:
    return GpumonError(f"Run this as root: {error}.")


def _not_running(directory: Path) -> GpumonError:
    return GpumonError(f"Start gpumon.service first: it is not running, because there is no directory {directory}.")
