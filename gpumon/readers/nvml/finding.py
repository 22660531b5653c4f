"""Finding GPUs: by index, UUID and PCI address, whichever the driver still answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pynvml

from gpumon.readers.nvml.codes import text
from gpumon.samples import Gpu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def gpus_by_index(count: int, failed: Callable[[str, Any], None]) -> Iterator[tuple[Gpu, Any]]:
    """Yield the GPUs with an index below `count`, each with its handle; one that fails hides no other.

    Args:
        count: How many indices are tried.
        failed: Is told what could not be opened, and NVML's error.
    """
    for index in range(count):
        try:
            by_index = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid = text(pynvml.nvmlDeviceGetUUID(by_index))
            # Indices move when a GPU drops out; the UUID and the PCI address do not.
            handle = _handle(uuid, _pci_bus_id(by_index)) or by_index
            gpu = _describe(handle, index)
        except pynvml.NVMLError as error:
            failed(f"index {index}", error)
            continue
        yield gpu, handle


def gpus_by_identity(wanted: Iterable[Gpu]) -> Iterator[tuple[Gpu, Any]]:
    """Yield those of `wanted` that answer under their UUID or PCI address, each with its handle.

    Another GPU at the PCI address of one that was replaced is yielded as what it is.
    """
    for gpu in wanted:
        handle = _handle(gpu.uuid, gpu.pci_bus_id)
        if handle is None:
            continue
        try:
            index = int(pynvml.nvmlDeviceGetIndex(handle))
        except pynvml.NVMLError:
            index = gpu.index
        try:
            yield _describe(handle, index), handle
        except pynvml.NVMLError:  # it does not answer after all: still lost
            continue


def _handle(uuid: str, pci_bus_id: str) -> Any | None:
    ways = [(pynvml.nvmlDeviceGetHandleByUUID, uuid), (pynvml.nvmlDeviceGetHandleByPciBusId, pci_bus_id)]
    for function, name in ways:
        if name:
            try:
                return function(name.encode())
            except pynvml.NVMLError:
                continue
    return None


def _describe(handle: Any, index: int) -> Gpu:
    return Gpu(
        uuid=text(pynvml.nvmlDeviceGetUUID(handle)),
        index=index,
        name=text(pynvml.nvmlDeviceGetName(handle)),
        pci_bus_id=_pci_bus_id(handle),
        minor_number=_minor_number(handle),
    )


def _pci_bus_id(handle: Any) -> str:
    try:
        return text(pynvml.nvmlDeviceGetPciInfo(handle).busId)
    except pynvml.NVMLError:
        return ""


def _minor_number(handle: Any) -> int | None:
    try:
        return int(pynvml.nvmlDeviceGetMinorNumber(handle))
    except pynvml.NVMLError:
        return None
