"""The checks on what was published by an instance with four GPUs and an agent, which ran for ten minutes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpunodes.proof import datapoint_checks as checks
from gpunodes.proof.check import Check
from gpunodes.proof.datapoints import Minute, Published, Series
from gpunodes.proof.promised_metrics import Promise, agent_series_of, promised, promised_by_agent, series_of
from tests.gpunodes.fakes import INSTANCE_ID, gpus

BEGAN = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
PERIOD = timedelta(minutes=1)
NOW = BEGAN + timedelta(minutes=10, seconds=20)
GPUMON = series_of(promised(), INSTANCE_ID, gpus(4))
AGENT = agent_series_of(promised_by_agent(), INSTANCE_ID, "ext4")
EVERYTHING = GPUMON | AGENT


def series(metric: str, index: int | None = None) -> Series:
    return next(
        entry
        for entry in EVERYTHING
        if entry.metric == metric and (index is None or ("GpuIndex", str(index)) in entry.dimensions)
    )


def minute(promise: Promise, number: int) -> Minute:
    value = promise.maximum if promise.maximum is not None else 1e9
    # What is read once a minute: at the start, and before the end of each.
    count = 60 if promise.read_seconds < 60 else 2 if number == 0 else 1
    return Minute(BEGAN + number * PERIOD, promise.minimum or 0.0, value, value / 2, count, promise.unit)


@pytest.fixture
def published() -> Published:
    """Ten minutes of everything; a counter of the driver has no datapoint in the first."""
    return {
        entry: [minute(promise, number) for number in range(1 if promise.within_seconds > 120 else 0, 10)]
        for entry, promise in EVERYTHING.items()
    }


def arrive(published: Published, unsupported: dict[str, set[str]] | None = None, gpu_count: int = 4) -> Check:
    return checks.promised_metrics_arrive(GPUMON, published, unsupported or {}, gpu_count)


def fresh(published: Published, **more: Any) -> Check:
    return checks.datapoints_are_fresh(EVERYTHING, published, **{"now": NOW, "running_since": BEGAN} | more)


def moved(minutes: Iterable[Minute], by: timedelta) -> list[Minute]:
    return [replace(entry, minute=entry.minute + by) for entry in minutes]


def test_everything_that_arrived_is_everything_promised(published: Published) -> None:
    outcome = arrive(published)

    assert (outcome.check_id, outcome.passed) == ("promised_metrics_arrive", True)
    assert outcome.reason == "113 of 113 series have datapoints"
    assert outcome.evidence["promised"] == outcome.evidence["arrived"] == 113


def test_metric_that_does_not_come_is_named_with_its_gpus(published: Published) -> None:
    published[series("PowerDraw", 1)] = []
    del published[series("PowerDraw", 3)]

    outcome = arrive(published)

    assert outcome.passed is False
    assert outcome.reason == "no PowerDraw of GPU 1, GPU 3"
    assert outcome.evidence["missing_count"] == 2
    assert outcome.evidence["missing"] == [str(series("PowerDraw", 1)), str(series("PowerDraw", 3))]


def test_gpu_without_any_metric_is_named_before_single_ones(published: Published) -> None:
    for entry in GPUMON:
        if ("GpuIndex", "2") in entry.dimensions:
            published[entry] = []
    published[series("Heartbeat")] = []

    outcome = arrive(published)

    assert outcome.passed is False
    assert outcome.reason == "GPU 2 has none of its 24 metrics; no Heartbeat of the host"
    assert len(outcome.evidence["missing"]) == 20  # the record stays small
    assert outcome.evidence["missing_count"] == 25


def test_gpu_that_the_instance_does_not_show_is_missed(published: Published) -> None:
    outcome = arrive(published, gpu_count=5)

    assert outcome.passed is False
    assert outcome.reason == "1 of 5 GPUs have no metrics, for the instance does not show them"


def test_metric_that_nvml_does_not_support_may_be_absent_and_is_named(published: Published) -> None:
    published[series("NvlinkErrors", 0)] = []
    published[series("NvlinkErrors", 1)] = []

    outcome = arrive(published, {"GPU-0": {"nvlink_error_count"}, "GPU-1": {"nvlink_error_count", "power_watts"}})
    assert outcome.passed is True
    assert outcome.reason == (
        "111 of 113 series have datapoints; NVML says that there is no NvlinkErrors of GPU 0, GPU 1"
    )
    assert outcome.evidence["not_supported"] == [str(series("NvlinkErrors", 0)), str(series("NvlinkErrors", 1))]

    outcome = arrive(published, {"GPU-0": {"nvlink_error_count"}})
    assert (outcome.passed, outcome.reason) == (False, "no NvlinkErrors of GPU 1")


def test_nothing_that_arrived_is_no_pass() -> None:
    assert arrive({}).passed is False
    assert checks.promised_metrics_arrive({}, {}, {}, 0).passed is False
    assert checks.agent_metrics_arrive({}, {}).passed is False
    assert checks.datapoints_are_plausible({}, {}).passed is False
    assert fresh({}).passed is False


def test_wrong_instance_id_in_the_dimension_is_nothing_that_arrived(published: Published) -> None:
    other = series_of(promised(), "i-wrong", gpus(4))
    strange = {entry: published[mine] for entry, mine in zip(other, GPUMON, strict=True)}

    outcome = arrive(strange)

    assert outcome.passed is False
    assert outcome.reason.startswith("GPU 0 has none of its 24 metrics; GPU 1 has none")


def test_agent_without_swap_is_found(published: Published) -> None:
    assert checks.agent_metrics_arrive(AGENT, published).passed is True

    published[series("swap_used_percent")] = []
    outcome = checks.agent_metrics_arrive(AGENT, published)
    assert (outcome.check_id, outcome.passed) == ("agent_metrics_arrive", False)
    assert outcome.reason == "no datapoint of swap_used_percent"


def test_values_at_their_bounds_are_plausible(published: Published) -> None:
    outcome = checks.datapoints_are_plausible(EVERYTHING, published)

    assert (outcome.check_id, outcome.passed) == ("datapoints_are_plausible", True)
    assert outcome.evidence["datapoints"] == 116 * 10 - 4 * 4  # four counters of each GPU begin a minute later


@pytest.mark.parametrize(
    ("metric", "change", "reason"),
    [
        ("MemoryUsed", {"unit": "Percent"}, "MemoryUsed has the unit Percent instead of Bytes"),
        ("Temperature", {"maximum": 255.0}, "Temperature is -60 to 255, possible is -60 to 200"),
        ("MemoryUsed", {"minimum": -1.0}, "MemoryUsed is -1 to 1e+09, possible is at least 0"),
        ("mem_used_percent", {"maximum": 100.5}, "mem_used_percent is 0 to 100.5, possible is 0 to 100"),
        ("EnergyConsumed", {"minimum": -5.0}, "EnergyConsumed is -5 to 1e+09, possible is at least 0"),
    ],
)
def test_one_minute_that_cannot_be_is_named(
    published: Published, metric: str, change: dict[str, Any], reason: str
) -> None:
    published[series(metric)][4] = replace(published[series(metric)][4], **change)

    outcome = checks.datapoints_are_plausible(EVERYTHING, published)

    assert (outcome.passed, outcome.reason) == (False, reason)
    assert outcome.evidence["wrong_count"] == 1


def test_rounding_is_not_implausible(published: Published) -> None:
    heat = series("GpuUtilization", 0)
    published[heat] = [replace(entry, maximum=100.00000000000001) for entry in published[heat]]

    assert checks.datapoints_are_plausible(EVERYTHING, published).passed is True


def test_what_is_wrong_of_every_gpu_is_said_once(published: Published) -> None:
    for index in range(4):
        published[series("MemoryUsed", index)] = [
            replace(entry, unit="None") for entry in published[series("MemoryUsed", index)]
        ]

    outcome = checks.datapoints_are_plausible(EVERYTHING, published)

    assert outcome.reason == "MemoryUsed has the unit None instead of Bytes"
    assert outcome.evidence["wrong_count"] == 4


def test_ten_minutes_without_a_gap_are_fresh(published: Published) -> None:
    outcome = fresh(published)

    assert (outcome.check_id, outcome.passed) == ("datapoints_are_fresh", True)
    assert outcome.reason == "116 series from 10:00 to 10:09 miss no minute"
    assert outcome.evidence["first_and_last"] == ["2026-11-22T10:00:00+00:00", "2026-11-22T10:09:00+00:00"]
    assert (outcome.evidence["fewest_minutes"], outcome.evidence["running_minutes"]) == (9, 10.3)


@pytest.mark.parametrize(("seconds", "passed"), [(140, True), (160, False)])
def test_newest_datapoint_may_be_two_periods_and_a_publication_old(
    published: Published, seconds: float, *, passed: bool
) -> None:
    newest = BEGAN + 9 * PERIOD

    assert fresh(published, now=newest + timedelta(seconds=seconds)).passed is passed


def test_metrics_that_stopped_ten_minutes_ago_are_stale(published: Published) -> None:
    outcome = fresh(published, now=BEGAN + timedelta(minutes=19))

    assert outcome.passed is False
    assert outcome.reason.startswith("116 of 116 series stopped, GpuUtilization 10 minutes ago")
    assert outcome.evidence["wrong_count"] == 116
    assert len(outcome.evidence["wrong"]) == 20


def test_one_series_that_stopped_is_named(published: Published) -> None:
    published[series("SmClock", 2)] = published[series("SmClock", 2)][:3]

    outcome = fresh(published)

    assert (outcome.passed, outcome.reason) == (False, "1 of 116 series stopped, SmClock 8 minutes ago")


def test_clock_an_hour_behind_makes_datapoints_stale(published: Published) -> None:
    outcome = fresh({entry: moved(minutes, -60 * PERIOD) for entry, minutes in published.items()})

    assert outcome.passed is False
    assert "116 of 116 series stopped, GpuUtilization 61 minutes ago" in outcome.reason


def test_clock_an_hour_ahead_puts_datapoints_into_the_future(published: Published) -> None:
    outcome = fresh({entry: moved(minutes, 60 * PERIOD) for entry, minutes in published.items()})

    assert outcome.passed is False
    assert outcome.reason.startswith("116 series lie up to 59 minutes in the future: the clock is wrong")


def test_what_was_published_while_a_throttled_reading_went_on_is_not_of_the_future(published: Published) -> None:
    newest = max(minutes[-1].minute for minutes in published.values())
    began = newest - timedelta(seconds=40)

    assert fresh(published, now=began).passed is False
    assert fresh(published, now=began, read_until=newest + timedelta(seconds=5)).passed is True


def lose(published: Published, metric: str, *numbers: int) -> None:
    first = published[series(metric)][0].minute
    lost = [BEGAN + number * PERIOD for number in numbers]
    published[series(metric)] = [entry for entry in published[series(metric)] if entry.minute not in lost]
    assert published[series(metric)][0].minute == first


def test_minute_that_is_missing_is_a_gap(published: Published) -> None:
    lose(published, "Temperature", 4, 5)
    lose(published, "EnergyConsumed", 4)

    outcome = fresh(published)

    assert outcome.passed is False
    assert outcome.reason == "2 series have gaps, Temperature misses 2 minutes from 10:04 on"


def test_minute_of_an_outage_is_no_gap(published: Published) -> None:
    lose(published, "Temperature", 4, 5)

    def outage(begin: float, end: float) -> list[checks.Outage]:
        return [(BEGAN + begin * PERIOD, BEGAN + end * PERIOD)]

    assert fresh(published, outages=outage(4.9, 5.1)).passed is True
    assert fresh(published, outages=outage(5.1, 5.2)).passed is False
    assert fresh(published, outages=outage(5.1, 5.2) + outage(4.1, 4.2)).passed is True


def test_reading_that_slipped_into_the_next_minute_is_no_gap(published: Published) -> None:
    lose(published, "EnergyConsumed", 4)
    after = next(entry for entry in published[series("EnergyConsumed")] if entry.minute == BEGAN + 5 * PERIOD)
    published[series("EnergyConsumed")].remove(after)
    published[series("EnergyConsumed")].append(replace(after, count=2))
    published[series("EnergyConsumed")].sort(key=lambda entry: entry.minute)
    assert fresh(published).passed is True

    lose(published, "Temperature", 4)  # sixty readings cannot slip
    assert fresh(published).passed is False


def test_what_is_read_every_five_minutes_has_no_gaps_and_is_fresh_longer(published: Published) -> None:
    rare = {entry: replace(promise, read_seconds=300.0) for entry, promise in EVERYTHING.items()}
    seldom: Published = {entry: [minutes[1], minutes[6]] for entry, minutes in published.items()}

    def seen(now: datetime) -> Check:
        return checks.datapoints_are_fresh(rare, seldom, now=now, running_since=BEGAN)

    assert seen(BEGAN + timedelta(minutes=16)).passed is True
    assert seen(BEGAN + timedelta(minutes=19)).passed is False


def test_metrics_that_began_long_after_the_service_are_late(published: Published) -> None:
    published[series("MemoryUsed", 0)] = published[series("MemoryUsed", 0)][4:]

    outcome = fresh(published)

    assert (outcome.passed, outcome.reason) == (False, "1 series began late, such as MemoryUsed")


def test_series_that_are_only_its_own_are_fine() -> None:
    outcome = checks.only_its_own_series({}, instance_id=INSTANCE_ID, builder_id="i-builder")
    assert (outcome.check_id, outcome.passed) == ("only_its_own_series", True)
    assert "i-builder" in outcome.reason

    outcome = checks.only_its_own_series({}, instance_id=INSTANCE_ID, builder_id="")
    assert outcome.passed is True
    assert "is not known" in outcome.reason


def test_series_of_the_builder_are_named_as_such(published: Published) -> None:
    builders = dict.fromkeys(series_of(promised()[:1], "i-builder", gpus(2)), published[GPUMON_FIRST])

    outcome = checks.only_its_own_series(builders, instance_id=INSTANCE_ID, builder_id="i-builder")

    assert outcome.passed is False
    assert outcome.reason == f"2 series carry i-builder, which baked the image, instead of {INSTANCE_ID}"
    assert outcome.evidence["instance_ids"] == ["i-builder"]


GPUMON_FIRST = next(iter(GPUMON))
FAULTS: list[Callable[[Published], None]] = [
    lambda published: published.clear(),
    lambda published: published.update({entry: [] for entry in list(published)[:50]}),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_evidence_is_json_and_small(published: Published, fault: Callable[[Published], None]) -> None:
    fault(published)
    outcomes = [
        arrive(published),
        fresh(published, now=NOW + timedelta(hours=1), outages=[(BEGAN, NOW)]),
        checks.datapoints_are_plausible(EVERYTHING, published),
        checks.agent_metrics_arrive(AGENT, published),
        checks.only_its_own_series(published, instance_id="i-other", builder_id=""),
    ]

    assert max(len(json.dumps(outcome.evidence)) for outcome in outcomes) < 10_000
    assert all(0 < len(outcome.reason) < 600 for outcome in outcomes)
