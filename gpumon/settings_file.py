"""Reads a settings file, and knows on which line each of its keys stands."""

from __future__ import annotations

import itertools
import re
import stat
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gpumon.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# Python's TOML parser needs time that grows with the square of the number of dots in a key, so neither a file nor a
# line may be of any length.
MOST_BYTES = 64 * 1024
LONGEST_LINE = 2000
_MOST_CANDIDATES = 20

# The key that a line begins with: of an assignment, of a dotted one, or of a section.
_FIRST_KEY = re.compile(
    r"""[ \t]* \[{0,2} [ \t]* ( "(?:[^"\\]|\\.)*" | '[^']*' | [A-Za-z0-9_-]+ ) [ \t]* [.=\]]""", re.VERBOSE
)


@dataclass(frozen=True)
class SettingsFile:
    """What a settings file says.

    Attributes:
        path: Where it is.
        values: Its top-level keys, in their order.
        text: The whole of it.
    """

    path: Path
    values: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""

    def place(self, key: str) -> str:
        """Return words for where `key` stands: file and line."""
        line = self.line_of(key)
        return f"{self.path}" if line is None else f"{self.path}, line {line}"

    def line_of(self, key: str) -> int | None:
        """Return the number of the line where the top-level key `key` first stands, counted from 1."""
        candidates = _lines_that_begin_with(key, self.text)
        for number, before in itertools.islice(candidates, _MOST_CANDIDATES):
            # A line inside of a multi-line string or array only looks like a key: what is before it is no TOML.
            try:
                tomllib.loads(before)
            except (ValueError, RecursionError):
                continue
            return number
        return None


def read_settings_file(path: Path, *, may_be_absent: bool = False) -> SettingsFile:
    """Read a settings file, whatever it contains, within a second.

    Args:
        path: The file.
        may_be_absent: Whether a file that does not exist is the same as an empty one.

    Raises:
        SettingsError: It cannot be read, or is no TOML; the message says on which line.
    """
    try:
        text = _text(path)
        return SettingsFile(path, tomllib.loads(text), text)
    except FileNotFoundError as error:
        if may_be_absent:
            return SettingsFile(path)
        raise _unreadable(path, str(error)) from error
    except RecursionError as error:
        raise _unreadable(path, "its brackets are nested too deeply") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise _unreadable(path, f"line {line} is not in UTF-8") from error
    # ValueError: no TOML, or a number of thousands of digits.
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from error


def _text(path: Path) -> str:
    if not stat.S_ISREG(path.stat().st_mode):
        raise _unreadable(path, "it is not a regular file")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise _unreadable(path, f"it is larger than {MOST_BYTES // 1024} KiB")
    text = content.decode("utf-8").replace("\r\n", "\n")
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > LONGEST_LINE:
            raise _unreadable(path, f"line {number} has more than {LONGEST_LINE} characters")
    return text


def _unreadable(path: Path, problem: str) -> SettingsError:
    return SettingsError(f"Repair the settings file {path}: {problem}.")


def _lines_that_begin_with(key: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield the number of each line whose first key is `key`, and all the text before that line."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        match = _FIRST_KEY.match(line)
        if match is not None and _unquoted(match[1]) == key:
            yield index + 1, "\n".join(lines[:index])


def _unquoted(token: str) -> str | None:
    if token[0] not in "\"'":
        return token
    try:
        return next(iter(tomllib.loads(f"{token} = 0")))
    except ValueError:
        return None
