from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpunodes.aws import Clients
from gpunodes.errors import AwsError
from gpunodes.proof.datapoints import (
    Datapoint,
    DatapointReader,
    Minute,
    Readings,
    Series,
    floor_minute,
)
from tests.gpunodes import fakes
from tests.gpunodes.fakes import INSTANCE_ID, FakeClock, memory_series

# CloudWatch takes datapoints of the last two weeks; moto keeps them by its own clock.
MINUTE = floor_minute(datetime.now(UTC)) - timedelta(minutes=10)
SERIES = memory_series(0)


def put(
    clients: Clients,
    series: Series,
    minute: datetime,
    values: Sequence[float],
    counts: Sequence[float],
    *,
    unit: str = "Bytes",
) -> None:
    dimensions = [{"Name": name, "Value": value} for name, value in series.dimensions]
    datum: dict[str, Any] = {
        "MetricName": series.metric,
        "Dimensions": dimensions,
        "Timestamp": minute,
        "Values": list(values),
        "Counts": list(counts),
        "Unit": unit,
    }
    clients.cloudwatch.put_metric_data(Namespace=series.namespace, MetricData=[datum])


def reader(clients: Clients, clock: FakeClock | None = None, since: datetime = MINUTE) -> DatapointReader:
    passing = clock or FakeClock()
    begin = passing.now
    return DatapointReader(
        clients,
        since,
        now=lambda: MINUTE + timedelta(minutes=5, seconds=passing.now - begin),
        wait=passing.wait,
    )


def test_series_is_written_for_people_and_its_dimensions_have_no_order() -> None:
    series = Series.of("GPU", "MemoryUsed", {"b": "2", "a": "1"})

    assert series == Series.of("GPU", "MemoryUsed", {"a": "1", "b": "2"})
    assert str(series) == "GPU MemoryUsed (a=1, b=2)"


def test_minimum_and_maximum_of_values_and_counts_are_read_back(clients: Clients) -> None:
    put(clients, SERIES, MINUTE, [5.0, 7.0, 3.0], [10, 1, 2])
    put(clients, SERIES, MINUTE + timedelta(minutes=1), [100.0], [60])

    assert reader(clients).read([SERIES], "Minimum")[SERIES] == [
        Datapoint(MINUTE, 3.0),
        Datapoint(MINUTE + timedelta(minutes=1), 100.0),
    ]
    assert reader(clients).read([SERIES], "Maximum")[SERIES] == [
        Datapoint(MINUTE, 7.0),
        Datapoint(MINUTE + timedelta(minutes=1), 100.0),
    ]


def test_first_minute_counts_from_its_start(clients: Clients) -> None:
    put(clients, SERIES, MINUTE, [1.0], [1])

    assert reader(clients, since=MINUTE + timedelta(seconds=59)).read([SERIES], "Minimum")[SERIES]


def test_older_minutes_are_not_read(clients: Clients) -> None:
    put(clients, SERIES, MINUTE - timedelta(minutes=1), [1.0], [1])

    assert reader(clients).read([SERIES], "Minimum") == {SERIES: []}


def test_series_with_other_dimensions_is_another_series(clients: Clients) -> None:
    put(clients, memory_series(0, "i-other"), MINUTE, [1.0], [1])
    put(clients, memory_series(1), MINUTE, [1.0], [1])

    assert reader(clients).read([SERIES], "Minimum") == {SERIES: []}


def test_more_series_than_one_call_takes_are_read_in_several(clients: Clients) -> None:
    many = [memory_series(index) for index in range(503)]
    put(clients, many[0], MINUTE, [1.0], [1])
    put(clients, many[502], MINUTE, [2.0], [1])

    readings = reader(clients).read(many, "Maximum")

    assert list(readings) == many
    assert {series: points for series, points in readings.items() if points} == {
        many[0]: [Datapoint(MINUTE, 1.0)],
        many[502]: [Datapoint(MINUTE, 2.0)],
    }


def test_no_series_asks_nothing() -> None:
    nobody = Clients(fakes.target("http://127.0.0.1:1"))

    assert reader(nobody).read([], "Minimum") == {}


def test_cloudwatch_that_refuses_is_an_error_of_ours(clients: Clients) -> None:
    # An empty time range: the clock stands before the moment from which datapoints are wanted.
    late = DatapointReader(clients, MINUTE, now=lambda: MINUTE - timedelta(hours=1))

    with pytest.raises(AwsError, match="AWS refused while reading datapoints from CloudWatch"):
        late.read([SERIES], "Minimum")


@pytest.mark.parametrize("status", ["InternalError", "Forbidden"])
def test_series_that_cloudwatch_could_not_read_is_an_error_and_not_empty(status: str) -> None:
    class Answer:
        def get_paginator(self, _name: str) -> Answer:
            return self

        def paginate(self, **_arguments: Any) -> list[dict[str, Any]]:
            return [{"MetricDataResults": [{"Id": "q0", "StatusCode": status, "Timestamps": [], "Values": []}]}]

    nobody = Clients(fakes.target("http://127.0.0.1:1"))
    nobody.__dict__["cloudwatch"] = Answer()  # what is made once and kept

    with pytest.raises(AwsError, match=f"CloudWatch did not read GPU MemoryUsed .*{status}"):
        reader(nobody).read([SERIES], "Minimum")


