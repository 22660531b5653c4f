"""The table of metrics, loaded from ``metrics.toml``."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from gpumon.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

METRICS_FILE = Path(__file__).with_name("metrics.toml")
SCOPES = ("gpu", "host")
TIERS = ("core", "health", "extended", "legacy")

# CloudWatch refuses a whole request for one unit that is not in this list (API reference, MetricDatum, Unit).
_SIZES = (
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
)
STANDARD_UNITS = frozenset(
    {"Seconds", "Microseconds", "Milliseconds", "Percent", "Count", "Count/Second", "None", *_SIZES}
    | {f"{size}/Second" for size in _SIZES}
)
_NUMBERS = ("scale", "prometheus_scale", "baseline", "wraps_at", "minimum", "maximum")
_CHOICES = {
    "scope": frozenset(SCOPES),
    "tier": frozenset(TIERS),
    "unit": STANDARD_UNITS,
    "every": frozenset({"sample", "buffer", "slow"}),
    "kind": frozenset({"gauge", "counter", "rate"}),
    "on_fall": frozenset({"reset", "omit"}),
}
_MAY_BE_ABSENT = frozenset({"kind", "on_fall"})
_PROMETHEUS_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


@dataclass(frozen=True)
class Metric:
    """One published metric: a row of the table, whose columns ``metrics.toml`` explains.

    Attributes:
        name: Its name in CloudWatch.
        scope: ``"gpu"`` (a series per GPU) or ``"host"`` (one series).
        tier: What a sink's choice of metrics is made by.
        unit: CloudWatch StandardUnit.
        reader: Name of the value that a reader gives; its suffix is the unit.
        every: How often it is read: ``"sample"``, ``"buffer"`` or ``"slow"``.
        source: Where it comes from: the NVML call, a file, gpumon itself.
        description: What it measures, for people.
        kind: ``"gauge"``, ``"counter"`` (CloudWatch gets the period's delta) or ``"rate"`` (the delta per second).
        prometheus: Its name in Prometheus, or None: not there.
        cloudwatch: Whether it can be sent to CloudWatch at all.
        scale: Factor from the reader's unit to CloudWatch's.
        prometheus_scale: Factor from the reader's unit to Prometheus's.
        baseline: What a counter that gpumon keeps itself starts from; None: its first reading is the baseline.
        wraps_at: Modulus of a counter that wraps, or None.
        on_fall: What a fall that is no wrap means: ``"reset"`` (it began anew from 0) or ``"omit"`` (nobody can know).
        minimum: Least value that can be a measurement, in the reader's unit, or None.
        maximum: Greatest value that can be a measurement, in the reader's unit, or None.
    """

    name: str
    scope: Literal["gpu", "host"]
    tier: Literal["core", "health", "extended", "legacy"]
    unit: str
    reader: str
    every: Literal["sample", "buffer", "slow"]
    source: str
    description: str
    kind: Literal["gauge", "counter", "rate"] = "gauge"
    prometheus: str | None = None
    cloudwatch: bool = True
    scale: float = 1.0
    prometheus_scale: float = 1.0
    baseline: float | None = None
    wraps_at: float | None = None
    on_fall: Literal["reset", "omit"] = "reset"
    minimum: float | None = None
    maximum: float | None = None

    def is_plausible(self, value: float) -> bool:
        """Say whether `value` can be a measurement (finite, and within the limits of the table)."""
        if not math.isfinite(value):
            return False
        above = self.minimum is None or value >= self.minimum
        return above and (self.maximum is None or value <= self.maximum)


def load_metrics(path: Path = METRICS_FILE) -> tuple[Metric, ...]:
    """Return the metrics of a table file, in the order of the file.

    Raises:
        SettingsError: The file cannot be read, or a table in it is wrong.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError: no TOML, or not even text
        raise SettingsError(f"Repair the table of metrics {path}: {error}.") from error
    metrics = tuple(_metric(name, table) for name, table in tables.items())
    _require_distinct(metrics)
    return metrics


def of_tiers(metrics: Iterable[Metric], tiers: Container[str]) -> tuple[Metric, ...]:
    """Return the metrics that belong to one of `tiers`."""
    return tuple(metric for metric in metrics if metric.tier in tiers)


def _require_distinct(metrics: Sequence[Metric]) -> None:
    """A reader's value is one metric (and at most one more under its legacy name), and so is a name in Prometheus."""
    readers: set[tuple[str, str, bool]] = set()
    names: set[str] = set()
    for metric in metrics:
        reader = (metric.scope, metric.reader, metric.tier == "legacy")
        if reader in readers:
            raise SettingsError(f"Give every metric a reader of its own: {metric.name} shares {metric.reader!r}.")
        if metric.prometheus in names:
            raise SettingsError(f"Give every metric a name of its own in Prometheus: {metric.name} shares one.")
        readers.add(reader)
        if metric.prometheus is not None:
            names.add(metric.prometheus)


def _metric(name: str, table: object) -> Metric:
    if not isinstance(table, dict):
        raise SettingsError(f"Write {name} as a table of the metrics file: it is {type(table).__name__}.")
    known = {field.name for field in fields(Metric)} - {"name"}
    unknown = sorted(set(table) - known)
    if unknown:
        raise SettingsError(
            f"Remove or correct {unknown[0]!r} in metric {name}: a metric has {', '.join(sorted(known))}."
        )
    chosen = {key: _one_of(name, table, key, allowed) for key, allowed in _CHOICES.items() if _needs(table, key)}
    numbers = {key: _number(name, table, key) for key in _NUMBERS if key in table}
    texts = {key: _text(name, table, key) for key in ("reader", "source", "description")}
    return Metric(
        name=name,
        prometheus=_prometheus_name(name, table),
        cloudwatch=_flag(name, table, "cloudwatch"),
        **cast("dict[str, Any]", chosen | numbers | texts),
    )


def _needs(table: Mapping[str, Any], key: str) -> bool:
    return key in table or key not in _MAY_BE_ABSENT


def _prometheus_name(name: str, table: Mapping[str, Any]) -> str | None:
    if "prometheus" not in table:
        return None
    text = _text(name, table, "prometheus")
    if not _PROMETHEUS_NAME.fullmatch(text):
        raise SettingsError(f"Correct prometheus = {text!r} of metric {name}: a name has letters, digits, _ and :.")
    return text


def _flag(name: str, table: Mapping[str, Any], key: str) -> bool:
    value = table.get(key, True)
    if not isinstance(value, bool):
        raise SettingsError(f"Give metric {name} true or false for {key!r}.")
    return value


def _text(name: str, table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value.strip():
        raise SettingsError(f"Give metric {name} a text for {key!r}.")
    return value


def _one_of(name: str, table: Mapping[str, Any], key: str, allowed: frozenset[str]) -> str:
    value = _text(name, table, key)
    if value not in allowed:
        raise SettingsError(f"Correct {key} = {value!r} of metric {name}: allowed are {', '.join(sorted(allowed))}.")
    return value


def _number(name: str, table: Mapping[str, Any], key: str) -> float:
    value = table[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise SettingsError(f"Give metric {name} a number for {key!r}, or leave it out.")
    return float(value)
