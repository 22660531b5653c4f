from __future__ import annotations

from pathlib import Path

import pytest

from gpumon.costs import load_prices
from gpumon.docs_metrics import COMMAND, as_markdown, main
from gpumon.metrics import load_metrics
from tests.gpumon.fakes import metric

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
PRICES = load_prices()


def test_the_page_in_the_repository_is_that_of_the_table() -> None:
    made = as_markdown(load_metrics(), PRICES)

    assert PAGE.read_text(encoding="utf-8") == made, f"write it anew: {COMMAND}"


def test_every_metric_is_one_row() -> None:
    lines = as_markdown(load_metrics(), PRICES).splitlines()

    for each in load_metrics():
        (row,) = [line for line in lines if line.startswith(f"| `{each.name}` |")]
        assert each.description in row
        assert each.prometheus is None or f"`{each.prometheus}`" in row
        assert row.count(" | ") == 6


def test_each_tier_has_its_price() -> None:
    text = as_markdown(load_metrics(), PRICES)

    assert "| core | 10 | 0 | $3.00 | $0.00 | $24.00 |" in text
    assert "| health | 14 | 17 | $4.20 | $5.10 | $38.70 |" in text


@pytest.mark.parametrize(
    ("scale", "prometheus_scale", "shown"),
    [
        (1, 1, "`p`"),
        (1, 2**-20, "`p` (MiB)"),
        (1, 0.01, "`p` (x 0.01)"),
        (1e-9, 1, "`p` (x 1,000,000,000)"),
        (1e-9, 1e-9, "`p`"),
    ],
)
def test_the_factor_is_that_from_cloudwatch_to_prometheus(scale: float, prometheus_scale: float, shown: str) -> None:
    row = metric("A", "a_x", prometheus="p", scale=scale, prometheus_scale=prometheus_scale)

    assert f" | {shown} | x |\n" in as_markdown([row], PRICES)


def test_what_cloudwatch_does_not_get_and_bars_are_marked() -> None:
    row = metric("A", "a_x", cloudwatch=False, description="this | that")

    assert "| `A` | not in CloudWatch | this \\| that | gauge | sample | - | x |" in as_markdown([row], PRICES)


def test_the_command_prints_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    main()

    assert capsys.readouterr().out == as_markdown(load_metrics(), PRICES)
