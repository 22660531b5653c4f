"""The one place of localaws that starts processes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from localaws.errors import CommandFailed

_OUTPUT_KEPT = 4000
# Both from util-linux.
_SETPRIV = "setpriv"
_SETSID = "setsid"
# The child enters its control groups itself, before anything that it starts can be outside of them. A starter that died
# before setpriv spoke to the kernel sends no signal any more: the child then has another parent, and ends by itself.
_ENTER_GROUPS = """
[ "$PPID" = "$STARTED_BY" ] || exit
for file in $CGROUP_FILES; do echo $$ >"$file" || exit; done
unset CGROUP_FILES STARTED_BY
exec "$@"
"""


Process = subprocess.Popen[bytes]
"""A child that was started; its methods are subprocess's."""


def wait(process: Process, patience_seconds: float) -> bool:
    """Wait for a child to end; False when it has not after `patience_seconds`."""
    try:
        process.wait(patience_seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    input: str | None = None,  # noqa: A002 - the name that subprocess gives it
    timeout_seconds: float | None = None,
) -> str:
    """Run a program to its end and return its standard output.

    Args:
        argv: program and arguments; never a shell line.
        env: added to this process's environment.
        cwd: directory to run in.
        input: text for its standard input; without it the input is empty.
        timeout_seconds: after this it is killed and counts as failed.

    Raises:
        CommandFailed: it is not installed or not executable, exited with another status than 0, or timed out.
    """
    arguments = list(argv)
    stdin_text = "" if input is None else input
    try:
        done = subprocess.run(
            arguments,
            env={**os.environ, **env} if env else None,
            cwd=cwd,
            input=stdin_text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
        )
    except OSError as error:
        raise CommandFailed(arguments, None, f"{error.filename}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(arguments, None, f"no end after {timeout_seconds} s") from error
    if done.returncode != 0:
        raise CommandFailed(arguments, done.returncode, (done.stdout + done.stderr)[-_OUTPUT_KEPT:])
    return done.stdout


def start(argv: Sequence[str], *, log: Path, cgroup_files: Sequence[Path] = ()) -> Process:
    """Start a child that is killed when the thread that started it ends, its output appended to `log`.

    The kernel delivers that kill (PR_SET_PDEATHSIG) also when this process is killed with SIGKILL.

    Args:
        argv: program and arguments.
        log: file for its output.
        cgroup_files: `cgroup.procs` files of the control groups that it enters before it starts.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [_SETPRIV, "--pdeathsig", "KILL", "sh", "-c", _ENTER_GROUPS, "sh", *argv],
            env={
                **os.environ,
                "STARTED_BY": str(os.getpid()),
                "CGROUP_FILES": " ".join(str(file) for file in cgroup_files),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def start_daemon(
    argv: Sequence[str], *, log: Path, cwd: Path, env: Mapping[str, str], kept_open: Sequence[int] = ()
) -> None:
    """Start a process in a session of its own that is no child of this one and outlives it.

    Args:
        argv: program and arguments.
        log: file for its output.
        cwd: its working directory.
        env: added to this process's environment.
        kept_open: file descriptors that it inherits, a lock for instance.
    """
    with log.open("ab") as output:
        try:
            subprocess.run(
                [_SETSID, "--fork", *argv],
                cwd=cwd,
                env={**os.environ, **env},
                pass_fds=kept_open,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise CommandFailed([_SETSID, *argv], None, str(error)) from error
