"""Makes docs/metrics.md from the table of metrics: ``python -m gpumon.docs_metrics > docs/metrics.md``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gpumon.costs import estimate, load_prices
from gpumon.metrics import TIERS, load_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpumon.costs import Prices
    from gpumon.metrics import Metric

COMMAND = "python -m gpumon.docs_metrics > docs/metrics.md"

_INTRODUCTION = f"""\
# Metrics

<!-- Made from gpumon/metrics.toml by `{COMMAND}`; edit that file. -->

gpumon reads these values and publishes them to Amazon CloudWatch (namespace `GPU`, setting `namespace`), to
Prometheus (`:9400`) and as JSON lines. What could not be read is absent: it is never 0, and never the last value
again.

**Dimensions in CloudWatch.** A metric of a GPU has `InstanceId`, `GpuIndex` and `GpuUuid`; one of the host has
`InstanceId`. The legacy ones have those of AWS's gpumon.py: `InstanceId`, `ImageId`, `InstanceType`, `GPUNumber`.
Values of a period go out with their counts, so minimum, maximum, mean and percentiles are those of the samples.

**Labels in Prometheus.** As dcgm-exporter's: `gpu`, `UUID`, `pci_bus_id`, `device`, `modelName`, `Hostname`,
`DCGM_FI_DRIVER_VERSION`, and `GPU_I_ID`, `GPU_I_PROFILE` on MIG instances. Names with `DCGM_FI_` have DCGM's meaning
and unit, all others begin with `gpumon_`. The factor in brackets turns CloudWatch's unit into Prometheus's; there is
none where they are the same.

**Kind.** A *gauge* is a value of the moment. Of a *counter* CloudWatch gets what was added in each period (use the
statistic Sum), of a *rate* the same per second; Prometheus gets the raw counter of both. A counter that began anew
counts from zero, and one that wraps at a known size is continued; elsewhere the period has no datapoint.

**Read.** *sample*: every `sample_seconds` (1 s). *buffer*: the samples that the driver keeps itself, fetched every 10
s. *slow*: every `slow_seconds` (60 s).

**Tiers.** The settings `cloudwatch_tiers`, `prometheus_tiers` and `json_lines_tiers` choose by tier.
"""

_TIER_WORDS = {
    "core": "What every GPU is asked for: how busy, how full, how hot.",
    "health": "Whether GPUs, host and gpumon itself are well.",
    "extended": "Everything else; by default only in Prometheus.",
    "legacy": "The names of AWS's gpumon.py, for dashboards that exist; off by default, and only in CloudWatch.",
}


def as_markdown(metrics: Sequence[Metric], prices: Prices) -> str:
    """Return the whole page."""
    parts = [_INTRODUCTION, _tier_table(metrics, prices)]
    for tier in TIERS:
        parts.append(f"## {tier.capitalize()}\n\n{_TIER_WORDS[tier]}\n")
        for scope, words in (("gpu", "Of each GPU"), ("host", "Of the host")):
            chosen = [metric for metric in metrics if metric.tier == tier and metric.scope == scope]
            if chosen:
                parts.append(f"### {words}, {tier}\n\n" + "\n".join(_metric_rows(chosen)) + "\n")
    return "\n".join(parts)


def main() -> None:
    """Print the page."""
    sys.stdout.write(as_markdown(load_metrics(), load_prices()))


def _tier_table(metrics: Sequence[Metric], prices: Prices) -> str:
    lines = [
        "| tier | metrics per GPU | per host | CloudWatch, per GPU | per host | 8 GPUs |",
        "|---|---|---|---|---|---|",
    ]
    for tier in TIERS:
        host, one, eight = (estimate(metrics, (tier,), count, 60, prices) for count in (0, 1, 8))
        per_gpu = prices.metrics_usd(one.metric_count - host.metric_count)
        lines.append(
            f"| {tier} | {one.metric_count - host.metric_count} | {host.metric_count} | {_usd(per_gpu)} |"
            f" {_usd(host.metrics_usd)} | {_usd(eight.metrics_usd)} |"
        )
    calls = estimate(metrics, ("core", "health"), 8, 60, prices)
    return "\n".join(lines) + (
        f"\n\nUSD per month at list prices of {prices.region} in {prices.date} ({prices.source}: re-check them), and"
        f" {_usd(calls.calls_usd)} per host for\none call a minute. Counted are metrics that CloudWatch gets."
        " `gpumon show-config` prints the estimate for the host it runs on.\n"
    )


def _metric_rows(metrics: Sequence[Metric]) -> Iterator[str]:
    yield "| Metric | Unit | What it is | Kind | Read | Prometheus | Source |"
    yield "|---|---|---|---|---|---|---|"
    for metric in metrics:
        unit = metric.unit if metric.cloudwatch else "not in CloudWatch"
        cells = [f"`{metric.name}`", unit, metric.description, metric.kind, metric.every, _prometheus(metric)]
        yield f"| {' | '.join(_cell(cell) for cell in [*cells, metric.source])} |"


def _prometheus(metric: Metric) -> str:
    if metric.prometheus is None:
        return "-"
    factor = metric.prometheus_scale / metric.scale
    return f"`{metric.prometheus}`" + ("" if factor == 1 or not metric.cloudwatch else f" ({_factor(factor)})")


def _factor(factor: float) -> str:
    if abs(factor * 2**20 - 1) < 1e-9:
        return "MiB"
    return f"x {round(factor):,}" if factor > 1 else f"x {factor:g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _usd(amount: float) -> str:
    return f"${amount:,.2f}"


if __name__ == "__main__":
    main()
