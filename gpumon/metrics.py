"""The table of metrics, loaded from ``metrics.toml``."""

from __future__ import annotations

import math
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
    from collections.abc import Mapping

METRICS_FILE = Path(__file__).with_name("metrics.toml")
SCOPES = ("gpu", "host")

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


@dataclass(frozen=True)
class Metric:
    """One published metric.

    Attributes:
        name: Its name in CloudWatch.
        scope: ``"gpu"`` (a series per GPU) or ``"host"`` (one series).
        unit: CloudWatch StandardUnit.
        reader: Name of the value that a reader gives; its suffix is the unit.
        description: What it measures, for people.
        minimum: Least value that can be a measurement, or None.
        maximum: Greatest value that can be a measurement, or None.
    """

    name: str
    scope: Literal["gpu", "host"]
    unit: str
    reader: str
    description: str
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
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"Repair the table of metrics {path}: {error}.") from error
    metrics = tuple(_metric(name, table) for name, table in tables.items())
    readers = [(metric.scope, metric.reader) for metric in metrics]
    for metric, reader in zip(metrics, readers, strict=True):
        if readers.count(reader) > 1:
            raise SettingsError(f"Give every metric a reader of its own: {metric.name} shares {metric.reader!r}.")
    return metrics


def _metric(name: str, table: object) -> Metric:
    if not isinstance(table, dict):
        raise SettingsError(f"Write {name} as a table of the metrics file: it is {type(table).__name__}.")
    known = {field.name for field in fields(Metric)} - {"name"}
    unknown = sorted(set(table) - known)
    if unknown:
        raise SettingsError(
            f"Remove or correct {unknown[0]!r} in metric {name}: a metric has {', '.join(sorted(known))}."
        )
    return Metric(
        name=name,
        scope=cast("Literal['gpu', 'host']", _one_of(name, table, "scope", frozenset(SCOPES))),
        unit=_one_of(name, table, "unit", STANDARD_UNITS),
        reader=_text(name, table, "reader"),
        description=_text(name, table, "description"),
        minimum=_limit(name, table, "minimum"),
        maximum=_limit(name, table, "maximum"),
    )


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


def _limit(name: str, table: Mapping[str, Any], key: str) -> float | None:
    value = table.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise SettingsError(f"Give metric {name} a number for {key!r}, or leave it out.")
    return float(value)
