"""The state files: `key=value` lines, replaced as a whole, one writer at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from localaws.simgpu.errors import StateError


def read(path: Path) -> dict[str, str]:
    """Read a state file.

    Raises:
        StateError: it is not there or not readable.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise StateError(f"Install GPUs first: cannot read {path}: {error.strerror}.") from error
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def write(path: Path, values: Mapping[str, object]) -> None:
    """Replace a state file in one step: a reader sees the old content or the new one, never a part.

    Raises:
        StateError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    text = "".join(f"{key}={value}\n" for key, value in values.items())
    try:
        draft.write_text(text, encoding="utf-8")
        draft.chmod(0o644)  # every user of the machine reads it, whatever our umask
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise StateError(f"Make {path.parent} writable: {error.strerror}.") from error


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other writers of this state directory out.

    Raises:
        StateError: there is no such directory.
    """
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StateError(f"Install GPUs first: cannot open {directory}: {error.strerror}.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def changing(directory: Path, path: Path) -> Iterator[dict[str, str]]:
    """Let the caller change a state file; nothing is written if the caller fails.

    Args:
        directory: the state directory, closed to other writers meanwhile.
        path: the state file.

    Raises:
        StateError: it cannot be read or written.
    """
    with locked(directory):
        values = read(path)
        yield values
        write(path, values)


def count_lines(path: Path) -> int:
    """Count the lines of a file that readers follow.

    Raises:
        StateError: it is not there or not readable.
    """
    try:
        return path.read_bytes().count(b"\n")
    except OSError as error:
        raise StateError(f"Install GPUs first: cannot read {path}: {error.strerror}.") from error


def append(path: Path, line: str) -> None:
    """Append a line to a file that readers follow, in one step.

    Raises:
        StateError: it cannot be written.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)
    except OSError as error:
        raise StateError(f"Make {path} writable: {error.strerror}.") from error
