"""What was published beside what NVML said on the instance in the same minute."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from gpunodes.proof.check import Check, check
from gpunodes.proof.datapoint_checks import few, index_of, uuid_of
from gpunodes.proof.datapoints import PERIOD_SECONDS, Minute, Published, Series
from gpunodes.proof.nvml_readings import NvmlReadings
from gpunodes.proof.promised_metrics import Promise

_MOST_ROWS = 20  # of what is wrong, in the evidence
_FEWEST_READINGS = 5  # of NVML in a minute, to be compared with
_ALL_READINGS = 57  # what a minute has that was read from its beginning
_WHOLE_SAMPLES = 40  # so many of a minute's sixty, and it counts as seen from end to end
# Two that look at a noisy value once a second at other moments: three standard deviations of the difference of means
# of 60 samples, for the noise that has the greatest one, are 0.27 of its range.
_NOISE = 0.25
_EDGE = timedelta(seconds=2)
_PUBLISHED_AFTER = timedelta(seconds=PERIOD_SECONDS + 10)  # of the begin of a minute: all of it
# By the suffix of a reader's name, the unit: (absolute, relative); all others are equal or they are wrong.
_TOLERANCES = {
    "bytes": (2**20, 0.01),
    "percent": (5.0, 0.0),
    "celsius": (2.0, 0.0),
    "watts": (3.0, 0.05),
    "megahertz": (15.0, 0.05),
}


def datapoints_agree_with_nvml(
    promised: Mapping[Series, Promise],
    published: Published,
    nvml: NvmlReadings,
    *,
    read_at: datetime,
    changes: Iterable[datetime] = (),
) -> Check:
    """Whether gauges of GPUs are what NVML said on the instance, minute by minute.

    Args:
        promised: series of gpumon, as `series_of` makes them.
        published: what CloudWatch has of them.
        nvml: what was read on the instance.
        read_at: when CloudWatch was read: of a minute that was not over it has a part only.
        changes: when the load on the GPUs changed, by the instance's clock.
    """
    moments, compared = list(changes), 0
    wrong, blank = [], {index_of(series) for series in promised if uuid_of(series)}
    for series, promise in promised.items():
        if promise.kind != "gauge" or promise.scope != "gpu":
            continue
        for minute, local in _pairs(published.get(series, []), nvml.minutes.get((uuid_of(series), promise.reader), [])):
            compared += 1
            blank.discard(index_of(series))
            is_part = minute.minute + _PUBLISHED_AFTER > read_at
            if not agrees(promise.reader, promise.scale, minute, local, moments, is_part=is_part):
                wrong.append(_row(series, promise, minute, local))
    # What disagrees most comes first: the evidence has room for some only.
    wrong.sort(key=lambda row: -float(row["times_wrong"]))
    words = [_disagreement(row) for row in wrong] or [
        f"GPU {uuid_of(series)} is {nvml.indices[uuid_of(series)]} to NVML and {index_of(series)} in CloudWatch"
        for series in {uuid_of(series): series for series in promised}.values()
        if str(nvml.indices.get(uuid_of(series), index_of(series))) != index_of(series)
    ]
    words += [f"nothing of GPU {index} could be compared with NVML" for index in sorted(blank)]
    evidence = {
        "compared": compared,
        "not_compared_gpus": sorted(blank),
        "wrong_count": len(wrong),
        "wrong": wrong[:_MOST_ROWS],
    }
    good = f"{compared} datapoints are what NVML said in the same minute" if compared else "there is nothing to compare"
    return check("datapoints_agree_with_nvml", compared > 0 and not words, few(words) or good, evidence)


def agrees(
    reader: str,
    scale: float,
    published: Minute,
    local: Minute,
    changes: Sequence[datetime] = (),
    *,
    is_part: bool = False,
) -> bool:
    """Whether a minute in CloudWatch is the one that was read on the instance.

    Where both saw the whole minute, their means agree; of memory in a minute in which the load changed it is the least
    and the greatest value instead, for the mean depends on the moment of each sample. Where one of them saw little of
    the minute, what it saw lies in the range of the other.

    Args:
        reader: whose suffix is the unit.
        scale: factor from that to CloudWatch's unit.
        published: in CloudWatch.
        local: on the instance, in the reader's unit.
        changes: when the load changed, by the instance's clock.
        is_part: whether CloudWatch may not have all of the minute yet.
    """
    mine = Minute(local.minute, local.minimum * scale, local.maximum * scale, local.average * scale, local.count)
    absolute, relative = _TOLERANCES.get(reader.rpartition("_")[2], (0.0, 0.0))
    tolerance = absolute * scale + relative * max(abs(mine.maximum), abs(published.maximum)) + 1e-6
    spread = max(mine.maximum, published.maximum) - min(mine.minimum, published.minimum)
    loose = tolerance + _NOISE * spread
    less, more = sorted((mine, published), key=lambda minute: minute.count)
    if is_part or less.count < _WHOLE_SAMPLES:
        return more.minimum - loose <= less.average <= more.maximum + loose
    if reader.endswith("_bytes") and _has_levels(published.minute, changes):
        return max(abs(mine.minimum - published.minimum), abs(mine.maximum - published.maximum)) <= tolerance
    return abs(mine.average - published.average) <= loose


def series_document(
    promised: Mapping[Series, Promise], published: Published, nvml: NvmlReadings
) -> list[dict[str, Any]]:
    """The `series` of a proof's document: of each series that has datapoints its points, and NVML's beside them."""
    rows = []
    for series, promise in promised.items():
        is_counter = promise.kind == "counter"
        local = [] if promise.kind != "gauge" else nvml.minutes.get((uuid_of(series), promise.reader), [])
        points = [[m.minute.isoformat(), m.average * (m.count if is_counter else 1)] for m in published.get(series, [])]
        if points:
            rows.append(
                {
                    "namespace": series.namespace,
                    "metric": series.metric,
                    "unit": promise.unit,
                    "dimensions": dict(series.dimensions),
                    "statistic": "Sum" if is_counter else "Average",
                    "points": points,
                    "local": [[m.minute.isoformat(), m.average * promise.scale] for m in local],
                }
            )
    return rows


def _pairs(published: Iterable[Minute], local: Sequence[Minute]) -> Iterator[tuple[Minute, Minute]]:
    """The minutes that both have, less the one in which reading began: what CloudWatch has may be from before that."""
    known = local if local and local[0].count >= _ALL_READINGS else local[1:]
    readings = {minute.minute: minute for minute in known if minute.count >= _FEWEST_READINGS}
    for minute in published:
        if minute.minute in readings:
            yield minute, readings[minute.minute]


def _has_levels(minute: datetime, changes: Iterable[datetime]) -> bool:
    """Whether the load changed in a minute, and never so near its edges that only one of two may have seen a level."""
    end = minute + timedelta(seconds=PERIOD_SECONDS)
    near = [moment for moment in changes if minute - _EDGE <= moment <= end + _EDGE]
    return bool(near) and all(minute + _EDGE <= moment <= end - _EDGE for moment in near)


def _row(series: Series, promise: Promise, published: Minute, local: Minute) -> dict[str, Any]:
    difference = abs(published.average - local.average * promise.scale)
    return {
        "metric": series.metric,
        "gpu_index": index_of(series),
        "minute": published.minute.isoformat(),
        "published": _figures(published),
        "local": _figures(local, promise.scale),
        "times_wrong": difference / max(abs(published.average), abs(local.average * promise.scale), 1.0),
    }


def _disagreement(row: Mapping[str, Any]) -> str:
    seen, said = ({name: f"{value:.6g}" for name, value in row[whose].items()} for whose in ("published", "local"))
    return (
        f"{row['metric']} of GPU {row['gpu_index']} at {row['minute'][11:16]} is {seen['average']}"
        f" ({seen['minimum']} to {seen['maximum']}) in CloudWatch and {said['average']}"
        f" ({said['minimum']} to {said['maximum']}) by NVML"
    )


def _figures(minute: Minute, scale: float = 1.0) -> dict[str, float]:
    return {
        "minimum": minute.minimum * scale,
        "maximum": minute.maximum * scale,
        "average": minute.average * scale,
        "count": minute.count,
    }
