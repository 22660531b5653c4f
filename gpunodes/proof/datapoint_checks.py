"""Whether CloudWatch has what the image promises: there, of the right unit and range, fresh, and its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from gpunodes.proof.check import Check, check
from gpunodes.proof.datapoints import PERIOD_SECONDS, Minute, Published, Series
from gpunodes.proof.promised_metrics import Promise

Promised = Mapping[Series, Promise]
Outage = tuple[datetime, datetime]

_PUBLICATION_SECONDS = 30.0  # from the end of a period to the datapoint that can be read
_CLOCK_ERROR = timedelta(seconds=5)
_ROUNDING = 1e-9
_MOST_ROWS = 20  # of what is wrong, in the evidence
_MOST_NAMED = 4
_PERIOD = timedelta(seconds=PERIOD_SECONDS)


def missing_series(
    promised: Promised, published: Published, unsupported: Mapping[str, Collection[str]]
) -> list[Series]:
    """The series without any datapoint, less those whose GPU has no such value.

    Args:
        promised: what there must be.
        published: what there is.
        unsupported: by UUID: readers for which NVML on the instance says so.
    """
    return [
        series
        for series, promise in promised.items()
        if not published.get(series) and promise.reader not in unsupported.get(uuid_of(series), ())
    ]


def promised_metrics_arrive(
    promised: Promised, published: Published, unsupported: Mapping[str, Collection[str]], gpu_count: int
) -> Check:
    """Whether every series of gpumon has a datapoint; ask no sooner than `within_seconds` of every promise.

    Args:
        promised: as `series_of` makes them, of the GPUs that the instance shows.
        published: what CloudWatch has of them.
        unsupported: by UUID: readers for which NVML on the instance says that the GPU has no such value.
        gpu_count: how many GPUs the instance type has.
    """
    missing = missing_series(promised, published, unsupported)
    lacking = set(missing_series(promised, published, {})) - set(missing)
    unseen = max(0, gpu_count - len({uuid_of(series) for series in promised} - {""}))
    arrived = sum(1 for series in promised if published.get(series))
    words = [f"{unseen} of {gpu_count} GPUs have no metrics, for the instance does not show them"] if unseen else []
    words += _missing_words(promised, missing)
    good = f"{arrived} of {len(promised)} series have datapoints"
    if lacking:
        good += f"; NVML says that there is {few(_by_metric(series for series in promised if series in lacking))}"
    evidence = {
        "promised": len(promised),
        "arrived": arrived,
        "missing_count": len(missing),
        "missing": [str(series) for series in missing[:_MOST_ROWS]],
        "gpus_not_shown": unseen,
        "not_supported": sorted(map(str, lacking)),
    }
    return check("promised_metrics_arrive", arrived > 0 and not words, few(words) or good, evidence)


def agent_metrics_arrive(promised: Promised, published: Published) -> Check:
    """Whether every series of the CloudWatch agent has a datapoint.

    Args:
        promised: as `agent_series_of` makes them.
        published: what CloudWatch has of them.
    """
    missing = missing_series(promised, published, {})
    names = ", ".join(series.metric for series in promised)
    reason = f"no datapoint of {', '.join(series.metric for series in missing)}" if missing else f"{names} have arrived"
    evidence = {"promised": [str(series) for series in promised], "missing": [str(series) for series in missing]}
    return check("agent_metrics_arrive", bool(promised) and not missing, reason, evidence)


def datapoints_are_plausible(promised: Promised, published: Published) -> Check:
    """Whether all datapoints that there are have the promised unit, and values in the promised range.

    Args:
        promised: series of gpumon and of the agent.
        published: what CloudWatch has of them.
    """
    units, ranges = [], []
    for series, promise in promised.items():
        minutes = published.get(series, [])
        if strange := sorted({minute.unit for minute in minutes} - {promise.unit}):
            says = f"{series.metric} has the unit {', '.join(strange)} instead of {promise.unit}"
            units.append({"series": str(series), "says": says})
        if outside := [minute for minute in minutes if not _is_in_range(minute, promise)]:
            least, most = min(minute.minimum for minute in outside), max(minute.maximum for minute in outside)
            bounds = _bounds(promise.minimum, promise.maximum)
            says = f"{series.metric} is {least:g} to {most:g}, possible is {bounds}"
            ranges.append({"series": str(series), "minute": outside[0].minute.isoformat(), "says": says})
    wrong = [*units, *ranges]
    count = sum(len(published.get(series, [])) for series in promised)
    good = f"{count} datapoints have the unit and the range of their metric" if count else "there is no datapoint"
    reason = few(dict.fromkeys(row["says"] for row in wrong)) or good
    evidence = {"datapoints": count, "wrong_count": len(wrong), "wrong": wrong[:_MOST_ROWS]}
    return check("datapoints_are_plausible", count > 0 and not wrong, reason, evidence)


def datapoints_are_fresh(
    promised: Promised,
    published: Published,
    *,
    now: datetime,
    running_since: datetime,
    read_until: datetime | None = None,
    outages: Sequence[Outage] = (),
    publication_seconds: float = _PUBLICATION_SECONDS,
) -> Check:
    """Whether datapoints came early, come still, come each minute between, and none comes from the future.

    Args:
        promised: series; those without any datapoint are another check's.
        published: what CloudWatch has of them.
        now: when reading it began, UTC, by a clock that is right.
        read_until: when that ended, which is minutes later where CloudWatch throttled it; None for at once.
        running_since: when the services were seen running, by the same clock.
        outages: (begin, end) of times in which nothing could be sampled: what is missing of these is no gap.
        publication_seconds: from the end of a period to its datapoint.
    """
    seen = {series: published[series] for series in promised if published.get(series)}
    rows = []
    for series, minutes in seen.items():
        promise = promised[series]
        period = timedelta(seconds=max(promise.period_seconds, promise.read_seconds))
        allowed = timedelta(seconds=promise.within_seconds + publication_seconds)
        rows.append(
            {
                "series": str(series),
                "metric": series.metric,
                "newest": minutes[-1].minute.isoformat(),
                "is_stale": now - minutes[-1].minute > 2 * period + timedelta(seconds=publication_seconds),
                "is_of_the_future": minutes[-1].minute > (read_until or now) + _CLOCK_ERROR,
                "is_late": minutes[0].minute > running_since + allowed,
                "gaps": [gap.isoformat() for gap in _gaps(minutes, promise, outages)],
            }
        )
    wrong = [row for row in rows if row["is_stale"] or row["is_of_the_future"] or row["is_late"] or row["gaps"]]
    moments = sorted({minute.minute for minutes in seen.values() for minute in minutes})
    evidence = {
        "series": len(rows),
        "fewest_minutes": min((len(minutes) for minutes in seen.values()), default=0),
        "running_minutes": round((now - running_since) / _PERIOD, 1),
        "read_at": now.isoformat(),
        "first_and_last": [moment.isoformat() for moment in (*moments[:1], *moments[-1:])],
        "outages": [[begin.isoformat(), end.isoformat()] for begin, end in outages],
        "wrong_count": len(wrong),
        "wrong": wrong[:_MOST_ROWS],
    }
    good = f"{len(rows)} series from {moments[0]:%H:%M} to {moments[-1]:%H:%M} miss no minute" if moments else ""
    reason = "; ".join(_freshness_words(rows, now)) or good or "there is no datapoint"
    return check("datapoints_are_fresh", bool(rows) and not wrong, reason, evidence)


def only_its_own_series(foreign: Published, *, instance_id: str, builder_id: str) -> Check:
    """Whether nothing was published under another id than the instance's; `foreign_series` says what was."""
    ids = sorted({dict(series.dimensions).get("InstanceId", "no instance") for series in foreign})
    if foreign:
        names = [f"{name}, which baked the image," if name == builder_id else name for name in ids]
        reason = f"{len(foreign)} series carry {' and '.join(names)} instead of {instance_id}"
    elif builder_id:
        reason = f"none carries {builder_id}, which baked the image, and those of its GPUs all carry {instance_id}"
    else:
        reason = f"those of its GPUs all carry {instance_id}; which instance baked the image is not known"
    evidence = {"instance_ids": ids, "builder_id": builder_id or None, "series_count": len(foreign),
        "series": sorted(map(str, foreign))[:_MOST_ROWS]}  # fmt: skip
    return check("only_its_own_series", not foreign, reason, evidence)


