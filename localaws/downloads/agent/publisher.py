"""Sends datapoints to CloudWatch with PutMetricData; the only module that imports botocore."""

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

log = logging.getLogger(__name__)

DATA_PER_CALL = 1000  # PutMetricData's limit
HELD_AT_MOST = 10_000


@dataclass(frozen=True)
class Datum:
    """One datapoint."""

    name: str
    value: float
    unit: str
    dimensions: Mapping[str, str]
    time: datetime


class Sink(Protocol):
    """Takes datapoints of one namespace."""

    def put(self, namespace: str, data: Sequence[Datum]) -> None:
        """Deliver all or raise OSError."""


class CloudWatch:
    """PutMetricData through botocore: endpoint and credentials as in any SDK program.

    Args:
        region: AWS region.
        endpoint: URL or host name in place of what the SDK finds (`endpoint_override` of the configuration).
    """

    def __init__(self, region: str, endpoint: str | None = None) -> None:
        url = f"https://{endpoint}" if endpoint and "://" not in endpoint else endpoint
        self._client: Any = botocore.session.get_session().create_client(
            "cloudwatch",
            region_name=region,
            endpoint_url=url,
            config=Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}),
        )

    def put(self, namespace: str, data: Sequence[Datum]) -> None:
        """Deliver up to `DATA_PER_CALL` datapoints.

        Raises:
            OSError: CloudWatch, or the way to it, refused them.
        """
        try:
            self._client.put_metric_data(Namespace=namespace, MetricData=[_as_request(datum) for datum in data])
        except (BotoCoreError, ClientError) as error:
            raise OSError(str(error)) from error


class Publisher:
    """Holds datapoints until they are delivered, the oldest given up first when there are too many."""

    def __init__(self, sink: Sink, namespace: str) -> None:
        self._sink = sink
        self._namespace = namespace
        self._held: deque[Datum] = deque(maxlen=HELD_AT_MOST)

    def add(self, data: Sequence[Datum]) -> None:
        """Hold datapoints for the next flush."""
        self._held.extend(data)

    def flush(self) -> bool:
        """Deliver everything that is held; what fails stays for the next time."""
        while self._held:
            batch = [self._held[index] for index in range(min(DATA_PER_CALL, len(self._held)))]
            try:
                self._sink.put(self._namespace, batch)
            except OSError as error:
                log.error("E! cannot publish %d datapoints, will try again: %s", len(self._held), error)  # noqa: TRY400
                return False
            for _ in batch:
                self._held.popleft()
            log.info("I! published %d datapoints to %s", len(batch), self._namespace)
        return True


def _as_request(datum: Datum) -> dict[str, Any]:
    return {
        "MetricName": datum.name,
        "Value": datum.value,
        "Unit": datum.unit,
        "Timestamp": datum.time,
        "Dimensions": [{"Name": name, "Value": value} for name, value in sorted(datum.dimensions.items())],
    }
