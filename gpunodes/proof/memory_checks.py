"""The memory staircase: what is allocated through CUDA, step by step, must be what CloudWatch shows, GPU by GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gpunodes.proof.check import Check, check
from gpunodes.proof.datapoints import PERIOD_SECONDS, Datapoint, Readings, Series, floor_minute
from gpunodes.proof.gpu_checks import Gpu

SHARES = (0.25, 0.5, 0.75)
_TOLERANCE = 0.01
_LESS_FOR_EACH_GPU = 0.03
# A CUDA context takes some hundred MiB on a real GPU, on top of what is allocated in it.
_CONTEXT_ALLOWANCE_BYTES = 1 * 2**30


@dataclass(frozen=True)
class Level:
    """What GPUs hold at a step of the staircase.

    Attributes:
        share: of the memory that was free: 0.25, 0.5 or 0.75.
        at: when it was allocated, UTC, by the instance's clock.
        held_bytes: of each GPU's series.
    """

    share: float
    at: datetime
    held_bytes: Mapping[Series, int]


def level_sizes(gpus: Sequence[Gpu], share: float) -> list[int]:
    """How much each GPU shall hold: a share of the free memory, less 3 % of that for each GPU before it.

    So two GPUs that are mixed up cannot agree, at any step, within the tolerance of 1 %.
    """
    least_bytes = min((gpu.free_bytes for gpu in gpus), default=0)  # of all: shares of unequal GPUs could be equal
    return [int(least_bytes * share * (1 - _LESS_FOR_EACH_GPU * number)) for number in range(len(gpus))]


def memory_arrives(readings: Readings) -> Check:
    """Whether every GPU's memory has a datapoint; names those that do not."""
    missing = [str(series) for series, points in readings.items() if not points]
    count = len(readings)
    if missing:
        reason = f"{len(missing)} of {count} series have no datapoint: {'; '.join(missing[:3])}"
        reason += f"; and {len(missing) - 3} more" if len(missing) > 3 else ""
    else:
        reason = f"{count} of {count} series have datapoints" if count else "there is no GPU to look at"
    return check("memory_arrives", count > 0 and not missing, reason, {"missing": missing, "series": count})


def level_rows(
    level: Level, first: Sequence[Mapping[str, Any]], base: Readings, maximum: Readings
) -> list[dict[str, Any]]:
    """What CloudWatch shows of each GPU at a step: a row with `fits`.

    The first step is held against what was used before it, which may lack the CUDA contexts; the others against the
    first, which leaves nothing to allow for.

    Args:
        level: what was allocated.
        first: the rows of the first step; empty for that step itself.
        base: Maximum before anything was allocated.
        maximum: Maximum since; only the step's minute and later ones count.
    """
    rows = []
    firsts = {row["gpu"]: row for row in first}
    for series, held_bytes in level.held_bytes.items():
        gpu = dict(series.dimensions).get("GpuIndex", "?")
        before_bytes = _highest(base.get(series, []))
        peak_bytes = _highest(_since(maximum.get(series, []), floor_minute(level.at)))
        rise_bytes = None if before_bytes is None or peak_bytes is None else peak_bytes - before_bytes
        row = {"gpu": gpu, "share": level.share, "at": level.at.isoformat()}
        row |= {"allocated_bytes": held_bytes, "rise_bytes": rise_bytes}
        rows.append({**row, "fits": _fits(held_bytes, rise_bytes, firsts.get(gpu))})
    return rows


def _fits(held_bytes: int, rise_bytes: float | None, first: Mapping[str, Any] | None) -> bool:
    if rise_bytes is None:
        return False
    if first is None:
        too_much_bytes = rise_bytes - held_bytes
        return -held_bytes * _TOLERANCE <= too_much_bytes <= held_bytes * _TOLERANCE + _CONTEXT_ALLOWANCE_BYTES
    if first["rise_bytes"] is None:
        return False
    wanted_bytes = held_bytes - first["allocated_bytes"]
    return bool(abs(rise_bytes - first["rise_bytes"] - wanted_bytes) <= wanted_bytes * _TOLERANCE)


def memory_rises(rows: Sequence[Mapping[str, Any]]) -> Check:
    """Whether each step of each GPU was seen as what it was, within 1 %."""
    wrong = [
        f"GPU {row['gpu']} at {row['share']:.0%}: {_gib(row['rise_bytes'])} instead of {_gib(row['allocated_bytes'])}"
        for row in rows
        if not row["fits"]
    ]
    if wrong:
        reason = "; ".join(wrong[:4]) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")
    elif rows:
        top = max(row["share"] for row in rows)
        highest = ", ".join(f"GPU {row['gpu']} +{_gib(row['rise_bytes'])}" for row in rows if row["share"] == top)
        reason = f"{len({row['share'] for row in rows})} steps of every GPU within 1 %: {highest}"
    else:
        reason = "there is no GPU to look at"
    return check("memory_rises", bool(rows) and not wrong, reason, {"steps": [dict(row) for row in rows]})


def memory_falls(level: Level | None, base: Readings, minimum: Readings, since: datetime) -> Check:
    """Whether each GPU's memory used is back where it was.

    Args:
        level: the first step, 1 % of which may be missing; None where there was none.
        base: Maximum before the allocation.
        minimum: its Minimum since.
        since: the first minute that counts.
    """
    rows, wrong = [], []
    for series, held_bytes in level.held_bytes.items() if level else ():
        gpu = dict(series.dimensions).get("GpuIndex", "?")
        before_bytes = _highest(base.get(series, []))
        low_bytes = _lowest(_since(minimum.get(series, []), since))
        # Lower than before is fine: the load's contexts may have been part of that.
        fits = (
            before_bytes is not None
            and low_bytes is not None
            and -_CONTEXT_ALLOWANCE_BYTES <= low_bytes - before_bytes <= held_bytes * _TOLERANCE
        )
        rows.append({"gpu": gpu, "before_bytes": before_bytes, "after_bytes": low_bytes, "fits": fits})
        if not fits:
            wrong.append(f"GPU {gpu} {_gib(low_bytes)} instead of {_gib(before_bytes)}")
    reason = "; ".join(wrong) if wrong else "every GPU is back where it was"
    if not rows:
        reason = "there is no GPU to look at"
    return check("memory_falls", bool(rows) and not wrong, reason, {"gpus": rows})


def first_minute_after_free(allocated_at: datetime, freed_at: datetime) -> datetime:
    """The first minute whose Minimum can be low only because memory was freed: one that began after the allocation."""
    minute = floor_minute(freed_at)
    return minute if minute > floor_minute(allocated_at) else minute + timedelta(seconds=PERIOD_SECONDS)


def _since(points: list[Datapoint], minute: datetime) -> list[Datapoint]:
    return [point for point in points if point.minute >= minute]


def _lowest(points: list[Datapoint]) -> float | None:
    return min((point.value for point in points), default=None)


def _highest(points: list[Datapoint]) -> float | None:
    return max((point.value for point in points), default=None)


def _gib(size_bytes: float | None) -> str:
    return "nothing" if size_bytes is None else f"{size_bytes / 2**30:.2f} GiB"
