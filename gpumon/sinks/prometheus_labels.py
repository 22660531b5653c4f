"""The labels of a GPU's series, as dcgm-exporter 4 writes them (its ``internal/pkg/rendermetrics``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpumon.sinks.prometheus_text import Labels

if TYPE_CHECKING:
    from gpumon.latest import GpuState
    from gpumon.samples import Gpu

MODEL_LABEL = "modelName"


@dataclass(frozen=True)
class GpuLabels:
    """A GPU's newest values and what its series are labelled with; more than one only where jobs are a label.

    Attributes:
        state: The GPU and its newest values.
        jobs: The jobs on it.
        dcgm: Labels of series that have a name of DCGM's.
        own: Labels of series that have a name of gpumon's own.
    """

    state: GpuState
    jobs: tuple[str, ...]
    dcgm: tuple[Labels, ...]
    own: tuple[Labels, ...]


class Labeller:
    """Makes labels once and remembers them until a GPU, the driver or the jobs change; safe in any thread."""

    def __init__(self, hostname: str, model_label: str = MODEL_LABEL) -> None:
        """Make a labeller.

        Args:
            hostname: Value of label ``Hostname``.
            model_label: Name of the label with the product name.
        """
        self._hostname = hostname
        self._model_label = model_label
        self._remembered: dict[tuple[Gpu, str, tuple[str, ...]], tuple[tuple[Labels, ...], tuple[Labels, ...]]] = {}

    def label(
        self, gpus: list[tuple[GpuState, tuple[str, ...]]], driver_version: str, *, jobs_are_labels: bool
    ) -> list[GpuLabels]:
        """Return the labels of each GPU, given with the jobs on it."""
        before, now = self._remembered, {}
        found = []
        for state, jobs in gpus:
            key = (state.gpu, driver_version, jobs if jobs_are_labels else ())
            now[key] = before.get(key) or self._make(*key)
            found.append(GpuLabels(state, jobs, *now[key]))
        self._remembered = now  # in one step, for other threads; what is no longer used is forgotten
        return found

    def _make(
        self, gpu: Gpu, driver_version: str, jobs: tuple[str, ...]
    ) -> tuple[tuple[Labels, ...], tuple[Labels, ...]]:
        own = own_labels(gpu) | {"Hostname": self._hostname}
        dcgm = own | {self._model_label: gpu.name, "DCGM_FI_DRIVER_VERSION": driver_version}
        if not jobs:
            return (Labels(dcgm),), (Labels(own),)
        return (
            tuple(Labels(dcgm | {"hpc_job": job}) for job in jobs),
            tuple(Labels(own | {"hpc_job": job}) for job in jobs),
        )


def own_labels(gpu: Gpu) -> dict[str, str]:
    """Return what says which GPU or MIG instance it is."""
    # dcgm-exporter writes the index here; where the device node has another number, that is the one to look for.
    device = gpu.index if gpu.minor_number is None else gpu.minor_number
    labels = {"gpu": f"{gpu.index}", "UUID": gpu.uuid, "pci_bus_id": gpu.pci_bus_id, "device": f"nvidia{device}"}
    if gpu.mig is not None:
        labels |= {"GPU_I_PROFILE": gpu.mig.profile, "GPU_I_ID": f"{gpu.mig.gpu_instance_id}"}
    return labels
