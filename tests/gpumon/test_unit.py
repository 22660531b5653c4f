"""The systemd unit, as systemd reads it and as the program needs it."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

import gpumon
from gpumon.check import Health
from gpumon.control import DEFAULT_DIRECTORY
from gpumon.errors import SettingsError
from gpumon.inspection import STATE_DIRECTORY
from gpumon.service import OPENING_FACTOR
from gpumon.settings import load_settings

UNIT = Path(gpumon.__file__).with_name("gpumon.service")
DEFAULTS = load_settings({}).settings
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def directives() -> dict[str, list[str]]:
    """Return every value of each key of the unit, in its order."""
    found = defaultdict(list)
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


def seconds(key: str) -> float:
    return float(directives()[key][-1])


@needs_systemd
def test_systemd_rates_the_exposure_of_the_unit_below_3() -> None:
    answer = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager", UNIT],
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.returncode == 0, answer.stdout + answer.stderr


@needs_systemd
def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / "gpumon.service"
    copy.write_text(UNIT.read_text().replace("/opt/gpumon/bin/gpumon", "/bin/true"))
    answer = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)

    assert "gpumon.service" not in answer.stderr


def test_it_runs_as_nobody_in_particular_with_one_capability() -> None:
    unit = directives()

    assert unit["DynamicUser"] == ["yes"]
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == ["CAP_SYSLOG"]
    assert unit["NoNewPrivileges"] == ["yes"]
    assert not {"User", "Group", "SupplementaryGroups"} & set(unit)


def test_it_may_open_gpus_and_the_kernel_log_and_no_other_device() -> None:
    unit = directives()
    devices = [value.split()[0] for value in unit["DeviceAllow"]]

    assert unit["DevicePolicy"] == ["closed"]
    assert {device for device in devices if not device.startswith(("char-nvidia", "/dev/char/195:"))} == {"/dev/kmsg"}
    assert "/dev/kmsg r" in unit["DeviceAllow"]
    assert {f"/dev/char/195:{minor}" for minor in (*range(16), 255)} <= set(devices)
    assert DEFAULTS.kernel_log == "/dev/kmsg"


def test_what_it_keeps_is_where_the_other_commands_look_for_it() -> None:
    unit = directives()

    assert f"/var/lib/{unit['StateDirectory'][0]}" == str(STATE_DIRECTORY)
    assert f"/run/{unit['RuntimeDirectory'][0]}" == str(DEFAULT_DIRECTORY)
    assert unit["RuntimeDirectoryPreserve"] == ["yes"]  # a release outlives a restart
    assert unit["RuntimeDirectoryMode"] == ["0755"]  # gpumon once and check of other users see it


def test_systemd_restarts_it_after_everything_but_wrong_settings() -> None:
    unit = directives()

    assert unit["Restart"] == ["always"]
    assert unit["StartLimitIntervalSec"] == ["0"]
    assert unit["RestartPreventExitStatus"] == [str(SettingsError.exit_code)]
    assert SettingsError.exit_code == Health.BROKEN  # of another command: nothing that systemd sees


def test_systemd_is_more_patient_than_the_program() -> None:
    assert directives()["Type"] == ["notify"]
    assert seconds("TimeoutStopSec") > 3 * DEFAULTS.stop_seconds  # the sampler's, and one per sink
    # A first reading may take this long; the program must not be ended before it says so.
    assert seconds("WatchdogSec") / 2 >= DEFAULTS.wedged_seconds
    assert seconds("TimeoutStartSec") >= OPENING_FACTOR * DEFAULTS.wedged_seconds


def test_a_reload_is_the_signal_that_the_program_takes_for_one() -> None:
    assert directives()["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert directives()["ExecStart"] == ["/opt/gpumon/bin/gpumon run"]


def test_it_cannot_be_what_makes_a_host_slow() -> None:
    unit = directives()

    assert unit["MemoryMax"] == ["256M"]
    assert int(unit["CPUWeight"][0]) < 100
    assert unit["LimitCORE"] == ["0"]


def test_it_waits_for_no_network() -> None:
    assert "network" not in " ".join(value for key in ("After", "Wants", "Requires") for value in directives()[key])
