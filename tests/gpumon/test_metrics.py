from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpumon.errors import SettingsError
from gpumon.metrics import Metric, load_metrics

if TYPE_CHECKING:
    from pathlib import Path

GOOD = '[M]\nscope = "gpu"\nunit = "Bytes"\nreader = "m_bytes"\ndescription = "d"\n'


def load(tmp_path: Path, text: str) -> tuple[Metric, ...]:
    file = tmp_path / "metrics.toml"
    file.write_text(text)
    return load_metrics(file)


def test_the_shipped_table_has_the_names_and_units_that_users_graph() -> None:
    units = {metric.name: metric.unit for metric in load_metrics()}

    assert units == {
        "GpuUtilization": "Percent",
        "MemoryUsed": "Bytes",
        "MemoryFree": "Bytes",
        "MemoryTotal": "Bytes",
        "MemoryReserved": "Bytes",
        "MemoryUtilization": "Percent",
        "MemoryBandwidthUtilization": "Percent",
        "Temperature": "None",
        "PowerDraw": "None",
        "SmClock": "None",
        "ProcessCount": "Count",
    }


def test_a_metric_needs_no_limits(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD) == (Metric("M", "gpu", "Bytes", "m_bytes", "d"),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + 'dcgm = "x"\n', "'dcgm' in metric M"),
        (GOOD.replace("Bytes", "Watts"), "unit = 'Watts' of metric M"),
        (GOOD.replace('"gpu"', '"rack"'), "scope = 'rack' of metric M"),
        (GOOD.replace('"m_bytes"', "3"), "a text for 'reader'"),
        (GOOD.replace('description = "d"', ""), "a text for 'description'"),
        (GOOD + "minimum = true\n", "a number for 'minimum'"),
        (GOOD + "maximum = inf\n", "a number for 'maximum'"),
        (GOOD + GOOD.replace("[M]", "[N]"), "M shares 'm_bytes'"),
        ("M = 1\n", "Write M as a table"),
        ("[M", "Repair the table of metrics"),
    ],
)
def test_a_wrong_table_is_an_error_that_names_it(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(tmp_path, text)


def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Repair the table of metrics"):
        load_metrics(tmp_path / "none.toml")
