from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import gpumon

UNIT = Path(gpumon.__file__).with_name("gpumon.service")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_rates_the_exposure_of_the_unit_below_3() -> None:
    answer = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager", UNIT],
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / "gpumon.service"
    copy.write_text(UNIT.read_text().replace("/opt/gpumon/bin/gpumon", "/bin/true"))
    answer = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)

    assert "gpumon.service" not in answer.stderr
