"""Writes one JSON line per GPU, MIG instance or host and period, for whatever reads standard output (journald, a pipe).

It writes to the file descriptor itself, in pieces that it was told can be taken: a reader that does not read must not
hold up the end of the process, as it would through the buffers of `sys.stdout`.
"""

from __future__ import annotations

import json
import math
import os
import select
from collections import deque
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from gpumon.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpumon.samples import Batch, Datum, Gpu

STANDARD_OUTPUT = 1
READER_SECONDS = 5.0
MOST_COMPLETED = 16  # batches whose failure was reported and that were written to their end after that


class JsonLinesSink:
    """A `Sink` that writes to one file descriptor."""

    def __init__(self, descriptor: int = STANDARD_OUTPUT, reader_seconds: float = READER_SECONDS) -> None:
        """Make a sink.

        Args:
            descriptor: Where to write.
            reader_seconds: How long the reader may take none of it.
        """
        self._descriptor = descriptor
        self._reader_seconds = reader_seconds
        # A batch of which the reader has a part already goes on where it stopped, lest a line is cut or comes twice.
        self._begun: Batch = ()
        self._rest = memoryview(b"")
        self._completed: deque[Batch] = deque(maxlen=MOST_COMPLETED)

    def open(self) -> None:
        """Do nothing: there is nothing to get."""

    def calls(self, datums: Sequence[Datum]) -> Iterator[Batch]:
        """Put all datums into one batch."""
        if datums:
            yield tuple(datums)

    def publish(self, batch: Batch) -> None:
        """Write one line for each GPU, MIG instance or host and period of `batch`.

        Raises:
            DeliveryError: The reader is gone, or takes nothing.
        """
        if self._rest:
            self._write_rest()
            self._completed.append(self._begun)
        if batch in self._completed:
            self._completed.remove(batch)
            return
        text = "".join(_lines(batch)).encode()
        self._begun, self._rest = batch, memoryview(text)
        try:
            self._write_rest()
        except DeliveryError:
            if len(self._rest) == len(text):
                self._rest = memoryview(b"")
            raise

    def _write_rest(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while self._rest:
            if not poll.poll(self._reader_seconds * 1000):
                raise DeliveryError("Read standard output: nobody takes what gpumon writes to it.")
            try:
                # A pipe that is ready takes this much without waiting (POSIX).
                count = os.write(self._descriptor, self._rest[: select.PIPE_BUF])
            except OSError as error:
                raise DeliveryError(f"Give gpumon a standard output that it can write to: {error.strerror}.") from error
            self._rest = self._rest[count:]


def _lines(batch: Batch) -> Iterator[str]:
    groups: dict[tuple[Gpu | None, int], list[Datum]] = {}
    for datum in batch:
        groups.setdefault((datum.gpu, datum.unix_seconds), []).append(datum)
    for (gpu, start), datums in groups.items():
        metrics = {datum.metric: summary for datum in datums if (summary := _summary(datum))}
        document = {
            "time": datetime.fromtimestamp(start, tz=timezone.utc).isoformat().replace("+00:00", "Z"),
            "period_start_unix_seconds": start,
            "gpu": gpu and _gpu(gpu),
            "metrics": metrics,
        }
        yield json.dumps(document, separators=(",", ":")) + "\n"


def _gpu(gpu: Gpu) -> dict[str, object]:
    described: dict[str, object] = {"index": gpu.index, "uuid": gpu.uuid, "name": gpu.name}
    if gpu.pci_bus_id:
        described["pci_bus_id"] = gpu.pci_bus_id
    if gpu.mig is not None:
        described["mig"] = {
            "gpu_instance_id": gpu.mig.gpu_instance_id,
            "profile": gpu.mig.profile,
            "uuid": gpu.mig.uuid,
        }
    return described


def _summary(datum: Datum) -> dict[str, object] | None:
    """Return unit, minimum, maximum, mean, sum and count, or None if there is no value that JSON can have."""
    if not datum.values or not all(map(math.isfinite, datum.values)):
        return None
    least, most = min(datum.values), max(datum.values)
    total = math.fsum(value * count for value, count in zip(datum.values, datum.counts, strict=True))
    count = sum(datum.counts)
    mean = min(max(total / count, least), most)  # rounding must not put it outside
    return {"unit": datum.unit, "min": least, "max": most, "mean": mean, "sum": total, "count": count}
