"""What Terraform prints: messages for programs with `-json`, and boxes for people from what cannot speak JSON.

`init` has `-json` only since Terraform 1.9, and what goes wrong before a command begins is a box in every version.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

_PROGRESS = frozenset({
    "refresh_start", "apply_start", "apply_progress", "apply_complete", "apply_errored",
})  # fmt: skip
_TITLE = re.compile(r"Error: (.+)")
_BOX = " │╷╵"


@dataclass(frozen=True)
class Diagnostic:
    """An error, as Terraform or a provider tells it.

    Attributes:
        summary: its first line.
        detail: the rest; empty where there is none.
        address: of the resource, such as `module.instance.data.aws_ami.image`; empty where it is about none.
    """

    summary: str
    detail: str = ""
    address: str = ""


@dataclass
class TerraformOutput:
    """Reads it line by line.

    Attributes:
        on_step: told what Terraform is doing, such as `aws_instance.gpu: Creating...`.
        errors: so far, in their order.
    """

    on_step: Callable[[str], None] = lambda _text: None
    errors: list[Diagnostic] = field(default_factory=list)
    _box: list[str] | None = None

    def take(self, line: str) -> None:
        """Understand one line, without its end."""
        message = _message(line)
        if message is None:
            self._take_text(line)
        elif message.get("type") in _PROGRESS:
            self.on_step(str(message.get("@message", "")).split(" [", maxsplit=1)[0])
        elif message.get("type") == "diagnostic" and (found := _diagnostic(message)):
            self.errors.append(found)

    def _take_text(self, line: str) -> None:
        text = line.strip(_BOX)
        if title := _TITLE.match(text):
            self._box = []
            self.errors.append(Diagnostic(title[1].strip()))
        elif self._box is not None:
            self._take_detail(line, text)

    def _take_detail(self, line: str, text: str) -> None:
        """The lines below a title: where it happened, `on` and `with`, and then why; wrapped at 78 columns."""
        if self._box is None or line.startswith("╵"):
            self._box = None
            return
        if text.startswith("with ") and text.endswith(",") and not self._box:
            self.errors[-1] = Diagnostic(self.errors[-1].summary, "", text.removeprefix("with ").rstrip(","))
            return
        if text and not re.match(r"on \S+ line \d+|\d+: ", text):
            self._box.append(text)
            last = self.errors[-1]
            self.errors[-1] = Diagnostic(last.summary, " ".join(self._box), last.address)


def readable(line: str) -> str:
    """A line as a person reads it in a log: a message for programs becomes its text, all else stays as it is."""
    message = _message(line)
    if message is None:
        return line
    found = message.get("diagnostic") or {}
    where = f"with {found['address']}" if found.get("address") else ""
    lines = "\n".join([str(message["@message"]), str(found.get("detail", "")), where]).splitlines()
    return _time(message) + "\n    ".join(line for line in lines if line.strip()) + "\n"


def _message(line: str) -> dict[str, Any] | None:
    """What a line for programs says; None for a line that is for people."""
    if not line.startswith("{"):
        return None
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and "@message" in message else None


def _diagnostic(message: dict[str, Any]) -> Diagnostic | None:
    """None for a warning."""
    found = message.get("diagnostic") or {}
    if found.get("severity") != "error":
        return None
    return Diagnostic(str(found.get("summary", "")), str(found.get("detail", "")), str(found.get("address", "")))


def _time(message: dict[str, Any]) -> str:
    try:
        at = datetime.fromisoformat(str(message.get("@timestamp", "")))
    except ValueError:
        return ""
    return f"{at.astimezone(UTC):%H:%M:%S}Z "
