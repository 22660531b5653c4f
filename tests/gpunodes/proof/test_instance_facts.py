from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from gpunodes.errors import ToolError
from gpunodes.proof.instance_facts import Listener, look_around

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
SAID = {
    "boot_seconds": 3.5,
    "cloud_init_errors": None,
    "failed_units": ["a.service"],
    "imds_v1_status": 401,
    "imds_v2_status": 200,
    "listeners": [{"port": 22, "protocol": "tcp", "address": "0.0.0.0", "process": "sshd"}],
    "boot_id": "one",
    "unix_time": (NOON + timedelta(seconds=61)).timestamp(),
}


class Instance:
    """Answers the program with a document."""

    def __init__(self, printed: str) -> None:
        self.printed = printed
        self.commands: list[str] = []
        self.written: dict[str, str] = {}

    def run(self, command: str) -> str:
        self.commands.append(command)
        if command == "mktemp --directory":
            return "/tmp/one\n"
        return self.printed if command.startswith("sudo python3") else ""

    def write(self, path: str, content: str) -> None:
        self.written[path] = content


def test_facts_are_read_and_the_clock_is_held_against_the_middle_of_the_question() -> None:
    instance = Instance(json.dumps(SAID))
    moments = iter([NOON, NOON + timedelta(seconds=2)])

    facts = look_around(instance, now=lambda: next(moments))

    assert facts.clock_ahead_seconds == pytest.approx(60)
    assert facts.clock_error_seconds == 1
    assert facts.cloud_init_errors is None
    assert facts.listeners == (Listener(22, "tcp", "0.0.0.0", "sshd"),)
    assert facts.listeners[0].door == "22/tcp"
    assert "def listeners" in instance.written["/tmp/one/look_around.py"]
    assert instance.commands[-1] == "rm -rf /tmp/one"


def test_an_answer_that_is_no_document_is_an_error() -> None:
    with pytest.raises(ToolError, match="The instance cannot say what it is like: Segmentation fault"):
        look_around(Instance("Segmentation fault"))
