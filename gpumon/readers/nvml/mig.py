"""MIG: the instances that a GPU is divided into, each with its own memory and activity."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pynvml

from gpumon.readers.nvml import activity
from gpumon.readers.nvml.activity import ActivityMeter
from gpumon.readers.nvml.codes import UNSUPPORTED, Code, Outcome, binding, text
from gpumon.readers.nvml.probes import ProbeSet
from gpumon.readers.nvml.sample_calls import MEMORY
from gpumon.samples import Gpu, GpuSample, MigInstance

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpumon.readers.nvml.probes import Values

_get_mode = binding("nvmlDeviceGetMigMode")
_get_handle = binding("nvmlDeviceGetMigDeviceHandleByIndex")
_get_max_count = binding("nvmlDeviceGetMaxMigDeviceCount")
_get_instance_id = binding("nvmlDeviceGetGpuInstanceId")
_get_attributes = binding("nvmlDeviceGetAttributes")
_get_sample = binding("nvmlGpmMigSampleGet")
_ENABLED = 1  # NVML_DEVICE_MIG_ENABLE
_NO_SUCH = UNSUPPORTED | {Code.NOT_FOUND, Code.INVALID_ARGUMENT}
_WORD = "MIG instances"
# In names such as "NVIDIA A100-SXM4-40GB MIG 1g.5gb"; with "1c." in front where an instance is divided once more.
_PROFILE = re.compile(r"MIG (?:\d+c\.)?(\d+g\.\S+)")
_GIB_IN_MIB = 1024


@dataclass
class _Instance:
    gpu: Gpu
    handle: Any
    memory: ProbeSet
    meter: ActivityMeter


class MigInstances:
    """The instances of one GPU. They are listed anew at each slow reading: they come and go while the driver runs.

    Args:
        handle: The GPU's.
        monotonic_seconds: A clock.
    """

    def __init__(self, handle: Any, monotonic_seconds: Callable[[], float]) -> None:
        self._handle = handle
        self._monotonic_seconds = monotonic_seconds
        self._instances: dict[tuple[int, str], _Instance] = {}
        self._is_there = True

    def forget_unsupported(self) -> None:
        """Ask for everything again at the next reading."""
        self._is_there = True
        for instance in self._instances.values():
            instance.memory.forget_unsupported()
            instance.meter.forget_unsupported()

    def read(self, gpu: Gpu, outcome: Outcome, *, sample: bool, slow: bool) -> list[GpuSample]:
        """Return what is due of each instance of `gpu`, in the order of their numbers.

        Raises:
            pynvml.NVMLError: The GPU is lost.
        """
        if slow:
            self._list(gpu, outcome)
        if not self._instances:
            return []
        samples, broken = self._read_all(outcome, sample=sample, slow=slow)
        if broken and not slow:  # most likely somebody removed them
            self._list(gpu, outcome)
        return [found for found in samples if _key(found.gpu) in self._instances]

    def _read_all(self, outcome: Outcome, *, sample: bool, slow: bool) -> tuple[list[GpuSample], bool]:
        samples, broken = [], False
        for instance in self._instances.values():
            met = Outcome()
            values: Values = {"gpu_up": 1}
            try:
                if sample:
                    instance.memory.read(instance.handle, values, met)
                if slow:
                    instance.meter.read(values, met)
            finally:
                outcome.absorb(met)
            if met.nothing_works:
                values, broken = {"gpu_up": 0}, True
            samples.append(GpuSample(instance.gpu, values))
        return samples, broken

    def _list(self, gpu: Gpu, outcome: Outcome) -> None:
        if not self._is_there:
            return
        try:
            found = self._find(gpu)
        except pynvml.NVMLError as error:
            found = {}
            if error.value in UNSUPPORTED:
                self._is_there = False
            else:
                outcome.fail(_WORD, error)
        for key in self._instances.keys() - found.keys():
            self._instances[key].meter.close()
        # The driver may use a handle again for another instance: only what was found just now is valid.
        self._instances = {key: self._renew(key, *found[key]) for key in sorted(found)}

    def _find(self, gpu: Gpu) -> dict[tuple[int, str], tuple[Gpu, Any]]:
        if _get_mode(self._handle)[0] != _ENABLED:
            return {}
        found: dict[tuple[int, str], tuple[Gpu, Any]] = {}
        numbers = set()
        for index in range(_get_max_count(self._handle)):
            try:
                handle = _get_handle(self._handle, index)
                number = int(_get_instance_id(handle))
                if number in numbers:  # one more compute instance of the same GPU instance
                    continue
                instance = MigInstance(number, _profile(handle, self._handle), text(pynvml.nvmlDeviceGetUUID(handle)))
            except pynvml.NVMLError as error:
                if error.value in _NO_SUCH:
                    continue
                raise
            numbers.add(number)
            found[number, instance.uuid] = (replace(gpu, mig=instance), handle)
        return found

    def _renew(self, key: tuple[int, str], gpu: Gpu, handle: Any) -> _Instance:
        known_instance = self._instances.get(key)
        if known_instance is not None:
            return replace(known_instance, gpu=gpu, handle=handle)
        take = partial(_get_sample, self._handle, key[0])
        meter = ActivityMeter(take, partial(activity.is_supported, self._handle), self._monotonic_seconds)
        return _Instance(gpu, handle, ProbeSet((MEMORY,)), meter)

    def close(self) -> None:
        """Forget the instances, and give back what the driver keeps for them."""
        for instance in self._instances.values():
            instance.meter.close()
        self._instances = {}


def _key(gpu: Gpu) -> tuple[int, str] | None:
    return (gpu.mig.gpu_instance_id, gpu.mig.uuid) if gpu.mig is not None else None


def _profile(handle: Any, parent: Any) -> str:
    """Return the size of an instance, such as ``1g.5gb``; "" if the driver does not tell."""
    named = _PROFILE.search(text(pynvml.nvmlDeviceGetName(handle)))
    if named:
        return named[1]
    try:
        attributes = _get_attributes(handle)
        total_bytes = pynvml.nvmlDeviceGetMemoryInfo(parent).total
    except pynvml.NVMLError:
        return ""
    return profile_of(attributes.gpuInstanceSliceCount, attributes.memorySizeMB, total_bytes)


def profile_of(slices: int, memory_mib: int, gpu_memory_bytes: int) -> str:
    """Return the name of the profile of an instance with these slices and memory on a GPU with that much memory."""
    gpu_mib = gpu_memory_bytes / 2**20
    # Memory comes in eighths; what is missing from an instance's share the driver keeps for itself.
    eighths = math.ceil(8 * memory_mib / gpu_mib) if gpu_mib else 0
    return f"{slices}g.{round(eighths / 8 * math.ceil(gpu_mib / _GIB_IN_MIB))}gb"
