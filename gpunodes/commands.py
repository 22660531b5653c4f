"""The one place of gpunodes that starts processes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gpunodes.errors import ToolError

GRACE_SECONDS = 90.0  # Packer and Terraform finish the API call at hand and remove what they made
_LAST_LINES = 4000


def run(argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a short program and return its standard output.

    Raises:
        ToolError: it is not installed or exited with another status than 0; the message ends with its last line.
    """
    try:
        done = subprocess.run(
            list(argv),
            env={**os.environ, **env} if env else None,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise _not_started(argv[0], error) from error
    if done.returncode != 0:
        raise ToolError(f"`{argv[0]}` failed: {_last_line(done.stdout + done.stderr)}")
    return done.stdout


def follow(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str],
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    grace_seconds: float = GRACE_SECONDS,
) -> int:
    """Run a long program, its output line by line into `log` and to `on_line`; return its exit status.

    It runs in a session of its own: Ctrl-C at the terminal reaches this process alone, which passes it on once and then
    waits for the program to clean up.

    Args:
        argv: program and arguments.
        log: appended to.
        env: added to this process's environment.
        cwd: working directory.
        on_line: told each line without its end.
        grace_seconds: how long an interrupted program may take to clean up before it and its children are killed.

    Raises:
        ToolError: it is not installed or cannot be started.
        BaseException: whatever interrupted the wait, after the program has ended.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            env={**os.environ, **env},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise _not_started(argv[0], error) from error
    with process:
        try:
            with log.open("a", buffering=1) as written:
                try:
                    _pump(process, written.write, on_line)
                except BaseException:
                    _interrupt(process, written.write, grace_seconds)
                    raise
            return process.wait()
        except BaseException:
            _kill(process)
            raise


class Background:
    """A program that goes on by itself while its starter does other things; `start` makes it."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, log: Path) -> None:
        self._process = process
        self._output = output
        self._log = log.open("rb")
        self._unfinished = b""

    def poll(self) -> int | None:
        """Its exit status, negative for the signal that ended it; None while it goes on."""
        status = self._process.poll()
        if status is not None and not self._log.closed:
            self._unfinished += self._log.read()
            self._log.close()
        return status

    def new_lines(self) -> list[str]:
        """What it wrote to its log since the last call, in whole lines; after its end all that is left."""
        if self._log.closed:
            rest, self._unfinished = self._unfinished, b""
            return rest.decode(errors="replace").splitlines()
        *lines, self._unfinished = (self._unfinished + self._log.read()).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def output(self) -> str:
        """Its standard output so far."""
        return self._output.read_text(errors="replace")

    def terminate(self) -> None:
        """Ask it to end (SIGTERM); its own children are its own business."""
        self._process.terminate()

    def kill(self) -> None:
        """End it and its session at once."""
        _kill(self._process)
        self._process.wait()


def start(argv: Sequence[str], *, output: Path, log: Path, env: Mapping[str, str], cwd: Path) -> Background:
    """Start a program in a session of its own and return at once.

    It writes to files and not to us, so that it finishes and cleans up even where this process is killed.

    Args:
        argv: program and arguments.
        output: gets its standard output.
        log: gets its standard error.
        env: added to this process's environment.
        cwd: working directory.

    Raises:
        ToolError: it is not installed or cannot be started.
    """
    with output.open("wb") as out, log.open("wb") as err:
        try:
            process = subprocess.Popen(
                list(argv),
                env={**os.environ, **env},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        except OSError as error:
            raise _not_started(argv[0], error) from error
    return Background(process, output, log)


def _pump(
    process: subprocess.Popen[str], write: Callable[[str], object], on_line: Callable[[str], None] | None
) -> None:
    for line in process.stdout or ():
        write(line)
        if on_line is not None:
            on_line(line.rstrip("\n"))


def _interrupt(process: subprocess.Popen[str], write: Callable[[str], object], grace_seconds: float) -> None:
    """Interrupt a program once and let it clean up; what it prints meanwhile goes to its log."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        rest, _ = process.communicate(timeout=grace_seconds)
        write(rest or "")


def _kill(process: subprocess.Popen[Any]) -> None:
    """End what is left of a program's session: its plugins too, which would go on without it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _not_started(program: str, error: OSError) -> ToolError:
    if isinstance(error, FileNotFoundError):
        return ToolError(f"`{program}` is not installed; run scripts/bootstrap.")
    return ToolError(f"`{program}` cannot be started ({error.strerror}); see to that file.")


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output[-_LAST_LINES:].splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
