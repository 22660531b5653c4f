"""What the CloudWatch agent published beside what the instance said of its memory, swap and root file system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from gpunodes.proof.check import Check, check
from gpunodes.proof.datapoint_checks import few
from gpunodes.proof.datapoints import PERIOD_SECONDS, Minute, Published, Series
from gpunodes.proof.nvml_readings import NvmlReadings
from gpunodes.proof.promised_metrics import Promise

_HOST = ""  # among the UUIDs of what was read
# Percentage points: the agent reads once a minute, at its own moment, and its versions differ in what they count as
# used memory (buffers, reclaimable slabs).
_TOLERANCE = 5.0
# Whoever reads on the instance begins after the agent, so the minute of its first datapoint may be the one before.
_NEAR = timedelta(seconds=PERIOD_SECONDS)


def agent_agrees_with_host(promised: Mapping[Series, Promise], published: Published, local: NvmlReadings) -> Check:
    """Whether datapoints of the agent lie in what was read on the instance within a minute of them.

    Args:
        promised: as `agent_series_of` makes them.
        published: what CloudWatch has of them.
        local: what was read on the instance.
    """
    wrong: list[str] = []
    alone: list[str] = []
    rows: list[dict[str, Any]] = []
    for series, promise in promised.items():
        compared = [
            _row(series, minute, near)
            for minute in published.get(series, [])
            if (near := _near(minute, local.minutes.get((_HOST, promise.reader), [])))
        ]
        rows += compared
        wrong += [_words(row) for row in compared if not row["agrees"]]
        alone += [] if compared else [f"nothing of {series.metric} could be compared"]
    good = f"{len(rows)} datapoints are what the instance said within a minute of them"
    evidence = {"compared": len(rows), "tolerance_percentage_points": _TOLERANCE, "rows": rows[:20]}
    passed = bool(rows) and not wrong and not alone
    return check("agent_agrees_with_host", passed, few([*wrong, *alone]) or good, evidence)


def _near(minute: Minute, local: Sequence[Minute]) -> list[Minute]:
    return [read for read in local if abs(read.minute - minute.minute) <= _NEAR]


def _row(series: Series, published: Minute, near: Sequence[Minute]) -> dict[str, Any]:
    least, most = min(read.minimum for read in near), max(read.maximum for read in near)
    is_inside = least - _TOLERANCE <= published.minimum and published.maximum <= most + _TOLERANCE
    return {
        "metric": series.metric,
        "minute": published.minute.isoformat(),
        "published": published.average,
        "local": [least, most],
        "agrees": is_inside,
    }


def _words(row: Mapping[str, Any]) -> str:
    least, most = row["local"]
    return (
        f"{row['metric']} at {row['minute'][11:16]} is {row['published']:.3g} in CloudWatch"
        f" and {least:.3g} to {most:.3g} on the instance"
    )