def few(words: Iterable[str]) -> str:
    """The first of them, and how many more there are."""
    all_words = list(words)
    more = len(all_words) - _MOST_NAMED
    return "; ".join(all_words[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def uuid_of(series: Series) -> str:
    """UUID of the GPU that a series is of; empty for one of the host."""
    return dict(series.dimensions).get("GpuUuid", "")


def index_of(series: Series) -> str:
    """Index of the GPU that a series is of, as the dimension has it."""
    return dict(series.dimensions).get("GpuIndex", "")


def _owner(series: Series) -> str:
    return f"GPU {index_of(series)}" if uuid_of(series) else "the host"


def _missing_words(promised: Promised, missing: Sequence[Series]) -> list[str]:
    """What is missing, all of an owner before single metrics of several."""
    due = Counter(_owner(series) for series in promised)
    lacks = Counter(_owner(series) for series in missing)
    empty = [owner for owner in lacks if lacks[owner] == due[owner]]
    words = [f"{owner} has none of its {due[owner]} metrics" for owner in empty]
    return words + _by_metric(series for series in missing if _owner(series) not in empty)


def _by_metric(series: Iterable[Series]) -> list[str]:
    owners: dict[str, list[str]] = {}
    for entry in series:
        owners.setdefault(entry.metric, []).append(_owner(entry))
    return [f"no {metric} of {', '.join(names)}" for metric, names in owners.items()]


def _is_in_range(minute: Minute, promise: Promise) -> bool:
    least, most = promise.minimum, promise.maximum
    slack = _ROUNDING * max(1.0, abs(least or 0.0), abs(most or 0.0))
    return (least is None or minute.minimum >= least - slack) and (most is None or minute.maximum <= most + slack)


def _bounds(least: float | None, most: float | None) -> str:
    if least is None or most is None:
        return f"at most {most:g}" if least is None else f"at least {least:g}"
    return f"{least:g} to {most:g}"


def _gaps(minutes: Sequence[Minute], promise: Promise, outages: Sequence[Outage]) -> list[datetime]:
    """Periods without a datapoint between the first and the last one."""
    if not promise.is_in_every_period:
        return []
    counts: dict[datetime, float] = {}
    for minute in minutes:
        counts[minute.minute] = counts.get(minute.minute, 0) + minute.count
    # What is read once a period may slip over its end: then the next one has two.
    may_slip = 2 * promise.read_seconds > promise.period_seconds
    gaps, moment = [], minutes[0].minute + _PERIOD
    while moment < minutes[-1].minute:
        has_slipped = may_slip and max(counts.get(moment - _PERIOD, 0), counts.get(moment + _PERIOD, 0)) >= 2
        is_out = any(begin < moment + _PERIOD and moment <= end for begin, end in outages)
        if moment not in counts and not has_slipped and not is_out:
            gaps.append(moment)
        moment += _PERIOD
    return gaps


def _freshness_words(rows: Sequence[Mapping[str, Any]], now: datetime) -> list[str]:
    """The worst of each kind, in one part of a sentence each."""
    words = []
    if stale := [row for row in rows if row["is_stale"]]:
        oldest = min(stale, key=lambda row: str(row["newest"]))
        ago = (now - datetime.fromisoformat(oldest["newest"])) / _PERIOD
        words.append(f"{len(stale)} of {len(rows)} series stopped, {oldest['metric']} {ago:.0f} minutes ago")
    if future := [row for row in rows if row["is_of_the_future"]]:
        newest = max(future, key=lambda row: str(row["newest"]))
        ahead = (datetime.fromisoformat(newest["newest"]) - now) / _PERIOD
        words.append(f"{len(future)} series lie up to {ahead:.0f} minutes in the future: the clock is wrong")
    if gaps := [row for row in rows if row["gaps"]]:
        worst = max(gaps, key=lambda row: len(row["gaps"]))
        words.append(
            f"{len(gaps)} series have gaps, {worst['metric']} misses {len(worst['gaps'])} minutes"
            f" from {worst['gaps'][0][11:16]} on"
        )
    if late := [row for row in rows if row["is_late"]]:
        words.append(f"{len(late)} series began late, such as {late[0]['metric']}")
    return words
