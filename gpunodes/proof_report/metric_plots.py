"""Which plots a proof has: the memory staircase of each GPU, and one plot for every metric with a line for each GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gpunodes.proof.datapoints import PERIOD_SECONDS
from gpunodes.proof.promised_metrics import GPU_NAMESPACE
from gpunodes.proof_report import plots, quantities
from gpunodes.proof_report.figure import AVERAGE, Figure, is_memory_used, load_span, readings
from gpunodes.proof_report.plots import Line, Plot, Window
from gpunodes.proof_report.proof_document import ProofDocument, SeriesEntry, moment
from gpunodes.proof_report.quantities import Scale
from gpunodes.proof_report.staircase import staircases

_MINUTE = timedelta(seconds=PERIOD_SECONDS)


@dataclass(frozen=True)
class Figures:
    """All plots of a page.

    Attributes:
        staircase: one for each GPU with a load.
        metrics: the others, in the order of `gpumon/metrics.toml`.
        legend: label and style of what is drawn for each GPU.
        has_local: whether NVML's own readings are among it.
        absent: series without any datapoint whose metric has no plot at all, by name.
    """

    staircase: Sequence[Figure]
    metrics: Sequence[Figure]
    legend: Sequence[tuple[str, int]]
    has_local: bool
    absent: Sequence[str]

    def staircase_has(self, kind: str) -> bool:
        """Whether a staircase has a path of a class: `l` what was published, `n` NVML's, `seen` what was read back."""
        return any(f'<path class="{kind}' in figure.svg for figure in self.staircase)


def figures(document: ProofDocument) -> Figures:
    """The plots of a proof; none where it has no datapoint."""
    window = _window(document)
    groups = _by_metric(document.series)
    if window is None:
        return Figures([], [], _legend(document), has_local=False, absent=[key[1] for key in groups])
    load = load_span(document.load, window)
    staircase = staircases(document, window)
    in_staircase = any('<path class="l ' in figure.svg for figure in staircase)
    metrics, absent = [], []
    for number, (key, group) in enumerate(groups.items()):
        if not any(entry.points or entry.local for entry in group):
            absent.append(key[1])
        elif not (in_staircase and is_memory_used(group[0])):
            metrics.append(_metric(group, document.instance_id, window, load, f"m{number}"))
    return Figures(
        staircase, metrics, _legend(document), has_local=any(entry.local for entry in document.series), absent=absent
    )


def _window(document: ProofDocument) -> Window | None:
    moments = [at for series in document.series for at, _ in (*series.points, *series.local)]
    moments += [step.at for entry in document.load for step in entry.steps]
    moments += [entry.freed_at for entry in document.load if entry.freed_at]
    found = [parsed for at in moments if (parsed := moment(at))]
    return Window(min(found), max(found) + _MINUTE) if found else None


def _by_metric(series: Sequence[SeriesEntry]) -> Mapping[tuple[str, str, str], list[SeriesEntry]]:
    groups: dict[tuple[str, str, str], list[SeriesEntry]] = {}
    for entry in series:
        groups.setdefault((entry.namespace, entry.metric, entry.statistic), []).append(entry)
    known = {name: place for place, name in enumerate(quantities.described_metrics())}
    ordered = sorted(groups, key=lambda key: (key[0] != GPU_NAMESPACE, known.get(key[1], len(known)), key))
    return {key: groups[key] for key in ordered}


def _metric(
    group: Sequence[SeriesEntry],
    instance_id: str,
    window: Window,
    load: tuple[datetime, datetime] | None,
    name: str,
) -> Figure:
    metric, unit = group[0].metric, group[0].unit
    lines = [
        Line(_label(entry, instance_id), _style(entry, number), readings(entry.points), readings(entry.local))
        for number, entry in enumerate(sorted(group, key=_gpu_order))
    ]
    values = [value for line in lines for _, value in (*line.points, *line.local)]
    scale = quantities.scale(metric, unit, max(map(abs, values), default=0.0))
    description = str(quantities.described_metrics().get(metric, {}).get("description", ""))
    words = "; ".join(f"{line.label}: {_range(line, scale)}" for line in lines)
    plot = Plot(metric, f"{description} {words}".strip(), scale, lines, load)
    return Figure(
        metric if group[0].statistic in {"", AVERAGE} else f"{metric} ({group[0].statistic})",
        _span(values, scale),
        plots.svg(plot, window, name),
        [line.label for line in lines if not line.points],
        any(len({value for _, value in line.points}) != 1 for line in lines),
        group[0].namespace,
        description,
    )


def _gpu_order(entry: SeriesEntry) -> tuple[int, str]:
    index = entry.dimensions.get("GpuIndex", "")
    return (int(index) if index.isdecimal() else -1, str(sorted(entry.dimensions.items())))


def _style(entry: SeriesEntry, number: int) -> int:
    index = entry.dimensions.get("GpuIndex", "")
    return int(index) if index.isdecimal() else number


def _label(entry: SeriesEntry, instance_id: str) -> str:
    """The GPU, or what else tells a series from its sisters."""
    dimensions = dict(entry.dimensions)
    owner = dimensions.pop("InstanceId", instance_id)
    index = dimensions.pop("GpuIndex", None)
    if index is not None:
        dimensions.pop("GpuUuid", None)
        label = f"GPU {index}"
    else:
        label = " ".join(f"{name}={value}" for name, value in sorted(dimensions.items())) or "instance"
    return label if owner == instance_id else f"{label} of {owner}"


def _range(line: Line, scale: Scale) -> str:
    values = [value for _, value in line.points]
    return f"{_span(values, scale)} in {len(values)} minutes" if values else "no datapoint"


def _span(values: Sequence[float], scale: Scale) -> str:
    if not values:
        return "no datapoint"
    low, high = scale.text(min(values)), scale.text(max(values))
    if low == high:
        return high
    return f"{low.removesuffix(scale.unit).strip()} to {high}"


def _legend(document: ProofDocument) -> list[tuple[str, int]]:
    indices = {int(index) for entry in document.series if (index := entry.dimensions.get("GpuIndex", "")).isdecimal()}
    indices |= {entry.gpu_index for entry in document.load}
    return [(f"GPU {index}", index) for index in sorted(indices)]
