"""systemd/: the units are right for systemd, keep their limits, and hold no key."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpunodes.channel.policy import Policy

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
PLACE = "/srv/gpunodes"  # where the units expect the checkout
NAMES = ["gpunodes-refresh@.service", "gpunodes-refresh@.timer", "gpunodes-refresh-notice@.service"]


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as they are where the checkout is."""
    for name in NAMES:
        (tmp_path / name).write_text((UNITS / name).read_text(encoding="utf-8").replace(PLACE, str(ROOT)))
    return tmp_path


def verify(units: Path) -> tuple[int, str]:
    done = analyze("verify", "--man=no", *(str(units / name.replace("@.", "@stable.")) for name in NAMES))
    return done.returncode, done.stderr


def setting(name: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", (UNITS / name).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_unit_is_verified() -> None:
    assert sorted(path.name for path in UNITS.iterdir() if "@" in path.name) == sorted(NAMES)


def test_systemd_finds_nothing_wrong(units: Path) -> None:
    assert verify(units) == (0, "")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (NAMES[0], "ProtectSystem=strict", "ProtectSystem=mostly"),
        (NAMES[0], "bin/invoke refresh-ami", "bin/no-such-program refresh-ami"),
        (NAMES[1], "RandomizedDelaySec=15min", "RandomisedDelaySec=15min"),
    ],
)
def test_mistake_in_a_unit_is_found(units: Path, name: str, old: str, new: str) -> None:
    text = (units / name).read_text(encoding="utf-8")
    assert old in text
    (units / name).write_text(text.replace(old, new))

    assert verify(units) != (0, "")


@pytest.mark.parametrize(("name", "most"), [(NAMES[0], 20), (NAMES[2], 35)])
def test_what_a_unit_may_do_is_little(units: Path, name: str, most: int) -> None:
    done = analyze("security", "--offline=yes", f"--threshold={most}", str(units / name))

    assert done.returncode == 0, done.stdout


def test_timer_runs_more_than_once_in_the_default_window_with_its_delay() -> None:
    [calendar] = setting(NAMES[1], "OnCalendar")
    [delay] = setting(NAMES[1], "RandomizedDelaySec")
    assert delay == "15min"

    printed = analyze("calendar", "--iterations=90", "--base-time=2026-11-22 00:00:00 UTC", calendar).stdout
    runs = [
        datetime.strptime(found, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        for found in re.findall(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", printed)
    ]

    window = Policy().window
    assert window is not None
    in_first_week = {run for run in runs if run < runs[0] + timedelta(days=7)}
    assert (
        len([run for run in in_first_week if window.contains(run) and window.contains(run + timedelta(minutes=15))]) > 1
    )


def test_run_has_as_long_as_the_lock_and_time_to_clear_up() -> None:
    assert setting(NAMES[0], "TimeoutStartSec") == ["4h"]
    assert setting(NAMES[0], "KillMode") == ["mixed"]
    assert setting(NAMES[1], "Persistent") == ["true"]


def test_failure_of_any_kind_is_told() -> None:
    assert setting(NAMES[0], "OnFailure") == ["gpunodes-refresh-notice@%i.service"]
    assert setting(NAMES[0], "SuccessExitStatus") == []


def test_no_key_is_anywhere() -> None:
    for path in UNITS.iterdir():
        assert not re.search(r"AWS_(ACCESS|SECRET|SESSION)|aws_(access|secret)", path.read_text(encoding="utf-8")), path


def test_notice_has_the_end_of_the_log(tmp_path: Path) -> None:
    journalctl = tmp_path / "journalctl"
    journalctl.write_text('#!/bin/bash\necho "$*"; echo "error: Channel is being baked."\n')
    journalctl.chmod(0o755)
    told = tmp_path / "told"
    bash = shutil.which("bash")
    assert bash

    subprocess.run(
        [str(UNITS / "notice"), "stable"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "NOTICE_COMMAND": f"cat >{told}"},
        check=True,
        timeout=30,
    )

    text = told.read_text()
    assert text.startswith("The refresh of channel stable failed on ")
    assert "--unit gpunodes-refresh@stable.service" in text
    assert "error: Channel is being baked." in text
