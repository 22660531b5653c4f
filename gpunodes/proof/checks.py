"""What a test instance must show: each check has a name, what it proves, and its evidence; a verdict is all of them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gpunodes.proof.clone import Clone
from gpunodes.proof.datapoints import PERIOD_SECONDS, Datapoint, Readings, Series, floor_minute

_TOLERANCE = 0.01
_REASON_WIDTH = 400
# A CUDA context itself takes some hundred MiB on a real GPU, on top of what is allocated in it.
CONTEXT_ALLOWANCE_BYTES = 1 * 2**30


@dataclass(frozen=True)
class Gpu:
    """A GPU as the CUDA driver on the instance describes it.

    Attributes:
        index: in PCI order, which is NVML's.
        uuid: as NVML writes it: `GPU-...`.
        name: of the model.
        free_bytes: before anything was allocated.
    """

    index: int
    uuid: str
    name: str
    free_bytes: int


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: in a few words, as a statement that should hold.
        proves: why anyone should care.
        passed: whether it holds.
        reason: one sentence: what was seen, or what is missing.
        evidence: figures, for the record.
    """

    name: str
    proves: str
    passed: bool
    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)


def allocation_sizes(gpus: Sequence[Gpu]) -> list[int]:
    """How much to allocate on each GPU: an amount of its own, so that two GPUs that are mixed up cannot agree."""
    least_bytes = min((gpu.free_bytes for gpu in gpus), default=0)  # of all: shares of unequal GPUs could be equal
    return [int(least_bytes * 0.9 * (number + 1) / (len(gpus) + 1)) for number in range(len(gpus))]


def nothing_is_inherited(clone: Clone, builder_id: str) -> Check:
    """Whether a clone has nothing of the instance that baked its image.

    Args:
        clone: what `verify-clone.sh` said.
        builder_id: that instance; empty where the image does not say: then only the rest was looked at.
    """
    if clone.complaints:
        # One of them may list hundreds of files; the evidence has them all.
        reason = textwrap.shorten(" ".join(clone.complaints), _REASON_WIDTH, placeholder=" ...")
    elif builder_id:
        reason = f"its keys are its own, and no file names {builder_id}, which baked the image"
    else:
        reason = "its keys are its own; which instance baked the image is not known, so no file was searched for it"
    return Check(
        "nothing of the bake instance is on the clone",
        "no two instances share keys or names, and none carries those of whoever baked",
        not clone.complaints,
        reason,
        {"identity": dict(clone.identity), "complaints": list(clone.complaints), "builder_id": builder_id or None},
    )


def service_is_active(unit: str, state: str, proves: str) -> Check:
    """Whether systemd says `active` of a unit."""
    passed = state == "active"
    return Check(f"{unit} is active", proves, passed, f"systemd says: {state or 'nothing'}", {"state": state})


def gpus_are_there(gpus: Sequence[Gpu], promised: int, instance_type: str, error: str = "") -> Check:
    """Whether the driver shows as many GPUs as the instance type has."""
    seen = ", ".join(f"{gpu.index} {gpu.name}" for gpu in gpus) or "none"
    reason = f"{len(gpus)} of {promised} GPUs of {instance_type}: {seen}" + (f" ({error})" if error else "")
    return Check(
        "every GPU is there",
        "the driver in the image works with this instance type",
        len(gpus) == promised and promised > 0,
        reason,
        {"gpus": [vars(gpu) for gpu in gpus], "promised": promised},
    )


def datapoints_arrived(name: str, proves: str, readings: Readings) -> Check:
    """Whether every series has a datapoint; names those that do not."""
    missing = [str(series) for series, points in readings.items() if not points]
    count = len(readings)
    if missing:
        reason = f"{len(missing)} of {count} series have no datapoint: {'; '.join(missing[:3])}"
        reason += f"; and {len(missing) - 3} more" if len(missing) > 3 else ""
    else:
        reason = f"{count} of {count} series have datapoints" if count else "there is no series to look at"
    return Check(name, proves, count > 0 and not missing, reason, {"missing": missing, "series": count})


def memory_rose(allocated: Mapping[Series, int], before: Readings, maximum: Readings, since: datetime) -> Check:
    """Whether each GPU's memory used rose by what was allocated on it.

    Args:
        allocated: bytes for each GPU's series.
        before: its Minimum before the allocation.
        maximum: its Maximum.
        since: when the allocation was done; the minute of it counts.
    """
    rows, wrong = [], []
    for series, size_bytes in allocated.items():
        base = _lowest(before.get(series, []))
        peak = _highest(_since(maximum.get(series, []), floor_minute(since)))
        rise = None if base is None or peak is None else peak - base
        fits = rise is not None and (
            size_bytes * (1 - _TOLERANCE) <= rise <= size_bytes * (1 + _TOLERANCE) + CONTEXT_ALLOWANCE_BYTES
        )
        rows.append({"series": str(series), "allocated_bytes": size_bytes, "rise_bytes": rise, "fits": fits})
        if not fits:
            wrong.append(f"{_gpu(series)} {_gib(rise)} instead of {_gib(size_bytes)}")
    reason = "; ".join(wrong) if wrong else ", ".join(f"{_gpu(s)} +{_gib(b)}" for s, b in allocated.items())
    return Check(
        "memory used rises by what was allocated",
        "the published memory is memory, of the right GPU, and not bus activity",
        bool(rows) and not wrong,
        reason or "there is no GPU to look at",
        {"gpus": rows},
    )


def memory_fell(allocated: Mapping[Series, int], before: Readings, minimum: Readings, since: datetime) -> Check:
    """Whether each GPU's memory used is back where it was.

    Args:
        allocated: bytes for each GPU's series.
        before: its Minimum before the allocation.
        minimum: its Minimum since.
        since: the first minute that counts.
    """
    rows, wrong = [], []
    for series, size_bytes in allocated.items():
        base = _lowest(before.get(series, []))
        low = _lowest(_since(minimum.get(series, []), since))
        # Lower than before is fine: the load's contexts may have been part of that.
        fits = (
            base is not None and low is not None and (-CONTEXT_ALLOWANCE_BYTES <= low - base <= size_bytes * _TOLERANCE)
        )
        rows.append({"series": str(series), "before_bytes": base, "after_bytes": low, "fits": fits})
        if not fits:
            wrong.append(f"{_gpu(series)} {_gib(low)} instead of {_gib(base)}")
    reason = "; ".join(wrong) if wrong else "every GPU is back where it was"
    return Check(
        "memory used falls when it is freed",
        "the published memory follows the GPU down as well as up",
        bool(rows) and not wrong,
        reason if rows else "there is no GPU to look at",
        {"gpus": rows},
    )


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


def _gpu(series: Series) -> str:
    return f"GPU {dict(series.dimensions).get('GpuIndex', '?')}"


def _gib(size_bytes: float | None) -> str:
    return "nothing" if size_bytes is None else f"{size_bytes / 2**30:.2f} GiB"
