from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import tomllib

from gpumon.costs import as_comments, as_text, estimate, load_prices
from gpumon.errors import SettingsError
from gpumon.metrics import load_metrics

if TYPE_CHECKING:
    from pathlib import Path

METRICS = load_metrics()
PRICES = load_prices()


def test_eight_gpus_with_the_default_tiers_cost_some_63_dollars() -> None:
    costs = estimate(METRICS, ("core", "health"), 8, 60, PRICES)

    assert costs.metrics_by_tier == {"core": 8 * 10, "health": 8 * 14 + 17}
    assert costs.metric_count == 209
    assert costs.metrics_usd == pytest.approx(62.70)
    assert costs.calls_per_month == 43_800
    assert costs.calls_usd == pytest.approx(0.438)
    assert costs.total_usd == pytest.approx(63.138)


def test_what_cloudwatch_never_gets_costs_nothing() -> None:
    extended = estimate(METRICS, ("extended",), 1, 60, PRICES)

    assert extended.metric_count == len([m for m in METRICS if m.tier == "extended" and m.cloudwatch])
    assert extended.metric_count < len([m for m in METRICS if m.tier == "extended"])


def test_shorter_periods_cost_more_calls_and_no_metrics_no_calls() -> None:
    assert estimate(METRICS, ("core",), 1, 1, PRICES).calls_per_month == 60 * 43_800
    assert estimate(METRICS, (), 8, 60, PRICES).total_usd == 0


def test_more_than_1000_datums_need_another_call() -> None:
    costs = estimate(METRICS, ("core", "health", "extended"), 16, 60, PRICES)

    assert costs.metric_count == 16 * (10 + 14 + 50) + 17
    assert costs.calls_per_month == 2 * 43_800


@pytest.mark.parametrize(
    ("count", "usd"),
    [(0, 0), (10_000, 3000), (10_010, 3001), (250_000, 27_000), (1_000_000, 64_500), (1_000_100, 64_502)],
)
def test_many_metrics_are_cheaper_step_by_step(count: int, usd: float) -> None:
    assert PRICES.metrics_usd(count) == pytest.approx(usd)


def test_a_person_reads_the_sum_its_parts_and_that_it_is_a_list_price() -> None:
    text = as_text(METRICS, ("core", "health"), 8, 60, PRICES)

    assert text.startswith("Estimated CloudWatch bill of this host: $63.14 a month.\n")
    assert "209 (80 core + 129 health) for 8 GPU(s), $62.70" in text
    assert "43,800 of PutMetricData, $0.44" in text
    assert "List prices of us-east-1" in text
    assert "re-check them" in text
    assert PRICES.source in text


def test_where_gpus_cannot_be_counted_each_is_priced() -> None:
    text = as_text(METRICS, ("core", "health"), None, 60, PRICES)

    assert "cannot be counted" in text
    assert "per GPU: 24 metrics, $7.20 a month" in text
    assert "host: 17 (17 health), $5.10 a month" in text


def test_the_estimate_is_a_comment_of_toml() -> None:
    comments = as_comments(as_text(METRICS, ("core",), 1, 60, PRICES))

    assert tomllib.loads(comments) == {}
    assert comments.startswith("# Estimated")


def test_prices_say_where_and_when_they_were_read() -> None:
    assert PRICES.source.startswith("https://aws.amazon.com/")
    assert PRICES.date


@pytest.mark.parametrize("text", ["", "region = 1", 'metric_month = 3\nregion = ""', "= 1", "metric_month = [1]"])
def test_a_wrong_table_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(text)

    with pytest.raises(SettingsError, match=r"Repair the table of prices .*prices\.toml"):
        load_prices(file)
