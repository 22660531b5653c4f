from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from gpumon.errors import SettingsError
from gpumon.metrics import STANDARD_UNITS, Metric, load_metrics, of_tiers

if TYPE_CHECKING:
    from pathlib import Path

TABLE = load_metrics()
DEFAULT_TIERS = ("core", "health")
DATUMS_PER_CALL = 1000
UNIT_SUFFIXES = ("bytes", "percent", "celsius", "watts", "megahertz", "millijoules", "nanoseconds", "seconds", "count")
GOOD = """[M]
scope = "gpu"
tier = "core"
unit = "Bytes"
reader = "m_bytes"
every = "sample"
source = "s"
description = "d"
"""


def load(tmp_path: Path, text: str) -> tuple[Metric, ...]:
    file = tmp_path / "metrics.toml"
    file.write_text(text)
    return load_metrics(file)


def series(gpu_count: int, tiers: tuple[str, ...] = DEFAULT_TIERS) -> int:
    sent = [metric for metric in of_tiers(TABLE, tiers) if metric.cloudwatch]
    return sum(gpu_count if metric.scope == "gpu" else 1 for metric in sent)


def each(metrics: list[Metric]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("metric", metrics, ids=[metric.name for metric in metrics])


# --- The table


def test_names_are_unique_in_cloudwatch_and_in_prometheus() -> None:
    for names in ([metric.name for metric in TABLE], [metric.prometheus for metric in TABLE if metric.prometheus]):
        assert [name for name, count in Counter(names).items() if count > 1] == []


@pytest.mark.parametrize(("gpu_count", "expected"), [(0, 17), (1, 41), (8, 209), (16, 401)])
def test_a_host_has_this_many_series_with_the_default_tiers_and_they_fit_one_call(
    gpu_count: int, expected: int
) -> None:
    assert series(gpu_count) == expected <= DATUMS_PER_CALL


def test_eight_gpus_fit_one_call_with_every_tier() -> None:
    assert series(8, ("core", "health", "extended", "legacy")) <= DATUMS_PER_CALL


def test_the_legacy_names_are_those_of_awss_script() -> None:
    legacy = {metric.name: metric.unit for metric in of_tiers(TABLE, ("legacy",))}

    # AWS's script sends memory in percent and MiB and power in watts; here the units say what the value is.
    assert set(legacy) == {"GPU Usage", "Memory Usage", "Memory Free", "Power Usage (Watts)", "Temperature (C)"}


@each(list(TABLE))
def test_a_row_keeps_the_rules_of_cloudwatch(metric: Metric) -> None:
    assert 0 < len(metric.name) <= 255
    assert metric.name.isascii()
    assert metric.name.isprintable()
    assert metric.unit in STANDARD_UNITS
    assert metric.scale > 0
    assert metric.prometheus_scale > 0


@each([metric for metric in TABLE if metric.kind != "gauge"])
def test_a_counters_name_in_prometheus_says_so_or_is_dcgms(metric: Metric) -> None:
    assert metric.prometheus is not None
    assert metric.prometheus.startswith("DCGM_FI_") or metric.prometheus.endswith("_total")
    assert metric.minimum == 0
    assert metric.baseline in {None, 0}


@each([metric for metric in TABLE if metric.kind == "gauge" and (metric.prometheus or "").startswith("gpumon_")])
def test_no_gauge_of_ours_is_called_a_total(metric: Metric) -> None:
    assert not (metric.prometheus or "").endswith("_total")


def _expected_prometheus_scale(metric: Metric) -> float:
    name, suffix = metric.prometheus or "", metric.reader.rsplit("_", 1)[-1]
    if name.startswith("DCGM_FI_DEV_FB_") and suffix == "bytes":
        return 2.0**-20  # DCGM's frame buffer is in MiB
    if suffix == "percent" and (name.endswith(("_PERCENT", "_ratio")) or name.startswith("DCGM_FI_PROF_")):
        return 0.01
    if suffix == "nanoseconds" and re.search(r"_seconds(_total)?$", name):
        return 1e-9
    return 1.0


@each([metric for metric in TABLE if metric.prometheus])
def test_prometheus_gets_the_unit_that_the_name_says(metric: Metric) -> None:
    assert metric.prometheus_scale == pytest.approx(_expected_prometheus_scale(metric), rel=1e-12)
    if metric.prometheus_scale == 0.01:
        assert metric.maximum == 100
    if (metric.prometheus or "").startswith("gpumon_") and metric.reader.endswith("_bytes"):
        assert "_bytes" in (metric.prometheus or "")


@each(list(TABLE))
def test_cloudwatch_gets_the_unit_that_the_row_says(metric: Metric) -> None:
    suffix = metric.reader.rsplit("_", 1)[-1]
    expected = {"millijoules": 1e-3, "nanoseconds": 1e-9}.get(suffix, 1.0)
    units = {"bytes": "Bytes", "percent": "Percent", "count": "Count", "seconds": "Seconds", "nanoseconds": "Seconds"}

    assert metric.scale == pytest.approx(expected)
    if suffix in units:
        assert metric.unit == units[suffix] + ("/Second" if metric.kind == "rate" else "")


@each([metric for metric in TABLE if metric.unit == "Percent"])
def test_a_percentage_cannot_be_a_sentinel(metric: Metric) -> None:
    original = next(row for row in TABLE if (row.scope, row.reader) == (metric.scope, metric.reader))

    assert original.minimum == 0
    assert original.maximum in {100, 200}  # a fan may run faster than it was built for


@each(list(of_tiers(TABLE, ("legacy",))))
def test_a_legacy_name_has_the_limits_of_the_metric_that_it_repeats(metric: Metric) -> None:
    twin = next(row for row in TABLE if row.reader == metric.reader and row.tier != "legacy")

    assert (metric.minimum, metric.maximum) == (twin.minimum, twin.maximum)
    assert (metric.scope, metric.every, metric.kind, metric.unit) == (twin.scope, twin.every, twin.kind, twin.unit)


def test_the_counter_of_32_bits_wraps_there() -> None:
    assert {metric.name: metric.wraps_at for metric in TABLE if metric.wraps_at} == {"PcieReplay": 2**32}


@pytest.mark.parametrize(
    ("limits", "value", "is_plausible"),
    [
        ("", 1e300, True),
        ("", float("nan"), False),
        ("", float("inf"), False),
        ("minimum = 0\n", -0.1, False),
        ("minimum = 0\n", 0.0, True),
        ("maximum = 100\n", 100.0, True),
        ("maximum = 100\n", 100.1, False),
    ],
)
def test_a_value_outside_of_the_limits_is_no_measurement(
    tmp_path: Path, limits: str, value: float, is_plausible: bool
) -> None:
    assert load(tmp_path, GOOD + limits)[0].is_plausible(value) is is_plausible


# --- Its loader


def test_a_row_needs_no_more_than_this(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD) == (
        Metric("M", "gpu", "core", "Bytes", "m_bytes", "sample", "s", "d", kind="gauge", on_fall="reset"),
    )


def test_rows_keep_their_order(tmp_path: Path) -> None:
    text = GOOD + GOOD.replace("[M]", "[A]").replace("m_bytes", "a_bytes")

    assert [metric.name for metric in load(tmp_path, text)] == ["M", "A"]


@pytest.mark.parametrize("column", ["scope", "tier", "unit", "reader", "every", "source", "description"])
def test_a_column_that_is_missing_is_named(tmp_path: Path, column: str) -> None:
    text = "".join(line for line in GOOD.splitlines(keepends=True) if not line.startswith(f"{column} "))

    with pytest.raises(SettingsError, match=f"Give metric M a text for '{column}'"):
        load(tmp_path, text)


@pytest.mark.parametrize("column", ["scope", "tier", "unit", "reader", "every", "source", "description"])
@pytest.mark.parametrize("value", ["3", '""', '"  "', "[]", "true"])
def test_a_column_that_is_no_text_is_named(tmp_path: Path, column: str, value: str) -> None:
    text = re.sub(rf"^{column} = .*$", f"{column} = {value}", GOOD, flags=re.MULTILINE)

    with pytest.raises(SettingsError, match=f"Give metric M a text for '{column}'"):
        load(tmp_path, text)


@pytest.mark.parametrize("column", ["scope", "tier", "unit", "every", "kind", "on_fall"])
def test_a_choice_that_there_is_not_is_named_with_those_that_there_are(tmp_path: Path, column: str) -> None:
    text = re.sub(rf"^{column} = .*\n", "", GOOD, flags=re.MULTILINE) + f'{column} = "Rack"\n'

    with pytest.raises(SettingsError, match=f"Correct {column} = 'Rack' of metric M: allowed are "):
        load(tmp_path, text)


@pytest.mark.parametrize("column", ["scale", "prometheus_scale", "baseline", "wraps_at", "minimum", "maximum"])
@pytest.mark.parametrize("value", ["true", '"1"', "inf", "nan", "[]"])
def test_a_number_that_is_none_is_named(tmp_path: Path, column: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"a number for '{column}'"):
        load(tmp_path, f"{GOOD}{column} = {value}\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + 'dcgm = "x"\n', "'dcgm' in metric M"),
        (GOOD + 'name = "x"\n', "'name' in metric M"),
        (GOOD + 'prometheus = "DCGM-FI"\n', "Correct prometheus = 'DCGM-FI' of metric M"),
        (GOOD + 'prometheus = "9400"\n', "Correct prometheus"),
        (GOOD + "prometheus = 1\n", "a text for 'prometheus'"),
        (GOOD + "cloudwatch = 1\n", "true or false for 'cloudwatch'"),
        (GOOD + GOOD.replace("[M]", "[N]"), "N shares 'm_bytes'"),
        (
            GOOD + 'prometheus = "x"\n' + GOOD.replace("[M]", "[N]").replace("m_bytes", "n") + 'prometheus = "x"\n',
            "a name of its own in Prometheus: N",
        ),
        ("M = 1\n", "Write M as a table"),
        ("[[M]]\n", "Write M as a table"),
        ("[M", "Repair the table of metrics"),
        (GOOD + GOOD, "Repair the table of metrics"),
    ],
)
def test_a_wrong_table_is_an_error_that_names_it(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(tmp_path, text)


def test_a_value_may_also_have_a_legacy_name(tmp_path: Path) -> None:
    text = GOOD + GOOD.replace("[M]", '["M (old)"]').replace('"core"', '"legacy"')

    assert [metric.name for metric in load(tmp_path, text)] == ["M", "M (old)"]


def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Repair the table of metrics"):
        load_metrics(tmp_path / "none.toml")


def test_a_table_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "metrics.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(SettingsError, match="Repair the table of metrics"):
        load_metrics(tmp_path / "metrics.toml")
