"""Where datums go: one module per sink, each a `Sink`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gpumon.samples import Batch, Datum


class Sink(Protocol):
    """One place that datums are delivered to. Every call may take seconds; a thread of its own makes them."""

    def open(self) -> None:
        """Get everything that the first `publish` needs.

        Raises:
            DeliveryError: Something is missing yet; trying again later is right.
        """

    def calls(self, datums: Sequence[Datum]) -> Iterable[Batch]:
        """Divide `datums` into as few batches as the sink's limits allow; `publish` takes one of them.

        Datums that the sink could never take are left out, with a log line.
        """

    def publish(self, batch: Batch) -> None:
        """Deliver one batch, wholly or not at all.

        Raises:
            RefusedError: The sink will never take this batch as it is; without some of its datums it may.
            DeliveryError: It was not delivered; trying again later is right.
        """
