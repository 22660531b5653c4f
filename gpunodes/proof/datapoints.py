"""Datapoints of an instance, read back from CloudWatch (GetMetricData)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gpunodes.aws import Clients, aws_errors

PERIOD_SECONDS = 60
_QUERIES_PER_CALL = 500  # limit of GetMetricData
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 5.0


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

    def _read_call(self, series: list[Series], statistic: str) -> Readings:
        readings: Readings = {entry: [] for entry in series}
        queries = [_query(number, entry, statistic) for number, entry in enumerate(series)]
        arguments = {
            "MetricDataQueries": queries,
            "StartTime": self._since,
            "EndTime": self._now() + timedelta(seconds=PERIOD_SECONDS),
            "ScanBy": "TimestampAscending",
        }
        with aws_errors("reading datapoints from CloudWatch"):
            for page in self._clients.cloudwatch.get_paginator("get_metric_data").paginate(**arguments):
                for result in page["MetricDataResults"]:
                    entry = series[int(result["Id"][1:])]
                    moments = [moment.astimezone(UTC) for moment in result["Timestamps"]]
                    readings[entry] += map(Datapoint, moments, result["Values"])
        return readings


def _query(number: int, series: Series, statistic: str) -> dict[str, Any]:
    return {
        "Id": f"q{number}",
        "MetricStat": {
            "Metric": {
                "Namespace": series.namespace,
                "MetricName": series.metric,
                "Dimensions": [{"Name": name, "Value": value} for name, value in series.dimensions],
            },
            "Period": PERIOD_SECONDS,
            "Stat": statistic,
        },
        "ReturnData": True,
    }
