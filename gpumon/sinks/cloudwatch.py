"""Publishes to Amazon CloudWatch: one PutMetricData call for the whole host.

CloudWatch refuses a whole call for one datum that breaks a rule, so every datum is made to keep the rules, or left out,
before it is kept for delivery.
"""

from __future__ import annotations

import logging
import math
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol

from gpumon.metrics import STANDARD_UNITS
from gpumon.window import MAX_VALUES_PER_DATUM

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

    from mypy_boto3_cloudwatch.type_defs import DimensionTypeDef, MetricDatumTypeDef

    from gpumon.identity import InstanceIdentity
    from gpumon.samples import Batch, Datum, Gpu

# Limits of PutMetricData (API reference).
MAX_DATUMS_PER_CALL = 1000
MAX_CALL_BYTES = 950_000  # of 1,000,000 before compression; the rest is for what the estimate below misses
MAX_VALUE = 2.0**360
MAX_METRIC_LENGTH = 255
MAX_DIMENSION_LENGTH = 1024
LATEST_UNIX_SECONDS = 253_402_300_799  # the year 9999, beyond which datetime has nothing

# What a datum takes in JSON, which botocore has chosen of its three formats since 1.42.7; CBOR is shorter. An older one
# writes Query, where this is too little for a few hundred datums of 60 values: such a call is refused and halved.
_DATUM_BYTES = 600  # keys, unit, timestamp, instance; name and GPU come on top
_VALUE_BYTES = 34  # "-1.2345678901234567e+108," and "36000.0,"

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
        legacy_names: Container[str] = (),
    ) -> None:
        """Make a sink; nothing is asked or loaded before `open`.

        Args:
            namespace: CloudWatch namespace.
            region: AWS Region; empty: the one of the identity.
            find_identity: Called until it succeeds once; raises IdentityUnavailableError.
            make_client: Region -> client; None: boto3's.
            legacy_names: Metrics that go out with the dimensions of AWS's gpumon.py.
        """
        self._namespace = namespace
        self._region = region
        self._find_identity = find_identity
        self._make_client = make_client
        self._legacy_names = legacy_names
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
        """Divide `datums` into batches within the limits of one call; leave out what CloudWatch could never take."""
        batch: list[Datum] = []
        size = 0
        for datum in datums:
            if (fault := _fault(datum)) is not None:
                log.error("metric %r is left out for one period: %s", datum.metric, fault)
                continue
            more = _request_bytes(datum)
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
        owners = {(datum.gpu, datum.metric in self._legacy_names) for datum in batch}
        dimensions = {owner: _dimensions(*owner, identity) for owner in owners}
        data = [_metric_datum(datum, dimensions[datum.gpu, datum.metric in self._legacy_names]) for datum in batch]
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


def _request_bytes(datum: Datum) -> int:
    gpu = datum.gpu
    names = len(datum.metric) + (len(gpu.uuid) + len(gpu.mig.profile if gpu.mig else "") if gpu else 0)
    return _DATUM_BYTES + names + _VALUE_BYTES * len(datum.values)


def _fault(datum: Datum) -> str | None:
    """Say why CloudWatch would refuse a call with this datum, or None."""
    least, most = min(datum.values, default=math.nan), max(datum.values, default=math.nan)
    faults = {
        "its name is no 1 to 255 printable ASCII characters": not 0 < len(datum.metric.strip()) <= MAX_METRIC_LENGTH
        or not (datum.metric.isascii() and datum.metric.isprintable()),
        "CloudWatch has no such unit": datum.unit not in STANDARD_UNITS,
        "it has no time": not 0 <= datum.unix_seconds <= LATEST_UNIX_SECONDS,
        "it has no values, or too many": not 0 < len(datum.values) <= MAX_VALUES_PER_DATUM,
        "a value is no number, or too large": not (-MAX_VALUE <= least <= most <= MAX_VALUE)
        or not all(map(math.isfinite, datum.values)),
        "its counts are not those of its values": len(datum.counts) != len(datum.values)
        or not 0 < min(datum.counts, default=0) <= max(datum.counts, default=0) <= MAX_VALUE,
    }
    return next((words for words, is_so in faults.items() if is_so), None)


def _dimensions(gpu: Gpu | None, is_legacy: bool, identity: InstanceIdentity) -> list[DimensionTypeDef]:
    values = {"InstanceId": identity.instance_id}
    if gpu is not None and is_legacy:
        values |= {"ImageId": identity.image_id, "InstanceType": identity.instance_type, "GPUNumber": str(gpu.index)}
    elif gpu is not None:
        values |= {"GpuIndex": str(gpu.index), "GpuUuid": gpu.uuid}
        if gpu.mig is not None:
            values |= {"GpuInstanceId": str(gpu.mig.gpu_instance_id), "GpuInstanceProfile": gpu.mig.profile}
    return [{"Name": name, "Value": _dimension_value(value)} for name, value in values.items()]


def _dimension_value(text: str) -> str:
    """Return the nearest text that CloudWatch takes: printable ASCII, not blank, at most 1024 characters."""
    ascii_text = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)
    return ascii_text.strip()[:MAX_DIMENSION_LENGTH] or "unknown"


def _metric_datum(datum: Datum, dimensions: list[DimensionTypeDef]) -> MetricDatumTypeDef:
    data: MetricDatumTypeDef = {
        "MetricName": datum.metric,
        "Dimensions": dimensions,
        "Timestamp": datetime.fromtimestamp(datum.unix_seconds, tz=timezone.utc),
        "Values": datum.values,
        "Unit": datum.unit,  # type: ignore[typeddict-item]  # one of STANDARD_UNITS
    }
    if any(count != 1 for count in datum.counts):  # without counts each is 1, and half of the request is spared
        data["Counts"] = datum.counts
    return data
