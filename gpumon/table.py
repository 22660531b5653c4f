"""Shows one reading of every GPU to a person, or to a program."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpumon.metrics import Metric
    from gpumon.samples import GpuSample

_UNITS = {"bytes": "MiB", "percent": "%", "celsius": "C", "watts": "W", "megahertz": "MHz", "count": ""}


def as_table(samples: Sequence[GpuSample], metrics: Sequence[Metric]) -> str:
    """Return one row per metric and one column per GPU; "-" stands for what could not be read."""
    rows = [
        ["", *(f"GPU {sample.gpu.index}" for sample in samples)],
        ["name", *(sample.gpu.name for sample in samples)],
    ]
    rows.append(["uuid", *(sample.gpu.uuid for sample in samples)])
    for metric in metrics:
        if metric.scope == "gpu":
            suffix = metric.reader.rsplit("_", 1)[-1]
            cells = [_cell(sample.values.get(metric.reader), suffix) for sample in samples]
            rows.append([metric.name, *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def as_json(samples: Sequence[GpuSample], metrics: Sequence[Metric]) -> str:
    """Return one JSON document: a list of GPUs, values under their CloudWatch names, null for unreadable ones."""
    names = [(metric.name, metric.reader) for metric in metrics if metric.scope == "gpu"]
    gpus = [
        {
            "index": sample.gpu.index,
            "uuid": sample.gpu.uuid,
            "name": sample.gpu.name,
            "metrics": {name: sample.values.get(reader) for name, reader in names},
        }
        for sample in samples
    ]
    return json.dumps({"gpus": gpus}, indent=2) + "\n"


def _cell(value: float | None, suffix: str) -> str:
    if value is None:
        return "-"
    shown = value / 2**20 if suffix == "bytes" else value
    return f"{shown:.1f} {_UNITS.get(suffix, suffix)}".replace(".0 ", " ").rstrip()
