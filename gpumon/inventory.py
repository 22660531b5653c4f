"""Remembers which GPUs this host had, so that one that is gone is missed rather than forgotten.

A GPU that falls off the bus need not be reported by anyone: no Xid, no error, one entry less in a list. What is
remembered here outlives gpumon and a reboot, because that is when a lost GPU vanishes from the driver's list.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from gpumon.samples import Gpu

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpumon.samples import GpuSample

MOST_GPUS = 256  # more than any machine has

log = logging.getLogger(__name__)

_FIELDS = tuple(field.name for field in fields(Gpu) if field.name != "mig")


class Inventory:
    """The GPUs that were ever seen on this machine."""

    def __init__(self, machine: str, boot_id: str, remembered: object = None) -> None:
        """Begin with what `remembered()` gave to an earlier process, or with nothing.

        Args:
            machine: What this machine is. With another one, nothing is remembered: the instance was changed, or this
                is an image of its disk.
            boot_id: Changes with each boot of the kernel.
            remembered: Earlier result of `remembered()`; anything else counts as nothing.
        """
        self._machine = machine
        self._boot_id = boot_id
        self._gpus: dict[str, Gpu] = {}
        self._from_earlier_boot: set[str] = set()
        self._most_count = 0
        if isinstance(remembered, dict) and remembered.get("machine") == machine:
            self._restore(remembered)

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """Every GPU that is remembered, in the order of the index."""
        return tuple(sorted(self._gpus.values(), key=lambda gpu: gpu.index))

    def see(self, samples: Sequence[GpuSample]) -> tuple[GpuSample, ...]:
        """Remember the GPUs of a reading; return it without those that this machine does not have any more.

        An instance that was stopped and started again runs on other hardware: then not one of the GPUs of the earlier
        boot answers and others do. Where one of them still answers it is the same hardware, and those that do not are
        lost.
        """
        up = {sample.gpu.uuid for sample in samples if sample.gpu.mig is None and sample.values.get("gpu_up")}
        for sample in samples:
            if sample.gpu.mig is None and sample.gpu.uuid in up:
                self._gpus[sample.gpu.uuid] = sample.gpu
        self._most_count = max(self._most_count, len(up))
        if up and self._from_earlier_boot and not up & self._from_earlier_boot:
            log.warning(
                "this machine has other GPUs than before its last boot: forgetting %d", len(self._from_earlier_boot)
            )
            for uuid in self._from_earlier_boot:
                self._gpus.pop(uuid, None)
            self._from_earlier_boot.clear()
        elif up:
            self._from_earlier_boot.clear()  # the same hardware: from now on they count as seen in this boot
        return tuple(sample for sample in samples if sample.gpu.uuid in self._gpus)

    def expected_count(self, on_bus_count: int | None) -> int:
        """Return how many GPUs the host should have: what its PCI bus shows, or more if more were ever seen."""
        return max(on_bus_count or 0, self._most_count, len(self._gpus))

    def remembered(self) -> dict[str, Any]:
        """Return what a later process needs, ready for JSON."""
        gpus = [{name: value for name, value in asdict(gpu).items() if name in _FIELDS} for gpu in self.gpus]
        return {"machine": self._machine, "boot_id": self._boot_id, "most_count": self._most_count, "gpus": gpus}

    def _restore(self, remembered: Mapping[str, Any]) -> None:
        try:
            gpus = [Gpu(**{name: entry[name] for name in _FIELDS}) for entry in remembered["gpus"]]
            if not all(_is_gpu(gpu) for gpu in gpus):
                raise ValueError("no GPU")  # noqa: TRY301 - as if it could not be made
            self._most_count = min(int(remembered["most_count"]), MOST_GPUS)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            log.warning("the remembered GPUs cannot be read (%s), beginning anew", error)
            return
        self._gpus = {gpu.uuid: gpu for gpu in gpus}
        if remembered.get("boot_id") != self._boot_id:
            self._from_earlier_boot = set(self._gpus)


def _is_gpu(gpu: Gpu) -> bool:
    texts = (gpu.uuid, gpu.name, gpu.pci_bus_id)
    return all(isinstance(text, str) for text in texts) and type(gpu.index) is int
