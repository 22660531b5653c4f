"""Estimates what the metrics of this host cost per month in Amazon CloudWatch."""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpumon.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from gpumon.metrics import Metric

PRICES_FILE = Path(__file__).with_name("prices.toml")
SECONDS_PER_MONTH = 730 * 3600  # AWS's month has 730 hours
DATUMS_PER_CALL = 1000  # CloudWatch, PutMetricData


@dataclass(frozen=True)
class Prices:
    """List prices of CloudWatch in one Region, in USD.

    Attributes:
        region: The Region.
        source: Where they are published.
        date: When they were read there.
        per_1000_calls: Of 1,000 calls of PutMetricData.
        per_metric_month: Steps of (most metrics, price of each of them per month), cheapest last.
    """

    region: str
    source: str
    date: str
    per_1000_calls: float
    per_metric_month: tuple[tuple[float, float], ...]

    def metrics_usd(self, count: int) -> float:
        """Return what `count` metrics cost per month, if the account has no others."""
        usd, below = 0.0, 0.0
        for up_to, price in self.per_metric_month:
            usd += price * max(0.0, min(count, up_to) - below)
            below = up_to
        return usd


@dataclass(frozen=True)
class CostEstimate:
    """What one host costs per month.

    Attributes:
        gpu_count: GPUs that were counted on.
        metrics_by_tier: Custom metrics, by tier.
        calls_per_month: Calls of PutMetricData.
        metrics_usd: Price of the metrics.
        calls_usd: Price of the calls.
    """

    gpu_count: int
    metrics_by_tier: Mapping[str, int]
    calls_per_month: int
    metrics_usd: float
    calls_usd: float

    @property
    def metric_count(self) -> int:
        """Return the number of custom metrics."""
        return sum(self.metrics_by_tier.values())

    @property
    def total_usd(self) -> float:
        """Return the price of everything."""
        return self.metrics_usd + self.calls_usd


def load_prices(path: Path = PRICES_FILE) -> Prices:
    """Return the prices of a file like ``prices.toml``.

    Raises:
        SettingsError: It cannot be read, or something is missing in it.
    """
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        steps = tuple((float(step.get("up_to", math.inf)), float(step["usd"])) for step in table["metric_month"])
        return Prices(table["region"], table["source"], table["date"], float(table["usd_per_1000_calls"]), steps)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"Repair the table of prices {path}: {type(error).__name__}: {error}.") from error


def estimate(
    metrics: Iterable[Metric], cloudwatch_tiers: Collection[str], gpu_count: int, publish_seconds: int, prices: Prices
) -> CostEstimate:
    """Estimate the monthly bill of a host that publishes `cloudwatch_tiers` of `gpu_count` whole GPUs."""
    counts: Counter[str] = Counter()
    for metric in metrics:
        if metric.cloudwatch and metric.tier in cloudwatch_tiers:
            counts[metric.tier] += gpu_count if metric.scope == "gpu" else 1
    by_tier = {tier: counts[tier] for tier in counts if counts[tier]}
    datums = sum(by_tier.values())
    calls = math.ceil(SECONDS_PER_MONTH / publish_seconds) * math.ceil(datums / DATUMS_PER_CALL)
    return CostEstimate(gpu_count, by_tier, calls, prices.metrics_usd(datums), calls / 1000 * prices.per_1000_calls)


def as_text(
    metrics: Collection[Metric],
    cloudwatch_tiers: Collection[str],
    gpu_count: int | None,
    publish_seconds: int,
    prices: Prices,
) -> str:
    """Return the estimate as sentences for people, one per line; `gpu_count` is None where GPUs cannot be counted."""
    whole = estimate(metrics, cloudwatch_tiers, gpu_count or 0, publish_seconds, prices)
    if gpu_count is None:
        one = estimate(metrics, cloudwatch_tiers, 1, publish_seconds, prices)
        per_gpu = one.metric_count - whole.metric_count
        lines = [
            "Estimated CloudWatch bill: the GPUs of this host cannot be counted, so this is what each of them adds.",
            f"  per GPU: {per_gpu} metrics, {_usd(prices.metrics_usd(per_gpu))} a month",
            f"  host: {_counted(whole)}, {_usd(whole.metrics_usd)} a month",
            f"  calls: {_calls(one)} a month",
        ]
    else:
        lines = [
            f"Estimated CloudWatch bill of this host: {_usd(whole.total_usd)} a month.",
            f"  metrics: {_counted(whole)} for {gpu_count} GPU(s), {_usd(whole.metrics_usd)}",
            f"  calls: {_calls(whole)}",
        ]
    lines.append(
        f"  List prices of {prices.region} in {prices.date}, without free tiers and discounts; re-check them at"
    )
    lines.append(f"  {prices.source} - MIG instances and retries come on top.")
    return "\n".join(lines) + "\n"


def as_comments(text: str) -> str:
    """Return `text` as TOML comments."""
    return "".join(f"# {line}\n" for line in text.splitlines())


def _counted(costs: CostEstimate) -> str:
    parts = " + ".join(f"{count} {tier}" for tier, count in costs.metrics_by_tier.items())
    return f"{costs.metric_count}" + (f" ({parts})" if parts else "")


def _calls(costs: CostEstimate) -> str:
    return f"{costs.calls_per_month:,} of PutMetricData, {_usd(costs.calls_usd)}"


def _usd(amount: float) -> str:
    return f"${amount:,.2f}"
