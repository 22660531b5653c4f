from __future__ import annotations

from pathlib import Path

import pytest

from gpunodes.proof_report import quantities


@pytest.mark.parametrize(
    ("metric", "unit", "value", "text"),
    [
        ("MemoryUsed", "Bytes", 4.25 * 2**30, "4.25 GiB"),
        ("MemoryUsed", "Bytes", 512 * 2**20, "512 MiB"),
        ("MemoryUsed", "Bytes", 2 * 2**40, "2 TiB"),
        ("MemoryUsed", "Bytes", 3, "3 B"),
        ("PcieTx", "Bytes/Second", 1536, "1.5 KiB/s"),
        ("GpuUtilization", "Percent", 97.25, "97.2 %"),
        ("Temperature", "None", 41, "41 °C"),
        ("PowerDraw", "None", 1234.5, "1,234 W"),
        ("EnergyConsumed", "None", 0.5, "0.5 J"),
        ("SmClock", "None", 1590, "1,590 MHz"),
        ("GpuUp", "None", 1, "1"),
        ("ProcessCount", "Count", 2, "2"),
        ("CollectDuration", "Seconds", 0.0042, "4.2 ms"),
        ("DataAge", "Seconds", 12.5, "12.5 s"),
        ("Unheard", "Furlongs", 3, "3 Furlongs"),
        ("Unheard", "None", 3, "3"),
    ],
)
def test_values_have_the_unit_that_people_use(metric: str, unit: str, value: float, text: str) -> None:
    assert quantities.scale(metric, unit, value).text(value) == text


def test_all_values_of_an_axis_have_one_unit() -> None:
    scale = quantities.scale("MemoryUsed", "Bytes", 2**30)

    assert scale.text(2**28) == "0.25 GiB"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0625, "0.062"), (1.005, "1"), (12.34, "12.3"), (1234567.8, "1,234,568"), (-2.5, "-2.5")],
)
def test_digits_are_fewer_the_larger_a_number_is(value: float, text: str) -> None:
    assert quantities.digits(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (60, "1 min"), (245.4, "4 min 5 s"), (3600, "1 h"), (3720, "1 h 2 min")],
)
def test_durations_are_in_words(seconds: float, text: str) -> None:
    assert quantities.duration(seconds) == text


def test_without_the_metric_data_there_are_no_descriptions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(quantities, "METRICS_FILE", tmp_path / "none.toml")
    quantities.described_metrics.cache_clear()

    described = quantities.described_metrics()

    quantities.described_metrics.cache_clear()
    assert described == {}
