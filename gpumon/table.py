"""Shows one reading of every GPU to a person, or to a program."""

from __future__ import annotations

import json
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gpumon.metrics import Metric
    from gpumon.samples import Gpu, GpuSample, Reading

DEFAULT_COLUMNS = 80
_GAP = "  "


class _Unit(NamedTuple):
    shown: str
    factor: float = 1.0


# By the suffix of the reader's value; other suffixes say enough in the metric's name.
_UNITS = {
    "bytes": _Unit("MiB", 2**-20),
    "percent": _Unit("%"),
    "celsius": _Unit("C"),
    "watts": _Unit("W"),
    "megahertz": _Unit("MHz"),
    "millijoules": _Unit("kJ", 1e-6),
    "nanoseconds": _Unit("s", 1e-9),
    "seconds": _Unit("s"),
}
_PLAIN = _Unit("")


def as_table(
    reading: Reading, metrics: Sequence[Metric], host: Mapping[str, float | None], columns: int = DEFAULT_COLUMNS
) -> str:
    """Return the GPUs, then one row per metric and one column per GPU, in blocks that fit a terminal.

    Args:
        reading: What was read; "-" stands for what could not be, "lost" for a GPU that does not answer.
        metrics: The rows, in this order; what no GPU has a value for (not even None) is left out.
        host: Values of the host, by reader name.
        columns: Width of the terminal; a block has at least one GPU, however narrow it is.
    """
    version = f"driver {reading.driver_version}\n" if reading.driver_version else ""
    gpus = "".join(f"{line}\n" for line in _gpu_lines(reading.gpus, columns))
    rows = list(_gpu_rows(reading.gpus, metrics))
    blocks = [_block(header, body, rows) for header, body in _fitting(reading.gpus, rows, columns)]
    host_rows = [
        (_label(metric), _cell(metric, host[metric.reader]))
        for metric in metrics
        if metric.scope == "host" and metric.reader in host
    ]
    if host_rows:
        width = max(len(label) for label, _ in host_rows)
        lines = [f"{label:<{width}}{_GAP}{cell}" for label, cell in host_rows]
        blocks.append("\n".join(["host", *lines]) + "\n")
    return "\n".join([version + gpus, *blocks]) if version or gpus or blocks else "no GPU\n"


def as_json(reading: Reading, metrics: Sequence[Metric], host: Mapping[str, float | None]) -> str:
    """Return one JSON document: GPUs and host, values under their CloudWatch names and in CloudWatch's units.

    Counters are raw, not deltas. null: could not be read; a lost GPU has ``"lost": true`` and nothing but null.
    """
    document = {
        "driver_version": reading.driver_version,
        "gpus": [
            {
                "index": sample.gpu.index,
                "uuid": sample.gpu.uuid,
                "name": sample.gpu.name,
                "pci_bus_id": sample.gpu.pci_bus_id or None,
                "mig": _mig(sample.gpu),
                "lost": _is_lost(sample),
                "metrics": {
                    metric.name: _published(metric, _value(sample, metric))
                    for metric in metrics
                    if metric.scope == "gpu" and metric.tier != "legacy"
                },
            }
            for sample in reading.gpus
        ],
        "host": {
            metric.name: _published(metric, host[metric.reader])
            for metric in metrics
            if metric.scope == "host" and metric.reader in host
        },
    }
    return json.dumps(document, indent=2) + "\n"


def _mig(gpu: Gpu) -> dict[str, object] | None:
    if gpu.mig is None:
        return None
    return {"gpu_instance_id": gpu.mig.gpu_instance_id, "profile": gpu.mig.profile, "uuid": gpu.mig.uuid}


def _is_lost(sample: GpuSample) -> bool:
    return sample.values.get("gpu_up") == 0


def _value(sample: GpuSample, metric: Metric) -> float | None:
    burst = sample.bursts.get(metric.reader)
    return fmean(burst) if burst else sample.values.get(metric.reader)


