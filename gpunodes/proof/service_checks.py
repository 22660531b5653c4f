"""Whether the services of the image run, and come back when they are killed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gpunodes.proof.check import Check, check
from gpunodes.proof.clone import Shell

GPUMON = "gpumon.service"
AGENT = "amazon-cloudwatch-agent.service"
ACTIVE = {GPUMON: "gpumon_is_active", AGENT: "agent_is_active"}
_COMES_BACK = {GPUMON: "gpumon_comes_back", AGENT: "agent_comes_back"}
_PATIENCE_SECONDS = 120.0  # the CloudWatch agent's own unit waits a minute before it starts again
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class UnitState:
    """A systemd unit.

    Attributes:
        active: e.g. `active`, `activating`, `failed`; empty where systemd says nothing.
        main_process_id: 0 where it has none.
    """

    active: str
    main_process_id: int


def state_of(shell: Shell, unit: str) -> UnitState:
    """What `systemctl show` says of a unit."""
    shown = shell.run(f"systemctl show --property=ActiveState --property=MainPID {unit} || true")
    found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    process_id = found.get("MainPID", "")
    return UnitState(found.get("ActiveState", ""), int(process_id) if process_id.isdecimal() else 0)


def is_active(unit: str, state: UnitState) -> Check:
    """Whether systemd says `active` of a unit."""
    said = state.active or "nothing"
    return check(ACTIVE[unit], state.active == "active", f"systemd says: {said}", {"state": state.active})


def wait_until_active(
    shell: Shell,
    unit: str,
    *,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> UnitState:
    """What systemd says of a unit once it is active, or when patience ends."""
    deadline = clock() + _PATIENCE_SECONDS
    while (state := state_of(shell, unit)).active == "activating" and clock() < deadline:
        wait(_POLL_SECONDS)
    return state


@dataclass(frozen=True)
class Killed:
    """A unit whose main process got SIGKILL.

    Attributes:
        unit: its name.
        before: what it was.
        at: when, by a monotonic clock, seconds.
        killed_at: the same, UTC.
    """

    unit: str
    before: UnitState
    at: float
    killed_at: datetime = field(default_factory=lambda: datetime.now(UTC), compare=False)


def kill(shell: Shell, unit: str, clock: Callable[[], float] = time.monotonic) -> Killed:
    """`kill -9` a unit's main process, where it has one."""
    before = state_of(shell, unit)
    if before.main_process_id:
        shell.run(f"sudo kill -9 {before.main_process_id}")
    return Killed(unit, before, clock())


def comes_back(
    shell: Shell,
    killed: Killed,
    *,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> Check:
    """Wait until a unit that was killed is active with another process.

    Args:
        shell: a connection to the instance.
        killed: which, and when.
        clock: seconds, monotonic; that of `kill`.
        wait: sleeps for so many seconds.
    """
    check_id, before = _COMES_BACK[killed.unit], killed.before
    if before.active != "active" or not before.main_process_id:
        return check(check_id, False, "it did not run, so there was nothing to kill", vars(before))
    while True:
        now = state_of(shell, killed.unit)
        seconds = clock() - killed.at
        evidence = {"before": vars(before), "after": vars(now), "seconds": round(seconds, 1)}
        if now.active == "active" and now.main_process_id not in {0, before.main_process_id}:
            return check(check_id, True, f"active again with another process within {seconds:.0f} s", evidence)
        if seconds > _PATIENCE_SECONDS:
            reason = f"systemd says after {seconds:.0f} s: {now.active or 'nothing'}"
            return check(check_id, False, reason, evidence)
        wait(_POLL_SECONDS)
