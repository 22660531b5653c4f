"""Values of metrics for people: in GiB, %, °C, W, and with as many digits as say something."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tomllib

from gpunodes.proof.promised_metrics import METRICS_FILE

# CloudWatch has no unit for these; the name that gpumon reads them under ends in it.
_READER_UNITS = {"celsius": "°C", "watts": "W", "millijoules": "J", "megahertz": "MHz", "hertz": "Hz"}
_UNITS = {"Percent": "%", "None": "", "Count": "", "Seconds": "s", "Count/Second": "/s"}
_BINARY = {"Bytes": "", "Bytes/Second": "/s"}
_BINARY_PREFIXES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


@dataclass(frozen=True)
class Scale:
    """How values of one size are written.

    Attributes:
        factor: what a value is divided by.
        unit: of the quotient; empty for plain numbers.
    """

    factor: float
    unit: str

    def text(self, value: float) -> str:
        """A value with its unit."""
        number = digits(value / self.factor)
        return f"{number} {self.unit}" if self.unit else number


@functools.cache
def described_metrics() -> Mapping[str, Mapping[str, Any]]:
    """What `gpumon/metrics.toml` says of each metric, in its order; nothing where it cannot be read."""
    try:
        return tomllib.loads(METRICS_FILE.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):  # a page without descriptions is better than none
        return {}


def scale(metric: str, unit: str, largest: float) -> Scale:
    """The scale for values of a metric whose absolute maximum is `largest`, in CloudWatch's `unit`."""
    if unit in _BINARY:
        for factor, name in _BINARY_PREFIXES:
            if largest >= factor:
                return Scale(factor, name + _BINARY[unit])
        return Scale(1, "B" + _BINARY[unit])
    if unit == "Seconds":
        return next((Scale(factor, name) for factor, name in _SECONDS if largest >= factor), Scale(1, "s"))
    if unit in {"None", ""}:
        suffix = str(described_metrics().get(metric, {}).get("reader", "")).rsplit("_", 1)[-1]
        return Scale(1, _READER_UNITS.get(suffix, ""))
    return Scale(1, _UNITS.get(unit, unit))


def digits(value: float) -> str:
    """A number with at most three digits behind the point, fewer the larger it is."""
    if not math.isfinite(value):
        return str(value)
    places = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def size(value_bytes: float) -> str:
    """So many bytes, as `1.5 GiB`."""
    return scale("", "Bytes", abs(value_bytes)).text(value_bytes)


def duration(seconds: float) -> str:
    """`12.3 s`, `4 min 5 s`, `1 h 2 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
