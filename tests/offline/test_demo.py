"""scripts/demo, as somebody runs it who has just cloned the repository."""

from __future__ import annotations

import subprocess

from localaws.layout import Layout
from tests.offline.conftest import REPOSITORY, assert_no_traces


def test_the_demo_bakes_proves_and_leaves_nothing_running(layout: Layout) -> None:
    result = subprocess.run(
        [REPOSITORY / "scripts" / "demo"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert result.returncode == 0, result.stderr
    assert "The image proved itself in" in result.stderr
    for told in ("ami-", "evidence", "memory used rises by what was allocated", "bake with Packer"):
        assert told in result.stderr
    assert_no_traces(layout)
