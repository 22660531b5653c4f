from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from gpunodes.proof import service_checks
from gpunodes.proof.service_checks import AGENT, GPUMON, Killed, UnitState
from tests.gpunodes.fakes import FakeClock

RUNS = "ActiveState=active\nMainPID=100\n"
STARTS = "ActiveState=activating\nMainPID=0\n"
RUNS_AGAIN = "ActiveState=active\nMainPID=200\n"


@dataclass
class Systemd:
    """Answers `systemctl show` with one answer after the other, the last one for ever."""

    answers: list[str]
    commands: list[str] = field(default_factory=list)

    def run(self, command: str) -> str:
        self.commands.append(command)
        if not command.startswith("systemctl show"):
            return ""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def write(self, path: str, content: str) -> None:
        raise AssertionError(f"nothing is written to {path}: {content}")


@pytest.mark.parametrize(
    ("shown", "passed", "reason"),
    [
        (RUNS, True, "systemd says: active"),
        ("ActiveState=failed\nMainPID=0\n", False, "systemd says: failed"),
        (STARTS, False, "systemd says: activating"),
        ("", False, "systemd says: nothing"),
    ],
)
def test_service_counts_only_when_it_is_active(shown: str, passed: bool, reason: str) -> None:
    made = service_checks.is_active(GPUMON, service_checks.state_of(Systemd([shown]), GPUMON))

    assert (made.check_id, made.passed, made.reason) == ("gpumon_is_active", passed, reason)


def test_each_service_has_a_check_of_its_own() -> None:
    state = UnitState("active", 1)
    assert service_checks.is_active(AGENT, state).name == "amazon-cloudwatch-agent.service is active"


def test_the_main_process_is_killed() -> None:
    systemd = Systemd([RUNS])

    killed = service_checks.kill(systemd, GPUMON, clock=lambda: 5.0)

    assert killed == Killed(GPUMON, UnitState("active", 100), 5.0)
    assert systemd.commands[-1] == "sudo kill -9 100"


def test_a_service_that_does_not_run_cannot_be_killed_and_fails() -> None:
    systemd = Systemd(["ActiveState=inactive\nMainPID=0\n"])

    made = service_checks.comes_back(systemd, service_checks.kill(systemd, AGENT, clock=lambda: 0.0))

    assert not any("kill" in command for command in systemd.commands)
    assert (made.check_id, made.passed) == ("agent_comes_back", False)
    assert made.reason == "it did not run, so there was nothing to kill"


def test_a_service_is_back_when_it_is_active_with_another_process() -> None:
    clock = FakeClock()
    killed = Killed(GPUMON, UnitState("active", 100), clock())

    made = service_checks.comes_back(Systemd([RUNS, STARTS, RUNS_AGAIN]), killed, clock=clock, wait=clock.wait)

    assert made.passed is True
    assert made.evidence["after"] == {"active": "active", "main_process_id": 200}
    assert len(clock.waits) == 2


@pytest.mark.parametrize("shown", [RUNS, STARTS, "ActiveState=failed\nMainPID=0\n"])
def test_a_service_that_stays_away_fails_when_patience_ends(shown: str) -> None:
    clock = FakeClock()
    killed = Killed(GPUMON, UnitState("active", 100), clock())

    made = service_checks.comes_back(Systemd([shown]), killed, clock=clock, wait=clock.wait)

    assert made.passed is False
    assert made.reason.startswith("systemd says after 120 s: ")


def test_waiting_for_a_service_ends_when_it_is_active_or_failed_or_patience_ends() -> None:
    clock = FakeClock()

    def wait(*answers: str) -> str:
        state = service_checks.wait_until_active(Systemd(list(answers)), GPUMON, clock=clock, wait=clock.wait)
        return state.active

    assert wait(STARTS, STARTS, RUNS) == "active"
    assert wait("ActiveState=failed\nMainPID=0\n") == "failed"
    assert wait(STARTS) == "activating"
