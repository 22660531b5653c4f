"""Whether the GPUs of an instance are those that its type promises."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gpunodes.proof.check import Check, check

_MEMORY_SHARE = 0.9  # of what EC2 says of a type: the driver and ECC keep some of it for themselves


@dataclass(frozen=True)
class Gpu:
    """A GPU as the CUDA driver on the instance describes it.

    Attributes:
        index: in PCI order, which is NVML's.
        uuid: as NVML writes it: `GPU-...`.
        name: of the model.
        free_bytes: before anything was allocated.
        total_bytes: of the GPU.
    """

    index: int
    uuid: str
    name: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class PromisedGpus:
    """The GPUs of an instance type (EC2 DescribeInstanceTypes, GpuInfo).

    Attributes:
        instance_type: e.g. g5.12xlarge.
        count: how many a program on it sees.
        name: of the model as EC2 writes it, e.g. `A10G`.
        memory_bytes: of each one.
    """

    instance_type: str
    count: int
    name: str
    memory_bytes: int


def gpus_are_there(gpus: Sequence[Gpu], promised: PromisedGpus, error: str = "") -> Check:
    """Whether the driver shows as many GPUs as the instance type has."""
    seen = ", ".join(f"{gpu.index} {gpu.name}" for gpu in gpus) or "none"
    reason = f"{len(gpus)} of {promised.count} GPUs of {promised.instance_type}: {seen}"
    reason += f" ({error})" if error else ""
    evidence = {"gpus": [vars(gpu) for gpu in gpus], "promised": promised.count}
    return check("gpus_are_there", len(gpus) == promised.count and promised.count > 0, reason, evidence)


def gpus_are_the_model(gpus: Sequence[Gpu], promised: PromisedGpus) -> Check:
    """Whether each GPU carries the name that EC2 gives its model, and most of the memory."""
    wrong = [_complaint(gpu, promised) for gpu in gpus]
    wrong = [text for text in wrong if text]
    if not gpus:
        reason = "there is no GPU to look at"
    elif wrong:
        reason = "; ".join(wrong)
    else:
        least_bytes = min(gpu.total_bytes for gpu in gpus)
        reason = f"{len(gpus)} x {gpus[0].name} with {_gib(least_bytes)} of {_gib(promised.memory_bytes)} or more"
    evidence = {"gpus": [vars(gpu) for gpu in gpus], "promised": vars(promised)}
    return check("gpus_are_the_model", bool(gpus) and not wrong, reason, evidence)


def _complaint(gpu: Gpu, promised: PromisedGpus) -> str:
    if not _words(promised.name) <= _words(gpu.name):
        return f"GPU {gpu.index} is {gpu.name} instead of {promised.name}"
    if gpu.total_bytes < promised.memory_bytes * _MEMORY_SHARE:
        return f"GPU {gpu.index} has {_gib(gpu.total_bytes)} instead of {_gib(promised.memory_bytes)}"
    return ""


def _words(name: str) -> set[str]:
    """EC2 says `RTX PRO Server 6000`, the driver `NVIDIA RTX PRO 6000 Blackwell Server Edition`."""
    return set(re.findall(r"[a-z0-9]+", name.lower()))


def _gib(size_bytes: float) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