def test_waiting_ends_when_datapoints_have_arrived(clients: Clients) -> None:
    clock = FakeClock()
    looks: list[Readings] = []

    def third_look(readings: Readings) -> bool:
        looks.append(readings)
        if len(looks) == 2:
            put(clients, SERIES, MINUTE, [4.0], [1])
        return bool(readings[SERIES])

    readings = reader(clients, clock).wait_for([SERIES], "Maximum", third_look, 60)

    assert readings == {SERIES: [Datapoint(MINUTE, 4.0)]}
    assert len(looks) == 3
    assert clock.waits == [0.5, 0.6]


def test_waiting_ends_with_the_patience_and_pauses_grow_to_five_seconds(clients: Clients) -> None:
    clock = FakeClock()

    readings = reader(clients, clock).wait_for([SERIES], "Maximum", lambda _readings: False, 60)

    assert readings == {SERIES: []}
    assert 60 <= sum(clock.waits) < 65
    assert clock.waits == sorted(clock.waits)
    assert clock.waits[0] == 0.5
    assert clock.waits[-1] == 5.0


def test_no_patience_looks_once(clients: Clients) -> None:
    clock = FakeClock()

    reader(clients, clock).wait_for([SERIES], "Maximum", lambda _readings: False, 0)

    assert clock.waits == []


def gpu_series(index: int, instance_id: str = INSTANCE_ID, metric: str = "MemoryUsed") -> Series:
    dimensions = {"InstanceId": instance_id, "GpuIndex": str(index), "GpuUuid": f"GPU-{index}"}
    return Series.of("GPU", metric, dimensions)


def test_minutes_have_all_statistics_and_the_unit(clients: Clients) -> None:
    put(clients, SERIES, MINUTE + timedelta(minutes=1), [100.0], [60])
    put(clients, SERIES, MINUTE, [5.0, 7.0, 3.0], [10, 1, 1], unit="Percent")

    assert reader(clients).read_minutes([SERIES, memory_series(1)]) == {
        SERIES: [
            Minute(MINUTE, 3.0, 7.0, 5.0, 12.0, "Percent"),
            Minute(MINUTE + timedelta(minutes=1), 100.0, 100.0, 100.0, 60.0, "Bytes"),
        ],
        memory_series(1): [],
    }


def test_minutes_of_a_clock_that_is_off_by_an_hour_are_seen(clients: Clients) -> None:
    for hours in (-1, 1):
        put(clients, SERIES, MINUTE + timedelta(hours=hours), [1.0], [1])

    found = reader(clients).read_minutes([SERIES])[SERIES]

    assert [minute.minute for minute in found] == [MINUTE - timedelta(hours=1), MINUTE + timedelta(hours=1)]


def test_moment_within_a_minute_belongs_to_it(clients: Clients) -> None:
    put(clients, SERIES, MINUTE + timedelta(seconds=17), [1.0], [1])

    assert [minute.minute for minute in reader(clients).read_minutes([SERIES])[SERIES]] == [MINUTE]


def test_minutes_that_cloudwatch_refuses_are_an_error_of_ours(clients: Clients) -> None:
    late = DatapointReader(clients, MINUTE, now=lambda: MINUTE - timedelta(hours=9))

    with pytest.raises(AwsError, match="AWS refused while reading datapoints from CloudWatch"):
        late.read_minutes([SERIES])


def test_series_are_listed_by_a_part_of_their_dimensions(clients: Clients) -> None:
    for series in (gpu_series(0), gpu_series(1), gpu_series(1, metric="PowerDraw"), gpu_series(1, "i-other")):
        put(clients, series, MINUTE, [1.0], [2])
    looking = reader(clients)

    assert looking.series_named("GPU", "MemoryUsed", {"GpuUuid": "GPU-1"}) == {gpu_series(1), gpu_series(1, "i-other")}
    assert looking.series_named("GPU", "MemoryUsed", {"InstanceId": "i-other"}) == {gpu_series(1, "i-other")}
    assert looking.series_named("CWAgent", "MemoryUsed", {"InstanceId": "i-other"}) == set()


def test_more_series_than_one_page_has_are_listed(clients: Clients) -> None:
    owner = {"Name": "InstanceId", "Value": "i-1"}
    data = [
        {"MetricName": "m", "Dimensions": [owner, {"Name": "n", "Value": str(index)}], "Value": 1.0}
        for index in range(501)
    ]
    clients.cloudwatch.put_metric_data(Namespace="GPU", MetricData=data)

    assert len(reader(clients).series_named("GPU", "m", {"InstanceId": "i-1"})) == 501
