"""What readers give and sinks take: plain frozen values. None = could not be read, 0 = zero."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Gpu:
    """One GPU of this host.

    Attributes:
        uuid: The driver's name for it, the same for ever (``GPU-...``).
        index: The driver's number for it; may change with the next driver start.
        name: Product name.
    """

    uuid: str
    index: int
    name: str


@dataclass(frozen=True)
class GpuSample:
    """The values of one GPU at one moment, by reader name (see ``metrics.toml``)."""

    gpu: Gpu
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class Sample:
    """What was read at one moment.

    Attributes:
        unix_seconds: Wall-clock time of the reading.
        gpus: One entry per known GPU; a GPU that is lost has None for every value.
        host: Values of the host as a whole, by reader name.
    """

    unix_seconds: float
    gpus: tuple[GpuSample, ...]
    host: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Datum:
    """One metric of one GPU (or of the host, if `gpu` is None) over one period.

    Attributes:
        metric: CloudWatch name.
        unit: CloudWatch StandardUnit.
        gpu: The GPU, or None for a metric of the host.
        unix_seconds: Start of the period that it describes.
        values: Different values, ascending.
        counts: How often each of `values` was seen; same length.
    """

    metric: str
    unit: str
    gpu: Gpu | None
    unix_seconds: int
    values: tuple[float, ...]
    counts: tuple[int, ...]


Batch = tuple[Datum, ...]  # what goes out in one call
