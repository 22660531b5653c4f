"""The loop: collect each section when it is due, publish what was collected."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime

from .configuration import Collection, Configuration
from .measurements import Values, read
from .publisher import Datum, Publisher

log = logging.getLogger(__name__)

Reader = Callable[[Collection], Iterable[tuple[dict[str, str], Values]]]


class Service:
    """Collects and publishes; time comes in as an argument.

    The first collection is published at once, where the real agent waits up to `force_flush_interval`: an offline run
    need not wait a minute to see that metrics arrive.

    Args:
        configuration: what to collect.
        dimensions: on every datapoint.
        publisher: takes the datapoints.
        reader: reads one section.
    """

    def __init__(
        self, configuration: Configuration, dimensions: Mapping[str, str], publisher: Publisher, reader: Reader = read
    ) -> None:
        self._configuration = configuration
        self._dimensions = dimensions
        self._publisher = publisher
        self._reader = reader
        self._due = dict.fromkeys((item.section for item in configuration.collections), 0.0)
        self._flush_due = 0.0

    def tick(self, monotonic_seconds: float, now: datetime) -> float:
        """Do what is due and return the seconds until something is due again."""
        for collection in self._configuration.collections:
            if monotonic_seconds >= self._due[collection.section]:
                self._publisher.add(list(self._collect(collection, now)))
                self._due[collection.section] = monotonic_seconds + collection.interval_seconds
        if monotonic_seconds >= self._flush_due:
            self._publisher.flush()
            self._flush_due = monotonic_seconds + self._configuration.flush_seconds
        return max(0.0, min(self._flush_due, *self._due.values()) - monotonic_seconds)

    def stop(self) -> None:
        """Publish what is still held."""
        self._publisher.flush()

    def _collect(self, collection: Collection, now: datetime) -> Iterator[Datum]:
        try:
            found = list(self._reader(collection))
        except OSError as error:
            log.error("E! cannot read %s: %s", collection.section, error)  # noqa: TRY400
            return
        for own, values in found:
            dimensions = {**self._dimensions, **own, **collection.append_dimensions}
            for wanted in collection.measurements:
                yield Datum(wanted.name, values[wanted.field], wanted.unit, dimensions, now)
