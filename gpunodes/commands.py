"""The one place of gpunodes that starts processes."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
    as_logged: Callable[[str], str] = str,
    grace_seconds: float = GRACE_SECONDS,
    limit_seconds: float | None = None,
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
        as_logged: what of each line, with its end, goes into the log; all of it by default.
        grace_seconds: how long an interrupted program may take to clean up before it and its children are killed.

        limit_seconds: how long it may take before it is interrupted; None for as long as it likes.

    Raises:
        ToolError: it is not installed or cannot be started, or it took longer than its limit.
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
            with log.open("a", buffering=1) as written, _limited(process, limit_seconds, grace_seconds, log):

                def write(text: str) -> None:
                    written.writelines(as_logged(line) for line in text.splitlines(keepends=True))

                try:
                    _pump(process, write, on_line)
                except BaseException:
                    _interrupt(process, write, grace_seconds)
                    raise
            _kill_what_a_crash_left(process)
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


@contextmanager
def _limited(
    process: subprocess.Popen[Any], limit_seconds: float | None, grace_seconds: float, log: Path
) -> Iterator[None]:
    """Interrupt a program that takes too long; kill it where it does not heed that.

    Raises:
        ToolError: it took too long.
    """
    if limit_seconds is None:
        yield
        return
    is_late = threading.Event()

    def interrupt() -> None:
        is_late.set()
        process.send_signal(signal.SIGINT)

    timers = [
        threading.Timer(limit_seconds, interrupt),
        threading.Timer(limit_seconds + grace_seconds, _kill, [process]),
    ]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
    if is_late.is_set():
        program = process.args[0] if isinstance(process.args, list) else "it"
        raise ToolError(
            f"`{program}` was interrupted, for it did not end within {limit_seconds:g} s; what it printed is in {log}."
        )


def _kill_what_a_crash_left(process: subprocess.Popen[Any]) -> None:
    """A program that was killed leaves plugins that still call AWS; its number is its own until it is waited for."""
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    if ended is not None and ended.si_code != os.CLD_EXITED:
        _kill(process)


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
