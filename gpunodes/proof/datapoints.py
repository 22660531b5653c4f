"""Datapoints of an instance, read back from CloudWatch (GetMetricData, GetMetricStatistics, ListMetrics)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from gpunodes.aws import Clients
from gpunodes.errors import AwsError
from gpunodes.proof.throttling import patiently

PERIOD_SECONDS = 60
_QUERIES_PER_CALL = 500  # limit of GetMetricData
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 5.0
T = TypeVar("T")

# A clock that is wrong puts datapoints where nobody looks: CloudWatch takes them up to two hours ahead.
_CLOCK_MARGIN = timedelta(hours=3)
_READING = "reading datapoints from CloudWatch"
_READ = frozenset({"Complete", "PartialData"})  # the rest of PartialData is on a later page


@dataclass(frozen=True)
class Series:
    """One metric with its dimensions: what CloudWatch bills, and what either arrived or did not.

    Attributes:
        namespace: e.g. `GPU`.
        metric: its name.
        dimensions: name and value pairs, sorted by name.
    """

    namespace: str
    metric: str
    dimensions: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, namespace: str, metric: str, dimensions: Mapping[str, str]) -> Series:
        """A series from a mapping of dimensions."""
        return cls(namespace, metric, tuple(sorted(dimensions.items())))

    def __str__(self) -> str:
        described = ", ".join(f"{name}={value}" for name, value in self.dimensions)
        return f"{self.namespace} {self.metric} ({described})"


@dataclass(frozen=True)
class Datapoint:
    """One statistic of one minute.

    Attributes:
        minute: its start, UTC.
        value: in the metric's unit.
    """

    minute: datetime
    value: float


Readings = dict[Series, list[Datapoint]]


@dataclass(frozen=True)
class Minute:
    """All that a minute holds: of one unit of a series in CloudWatch, or of a value that was read on the instance.

    Attributes:
        minute: its start, UTC.
        minimum: of its samples.
        maximum: of them.
        average: of them.
        count: how many they are.
        unit: a CloudWatch StandardUnit; empty for what was read on the instance.
    """

    minute: datetime
    minimum: float
    maximum: float
    average: float
    count: float
    unit: str = ""


Published = dict[Series, list[Minute]]


def floor_minute(moment: datetime) -> datetime:
    """The start of the minute: CloudWatch files standard resolution datapoints under it."""
    return moment.replace(second=0, microsecond=0)


class DatapointReader:
    """Reads what arrived since a moment."""

    def __init__(
        self,
        clients: Clients,
        since: datetime,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Make a reader.

        Args:
            clients: of the target.
            since: UTC; nothing older is read.
            now: UTC clock.
            wait: sleeps for so many seconds.
        """
        self._clients = clients
        self._since = floor_minute(since)
        self._now = now
        self._wait = wait

    def read(self, series: Iterable[Series], statistic: str) -> Readings:
        """Every datapoint of the series, oldest first.

        Args:
            series: which; a series without any datapoint gets an empty list.
            statistic: Minimum, Maximum, Average, Sum or SampleCount.

        Raises:
            AwsError: CloudWatch refused or did not answer.
        """
        wanted = list(series)
        readings: Readings = {}
        for begin in range(0, len(wanted), _QUERIES_PER_CALL):
            readings.update(self._read_call(wanted[begin : begin + _QUERIES_PER_CALL], statistic))
        return readings

    def wait_for(
        self,
        series: Sequence[Series],
        statistic: str,
        arrived: Callable[[Readings], bool],
        patience_seconds: float,
    ) -> Readings:
        """Read ever more slowly until `arrived` says so or the patience ends; return the last reading."""
        deadline = self._now() + timedelta(seconds=patience_seconds)
        pause = _FIRST_PAUSE_SECONDS
        while True:
            readings = self.read(series, statistic)
            if arrived(readings) or self._now() >= deadline:
                return readings
            self._wait(pause)
            pause = min(pause * 1.2, _LONGEST_PAUSE_SECONDS)

    def wait_for_minutes(
        self,
        wanted: Callable[[], Iterable[Series]],
        arrived: Callable[[Published], bool],
        patience_seconds: float,
    ) -> None:
        """As `wait_for`, with `read_minutes`, of the series that are still wanted."""
        deadline = self._now() + timedelta(seconds=patience_seconds)
        pause = _FIRST_PAUSE_SECONDS
        while not arrived(self.read_minutes(list(wanted()))) and self._now() < deadline:
            self._wait(pause)
            pause = min(pause * 1.2, _LONGEST_PAUSE_SECONDS)

    def read_minutes(self, series: Iterable[Series]) -> Published:
        """Every minute of the series with all that it holds, in whatever unit, oldest first.

        Three hours before and after are looked at, too, for an instance whose clock is wrong. GetMetricStatistics: it
        tells the unit of what it found, and all statistics at once, which takes five queries of GetMetricData.

        Args:
            series: which; a series without any datapoint gets an empty list.

        Raises:
            AwsError: CloudWatch refused or did not answer.
        """
        return {entry: self._minutes_of(entry) for entry in series}

    def series_named(self, namespace: str, metric: str, dimensions: Mapping[str, str]) -> set[Series]:
        """The series of a metric that have these dimensions among theirs, and a datapoint in the last three hours.

        CloudWatch lists a new one up to a quarter of an hour late. The offline cloud lists older ones, too.

        Args:
            namespace: e.g. `GPU`.
            metric: its name.
            dimensions: name and value.

        Raises:
            AwsError: CloudWatch refused or did not answer.
        """
        arguments = {
            "Namespace": namespace,
            "MetricName": metric,
            "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
            "RecentlyActive": "PT3H",
        }
        pages = self._clients.cloudwatch.get_paginator("list_metrics")
        return {
            Series.of(found["Namespace"], found["MetricName"], _by_name(found["Dimensions"]))
            for page in self._patiently("listing the metrics of CloudWatch", lambda: list(pages.paginate(**arguments)))
            for found in page["Metrics"]
        }

    def _patiently(self, doing: str, call: Callable[[], T]) -> T:
        return patiently(doing, call, now=self._now, wait=self._wait)

    def _minutes_of(self, series: Series) -> list[Minute]:
        answer = self._patiently(
            _READING,
            lambda: self._clients.cloudwatch.get_metric_statistics(
                **_metric(series),
                StartTime=self._since - _CLOCK_MARGIN,
                EndTime=self._now() + _CLOCK_MARGIN,
                Period=PERIOD_SECONDS,
                Statistics=["Minimum", "Maximum", "Average", "SampleCount"],
            ),
        )
        found = [
            Minute(
                floor_minute(point["Timestamp"].astimezone(UTC)),
                point["Minimum"],
                point["Maximum"],
                point["Average"],
                point["SampleCount"],
                point["Unit"],
            )
            for point in answer["Datapoints"]
        ]
        return sorted(found, key=lambda minute: (minute.minute, minute.unit))

    def _read_call(self, series: list[Series], statistic: str) -> Readings:
        readings: Readings = {entry: [] for entry in series}
        queries = [_query(number, entry, statistic) for number, entry in enumerate(series)]
        arguments = {
            "MetricDataQueries": queries,
            "StartTime": self._since,
            "EndTime": self._now() + timedelta(seconds=PERIOD_SECONDS),
            "ScanBy": "TimestampAscending",
        }
        pages = self._clients.cloudwatch.get_paginator("get_metric_data")
        for page in self._patiently(_READING, lambda: list(pages.paginate(**arguments))):
            for result in page["MetricDataResults"]:
                entry = series[int(result["Id"][1:])]
                if result["StatusCode"] not in _READ:
                    raise AwsError(f"CloudWatch did not read {entry} ({result['StatusCode']}); try again.")
                moments = [moment.astimezone(UTC) for moment in result["Timestamps"]]
                readings[entry] += map(Datapoint, moments, result["Values"])
        return readings


def _query(number: int, series: Series, statistic: str) -> dict[str, Any]:
    return {
        "Id": f"q{number}",
        "MetricStat": {
            "Metric": _metric(series),
            "Period": PERIOD_SECONDS,
            "Stat": statistic,
        },
        "ReturnData": True,
    }


def _metric(series: Series) -> dict[str, Any]:
    return {
        "Namespace": series.namespace,
        "MetricName": series.metric,
        "Dimensions": [{"Name": name, "Value": value} for name, value in series.dimensions],
    }


def _by_name(dimensions: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {entry["Name"]: entry["Value"] for entry in dimensions}
