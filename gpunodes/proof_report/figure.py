"""A plot with its caption, and what all plots of a proof have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from gpunodes.proof_report import quantities
from gpunodes.proof_report.plots import Window
from gpunodes.proof_report.proof_document import LoadEntry, Points, SeriesEntry, moment

AVERAGE = "Average"
_MEMORY_READER = "memory_used_bytes"


@dataclass(frozen=True)
class Figure:
    """A plot with what stands above and under it.

    Attributes:
        title: the metric, or the GPU.
        figures: lowest to highest value, in words.
        svg: the plot.
        missing: labels of the lines without any datapoint.
        moves: whether any value ever changed, or a line has none.
        namespace: of the metric.
        description: of the metric.
    """

    title: str
    figures: str
    svg: Markup
    missing: Sequence[str] = ()
    moves: bool = True
    namespace: str = ""
    description: str = ""


def load_span(load: Sequence[LoadEntry], window: Window) -> tuple[datetime, datetime] | None:
    """From the first allocation on any GPU until the last is free."""
    begins = [at for entry in load for step in entry.steps if (at := moment(step.at))]
    if not begins:
        return None
    ends = [moment(entry.freed_at) or window.end for entry in load if entry.steps]
    return min(begins), max(*ends, min(begins))


def is_memory_used(entry: SeriesEntry) -> bool:
    """Whether it is the GPU memory that is published under its present name."""
    described = quantities.described_metrics().get(entry.metric, {})
    return described.get("reader") == _MEMORY_READER and described.get("tier") == "core"


def readings(points: Points) -> list[tuple[datetime, float]]:
    """In order; without those that have no value, for which a plot has a gap."""
    return sorted((at, value) for iso, value in points if value is not None and (at := moment(iso)))
