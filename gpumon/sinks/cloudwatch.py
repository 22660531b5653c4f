"""Publishes to Amazon CloudWatch: one PutMetricData call for the whole host."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mypy_boto3_cloudwatch.type_defs import DimensionTypeDef, MetricDatumTypeDef

    from gpumon.identity import InstanceIdentity
    from gpumon.samples import Batch, Datum

# Limits of PutMetricData (API reference); values per datum are window.py's part.
MAX_DATUMS_PER_CALL = 1000
MAX_CALL_BYTES = 950_000  # of 1,000,000 before compression; the rest is for what the estimate below misses

# The longest of botocore's three wire formats is Query, whose every value and count has a name like
# "MetricData.member.100.Values.member.100="; names, dimensions, unit and timestamp take the rest.
_DATUM_BYTES = 1100
_VALUE_BYTES = 110

log = logging.getLogger(__name__)


class MetricDataClient(Protocol):
    """The one call of boto3's CloudWatch client that is used."""

    def put_metric_data(self, *, Namespace: str, MetricData: Sequence[MetricDatumTypeDef]) -> object:  # noqa: N803 - boto3's names
        """Call PutMetricData."""


class CloudWatchSink:
    """Delivers datums to one namespace, under the identity of this instance."""

    def __init__(
        self,
        namespace: str,
        region: str,
        find_identity: Callable[[], InstanceIdentity],
        make_client: Callable[[str], MetricDataClient] | None = None,
    ) -> None:
        """Make a sink; nothing is asked or loaded before `open`.

        Args:
            namespace: CloudWatch namespace.
            region: AWS Region; empty: the one of the identity.
            find_identity: Called until it succeeds once; raises IdentityUnavailableError.
            make_client: Region -> client; None: boto3's.
        """
        self._namespace = namespace
        self._region = region
        self._find_identity = find_identity
        self._make_client = make_client
        self._identity: InstanceIdentity | None = None
        self._client: MetricDataClient | None = None

    def open(self) -> None:
        """Find out who this host is and make the client, each once.

        Raises:
            IdentityUnavailableError: The metadata service does not say who this host is.
            DeliveryError: No client can be made (no such Region, for one).
        """
        self._ready()

    def calls(self, datums: Sequence[Datum]) -> Iterator[Batch]:
        """Divide `datums` into batches within the limits of one call."""
        batch: list[Datum] = []
        size = 0
        for datum in datums:
            more = _DATUM_BYTES + _VALUE_BYTES * len(datum.values)
            if batch and (len(batch) == MAX_DATUMS_PER_CALL or size + more > MAX_CALL_BYTES):
                yield tuple(batch)
                batch, size = [], 0
            batch.append(datum)
            size += more
        if batch:
            yield tuple(batch)

    def publish(self, batch: Batch) -> None:
        """Make one PutMetricData call.

        Raises:
            RefusedError: CloudWatch found the request invalid.
            DeliveryError: The call failed in a way that another try may mend.
        """
        from gpumon import aws  # noqa: PLC0415 - boto3 is slow to import and GPUs are sampled meanwhile

        identity, client = self._ready()
        data = [_metric_datum(datum, identity.instance_id) for datum in batch]
        try:
            client.put_metric_data(Namespace=self._namespace, MetricData=data)
        except aws.AWS_ERRORS as error:
            if isinstance(error, aws.CREDENTIAL_ERRORS):
                self._client = None  # this client would go on without credentials when the role has come
            raise aws.delivery_error(error) from error

    def _ready(self) -> tuple[InstanceIdentity, MetricDataClient]:
        from gpumon import aws  # noqa: PLC0415 - see publish

        if self._identity is None:
            self._identity = self._find_identity()
            log.info(
                "this is %s (%s, %s)", self._identity.instance_id, self._identity.instance_type, self._identity.image_id
            )
        if self._client is None:
            region = self._region or self._identity.region
            try:
                self._client = (self._make_client or aws.make_cloudwatch_client)(region)
            except (*aws.AWS_ERRORS, ValueError) as error:  # ValueError: a URL of the environment that is none
                raise aws.delivery_error(error) from error
        return self._identity, self._client


def _metric_datum(datum: Datum, instance_id: str) -> MetricDatumTypeDef:
    dimensions: list[DimensionTypeDef] = [{"Name": "InstanceId", "Value": instance_id}]
    if datum.gpu is not None:
        dimensions.append({"Name": "GpuIndex", "Value": str(datum.gpu.index)})
        dimensions.append({"Name": "GpuUuid", "Value": datum.gpu.uuid})
    return {
        "MetricName": datum.metric,
        "Dimensions": dimensions,
        "Timestamp": datetime.fromtimestamp(datum.unix_seconds, tz=timezone.utc),
        "Values": datum.values,
        "Counts": datum.counts,
        "Unit": datum.unit,  # type: ignore[typeddict-item]  # metrics.py has checked it
    }
