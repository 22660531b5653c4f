"""What readers give and sinks take: plain frozen values. None = could not be read, 0 = zero."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class MigInstance:
    """A GPU instance that MIG made of a part of a GPU.

    Attributes:
        gpu_instance_id: The driver's number for it, unique on its GPU (``GPU_I_ID``).
        profile: Its size, such as ``1g.5gb`` (``GPU_I_PROFILE``).
        uuid: The driver's name for it (``MIG-...``).
    """

    gpu_instance_id: int
    profile: str
    uuid: str


@dataclass(frozen=True)
class Gpu:
    """One GPU of this host, or one MIG instance of it.

    Attributes:
        uuid: The driver's name for the GPU, the same for ever (``GPU-...``); of a MIG instance: of the GPU it is on.
        index: The driver's number for it; may change with the next driver start.
        name: Product name.
        pci_bus_id: PCI address as NVML writes it (``00000000:00:1E.0``); "" if unknown.
        minor_number: Its device node is ``/dev/nvidia<minor_number>``; None if unknown.
        mig: The MIG instance, or None for the whole GPU.
    """

    uuid: str
    index: int
    name: str
    pci_bus_id: str = ""
    minor_number: int | None = None
    mig: MigInstance | None = None


@dataclass(frozen=True)
class GpuProcess:
    """A process that holds a context on a GPU.

    Attributes:
        pid: Its id, as the host sees it.
        name: Name of its program ("" if it cannot be read).
        memory_bytes: GPU memory that it holds; None where the driver does not say.
    """

    pid: int
    name: str
    memory_bytes: int | None


@dataclass(frozen=True)
class GpuSample:
    """What was read of one GPU (or MIG instance) at one moment.

    Attributes:
        gpu: Which one.
        values: By reader name (see ``metrics.toml``): only what was due. None: could not be read. A GPU that is lost
            has ``gpu_up`` = 0 and nothing else.
        bursts: Several values at once, by reader name: what the driver had sampled itself since the last reading.
        processes: Its processes, or None if they were not asked for.
    """

    gpu: Gpu
    values: Mapping[str, float | None]
    bursts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    processes: tuple[GpuProcess, ...] | None = None


@dataclass(frozen=True)
class Reading:
    """What one reading of the driver gave.

    Attributes:
        gpus: One entry per GPU that was ever seen by this reader, plus one per MIG instance, in the order of the index.
        driver_version: Version of the loaded driver, or None if it does not say.
        error_count: Calls that failed, other than for not being supported.
        counted: How many GPUs the driver says there are, whether it opens them or not.
    """

    gpus: tuple[GpuSample, ...]
    driver_version: str | None = None
    error_count: int = 0
    counted: int = 0


@dataclass(frozen=True)
class Sample:
    """What is known of the host at one moment.

    Attributes:
        unix_seconds: Wall-clock time of the reading.
        gpus: One entry per known GPU and MIG instance.
        host: Values of the host as a whole, by reader name.
        monotonic_seconds: Time of the reading on the clock that never steps.
    """

    unix_seconds: float
    gpus: tuple[GpuSample, ...]
    host: Mapping[str, float | None] = field(default_factory=dict)
    monotonic_seconds: float = 0.0


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