def _published(metric: Metric, value: float | None) -> float | None:
    return value * metric.scale if value is not None and metric.is_plausible(value) else None


def _title(gpu: Gpu) -> str:
    return f"GPU {gpu.index}" if gpu.mig is None else f"GPU {gpu.index}.{gpu.mig.gpu_instance_id}"


def _gpu_lines(gpus: Sequence[GpuSample], columns: int) -> Iterator[str]:
    """Yield what each GPU is; its PCI address only where the line has room for it."""
    for sample in gpus:
        gpu = sample.gpu
        words = [gpu.name, gpu.uuid] if gpu.mig is None else [f"MIG {gpu.mig.profile}", gpu.mig.uuid]
        line = _GAP.join([f"{_title(gpu):<8}", *words, *(["LOST"] if _is_lost(sample) else [])])
        room = columns - len(line) - len(_GAP)
        yield _GAP.join([line, gpu.pci_bus_id]) if gpu.mig is None and 0 < len(gpu.pci_bus_id) <= room else line


class _Row(NamedTuple):
    tier: str
    label: str
    cells: list[str]


def _gpu_rows(gpus: Sequence[GpuSample], metrics: Sequence[Metric]) -> Iterator[_Row]:
    for metric in metrics:
        name = metric.reader
        if metric.scope != "gpu" or metric.tier == "legacy":
            continue
        if any(name in sample.values or sample.bursts.get(name) for sample in gpus):
            cells = [_gpu_cell(sample, metric) for sample in gpus]
            yield _Row(metric.tier, _label(metric), cells)


def _gpu_cell(sample: GpuSample, metric: Metric) -> str:
    if _is_lost(sample) and metric.reader != "gpu_up":
        return "lost"
    return _cell(metric, _value(sample, metric))


def _label(metric: Metric) -> str:
    unit = _unit(metric).shown
    words = [word for word in (unit, "" if metric.kind == "gauge" else "in all") if word]
    return f"{metric.name} ({', '.join(words)})" if words else metric.name


def _unit(metric: Metric) -> _Unit:
    return _UNITS.get(metric.reader.rsplit("_", 1)[-1], _PLAIN)


def _cell(metric: Metric, value: float | None) -> str:
    if value is None or not metric.is_plausible(value):
        return "-"
    text = f"{value * _unit(metric).factor:.1f}"
    return text.removesuffix(".0")


def _fitting(
    gpus: Sequence[GpuSample], rows: Sequence[_Row], columns: int
) -> Iterator[tuple[list[str], list[tuple[int, int]]]]:
    """Yield (titles, (position, width) of each GPU) of as many GPUs as fit beside the labels, until all are done."""
    label_width = max((len(row.label) for row in rows), default=0)
    titles: list[str] = []
    placed: list[tuple[int, int]] = []
    used = label_width
    for position, sample in enumerate(gpus):
        title = _title(sample.gpu)
        width = max([len(title), *(len(row.cells[position]) for row in rows)])
        if placed and used + len(_GAP) + width > columns:
            yield titles, placed
            titles, placed, used = [], [], label_width
        titles.append(title)
        placed.append((position, width))
        used += len(_GAP) + width
    if placed and rows:
        yield titles, placed


def _block(titles: Sequence[str], placed: Sequence[tuple[int, int]], rows: Sequence[_Row]) -> str:
    label_width = max(len(row.label) for row in rows)
    lines: list[str] = []
    for tier, of_tier in groupby(rows, key=lambda row: row.tier):
        heads = (f"{title:>{width}}" for title, (_, width) in zip(titles, placed, strict=True))
        lines.append(_GAP.join([f"{tier:<{label_width}}", *heads]))
        for row in of_tier:
            cells = (f"{row.cells[position]:>{width}}" for position, width in placed)
            lines.append(_GAP.join([f"{row.label:<{label_width}}", *cells]))
    return "\n".join(lines) + "\n"
