"""What a fresh instance says of itself: `on_instance/look_around.py`, run over SSH."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpunodes.errors import ToolError
from gpunodes.proof.clone import Shell

_PROGRAM = Path(__file__).parent / "on_instance" / "look_around.py"


@dataclass(frozen=True)
class Listener:
    """A socket that takes what comes from outside.

    Attributes:
        port: its number.
        protocol: `tcp` or `udp`.
        address: that it is bound to.
        process: that holds it; empty where nobody could tell.
    """

    port: int
    protocol: str
    address: str
    process: str

    @property
    def door(self) -> str:
        """As an allow list writes it, e.g. `22/tcp`."""
        return f"{self.port}/{self.protocol}"


@dataclass(frozen=True)
class InstanceFacts:
    """What `look_around.py` found; None means that it could not be read.

    Attributes:
        boot_seconds: from systemd's start to the end of boot; None while it still boots.
        cloud_init_errors: that cloud-init reports; None where it left no result.
        failed_units: systemd units that failed.
        imds_v1_status: HTTP status of a metadata request without a session token.
        imds_v2_status: the same with a token.
        listeners: sockets that are not loopback's.
        boot_id: another after every boot.
        clock_ahead_seconds: of the instance's clock before this machine's, as far as the time on the way allows.
        clock_error_seconds: half the time on the way: how wrong `clock_ahead_seconds` may be.
    """

    boot_seconds: float | None
    cloud_init_errors: tuple[str, ...] | None
    failed_units: tuple[str, ...]
    imds_v1_status: int | None
    imds_v2_status: int | None
    listeners: tuple[Listener, ...]
    boot_id: str
    clock_ahead_seconds: float
    clock_error_seconds: float


def look_around(shell: Shell, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> InstanceFacts:
    """Run the program on the instance.

    Args:
        shell: a connection, of a user who may sudo.
        now: this machine's clock, UTC.

    Raises:
        ToolError: the connection broke, or the program failed.
    """
    folder = shell.run("mktemp --directory").strip()
    shell.write(f"{folder}/{_PROGRAM.name}", _PROGRAM.read_text())
    asked_at = now()
    printed = shell.run(f"sudo python3 {folder}/{_PROGRAM.name}")
    answered_at = now()
    shell.run(f"rm -rf {folder}")
    try:
        found: dict[str, Any] = json.loads(printed)
    except ValueError as error:
        raise ToolError(f"The instance cannot say what it is like: {printed.strip()[-200:]}") from error
    half_way = asked_at + (answered_at - asked_at) / 2
    errors = found["cloud_init_errors"]
    return InstanceFacts(
        boot_seconds=found["boot_seconds"],
        cloud_init_errors=None if errors is None else tuple(errors),
        failed_units=tuple(found["failed_units"]),
        imds_v1_status=found["imds_v1_status"],
        imds_v2_status=found["imds_v2_status"],
        listeners=tuple(Listener(**listener) for listener in found["listeners"]),
        boot_id=found["boot_id"],
        clock_ahead_seconds=found["unix_time"] - half_way.timestamp(),
        clock_error_seconds=(answered_at - asked_at).total_seconds() / 2,
    )
