"""The memory staircase: what the test allocated on each GPU, step by step, and what CloudWatch had of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gpunodes.proof.datapoints import PERIOD_SECONDS
from gpunodes.proof_report import plots, quantities
from gpunodes.proof_report.figure import AVERAGE, Figure, is_memory_used, load_span, readings
from gpunodes.proof_report.plots import Held, Line, Plot, Window
from gpunodes.proof_report.proof_document import LARGEST, LoadEntry, ProofDocument, SeriesEntry, moment

_MINUTE = timedelta(seconds=PERIOD_SECONDS)
_SPECK = 4  # a load that takes less than this part of the page's time is shown in a time of its own
_LEAST_MARGIN = timedelta(seconds=5)
_RISE_CHECK = "memory_rises"
_HEIGHT_PX = 150


@dataclass(frozen=True)
class _Stairs:
    """What was published of a GPU's memory, minute by minute and after each step, and what was held of it."""

    load: LoadEntry
    line: Line | None
    held: Sequence[Held]
    seen: plots.Points
    was_published: bool


def staircases(document: ProofDocument, window: Window) -> list[Figure]:
    """One for each GPU that was loaded, all with the same axes.

    Args:
        document: of the proof.
        window: of the page.
    """
    shown = _window_of(load_span(document.load, window), window)
    stairs = [
        _stairs(load, _memory_of(load, document.series), _rises(document, load), window) for load in document.load
    ]
    if shown != window:  # within seconds: what a minute has on average says nothing of it
        stairs = [replace(entry, line=None) for entry in stairs]
    tops = [held.top for entry in stairs for held in entry.held]
    tops += [value for entry in stairs for _, value in entry.seen]
    tops += [value for entry in stairs if entry.line for _, value in entry.line.points]
    highest = max(tops, default=0.0)
    return [_staircase(entry, highest, shown, f"s{number}") for number, entry in enumerate(stairs)]


def _memory_of(load: LoadEntry, series: Sequence[SeriesEntry]) -> SeriesEntry | None:
    """The memory used that was published of a load's GPU; of several statistics the average, as NVML's readings are."""
    found = [
        entry
        for entry in series
        if is_memory_used(entry)
        and (
            entry.dimensions.get("GpuUuid") == load.gpu_uuid
            if load.gpu_uuid and "GpuUuid" in entry.dimensions
            else entry.dimensions.get("GpuIndex") == str(load.gpu_index)
        )
    ]
    return min(found, key=lambda entry: entry.statistic != AVERAGE, default=None)


def _rises(document: ProofDocument, load: LoadEntry) -> Mapping[datetime, float]:
    """By how much what was read back from CloudWatch rose with each step, as the check's evidence has it."""
    rises: dict[datetime, float] = {}
    for check in document.checks:
        rows = check.evidence.get("steps") if check.check_id == _RISE_CHECK and isinstance(check.evidence, dict) else ()
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and str(row.get("gpu")) == str(load.gpu_index):
                at, rise = moment(str(row.get("at"))), row.get("rise_bytes")
                if at and isinstance(rise, int | float) and abs(rise) < LARGEST:
                    rises[at] = rise
    return rises


def _stairs(load: LoadEntry, series: SeriesEntry | None, rises: Mapping[datetime, float], window: Window) -> _Stairs:
    line = Line("published", 0, readings(series.points), readings(series.local)) if series else None
    was_published = bool(line and line.points)
    steps = [(at, step) for step in load.steps if (at := moment(step.at))]
    if not steps:
        return _Stairs(load, line, [], [], was_published)
    base = _level_before(steps[0][0], line) if line else 0.0
    ends = [*(at for at, _ in steps[1:]), moment(load.freed_at) or window.end]
    held = [Held(at, end, base, base + step.bytes) for (at, step), end in zip(steps, ends, strict=True)]
    seen = [
        (entry.begin + (entry.end - entry.begin) / 2, base + rises[entry.begin])
        for entry in held
        if entry.begin in rises
    ]
    return _Stairs(load, line, held, seen, was_published or bool(seen))


def _staircase(stairs: _Stairs, highest: float, window: Window, name: str) -> Figure:
    load, line = stairs.load, stairs.line
    steps = [(at, step) for step in load.steps if (at := moment(step.at))]
    freed = moment(load.freed_at)
    marks = [(at, "" if step.share is None else f"{round(100 * step.share)} %") for at, step in steps]
    plot = Plot(
        f"Memory used of GPU {load.gpu_index}",
        "; ".join([*(_allocated(at, step.bytes) for at, step in steps), _published(stairs)]),
        quantities.scale("", "Bytes", highest),
        [line] if line else [],
        None,
        marks + ([(freed, "freed")] if freed else []),
        stairs.held,
        stairs.seen,
        highest,
        _HEIGHT_PX,
    )
    missing = () if stairs.was_published else ("published memory",)
    return Figure(f"GPU {load.gpu_index}", load.gpu_uuid, plots.svg(plot, window, name), missing)


def _allocated(at: datetime, size_bytes: float) -> str:
    return f"{at:%H:%M:%S} {quantities.size(size_bytes)} allocated in all"


def _published(stairs: _Stairs) -> str:
    values = [value for _, value in (*(stairs.line.points if stairs.line else ()), *stairs.seen)]
    if not values:
        return "nothing was published"
    return f"published {quantities.size(min(values))} to {quantities.size(max(values))}"


def _level_before(at: datetime, line: Line) -> float:
    """What was in use in the last whole minute before an allocation; 0 where nothing was published then."""
    return next((value for begin, value in reversed(line.points) if begin + _MINUTE <= at), 0.0)


def _window_of(load: tuple[datetime, datetime] | None, window: Window) -> Window:
    """The time of the load alone where it would be a speck in the whole, else the whole."""
    if load is None or (load[1] - load[0]) * _SPECK > window.end - window.begin:
        return window
    margin = max((load[1] - load[0]) / 3, _LEAST_MARGIN)
    return Window(load[0] - margin, load[1] + margin)
