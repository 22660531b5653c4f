"""Series that carry another instance's id: of whoever baked the image, or of this instance's GPUs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from gpunodes.proof.datapoints import DatapointReader, Published, Series, floor_minute


def foreign_series(
    reader: DatapointReader, telling: Iterable[Series], *, instance_id: str, builder_id: str, since: datetime
) -> Published:
    """What CloudWatch has since a moment under the builder's id, or of these GPUs under any other.

    Args:
        reader: of the account.
        telling: series of the instance, one for each set of dimensions (`one_of_each`): gpumon, and the agent, put the
            same id to all that they send.
        instance_id: the instance.
        builder_id: which instance baked the image; empty where nobody knows.
        since: when the instance was launched, UTC.

    Raises:
        AwsError: CloudWatch refused or did not answer.
    """
    found: set[Series] = set()
    for series in telling:
        dimensions = dict(series.dimensions)
        if "GpuUuid" in dimensions:
            found.update(reader.series_named(series.namespace, series.metric, {"GpuUuid": dimensions["GpuUuid"]}))
        if builder_id:
            found.update(reader.series_named(series.namespace, series.metric, {"InstanceId": builder_id}))
            # Also asked for by all that it would have: CloudWatch lists new series late.
            found.add(Series.of(series.namespace, series.metric, dimensions | {"InstanceId": builder_id}))
    others = [series for series in found if dict(series.dimensions).get("InstanceId") != instance_id]
    published = {
        series: [minute for minute in minutes if minute.minute >= floor_minute(since)]
        for series, minutes in reader.read_minutes(others).items()
    }
    return {series: minutes for series, minutes in published.items() if minutes}
