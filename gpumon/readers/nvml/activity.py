"""Activity of the parts of a GPU (GPM): what happened between two samples of its counters. Hopper and newer.

Takes no profiler lock, unlike DCGM's profiling metrics of older GPUs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pynvml

from gpumon.readers.nvml.codes import UNSUPPORTED, Code, binding, nvml_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpumon.readers.nvml.codes import Outcome
    from gpumon.readers.nvml.probes import Values

# NVML_GPM_METRIC_... of nvml.h, in percent.
METRICS = {
    "graphics_engine_active_percent": 1,  # NVML_GPM_METRIC_GRAPHICS_UTIL
    "sm_active_percent": 2,  # NVML_GPM_METRIC_SM_UTIL
    "sm_occupancy_percent": 3,  # NVML_GPM_METRIC_SM_OCCUPANCY
    "tensor_active_percent": 5,  # NVML_GPM_METRIC_ANY_TENSOR_UTIL
    "dram_active_percent": 10,  # NVML_GPM_METRIC_DRAM_BW_UTIL
    "fp64_active_percent": 11,  # NVML_GPM_METRIC_FP64_UTIL
    "fp32_active_percent": 12,  # NVML_GPM_METRIC_FP32_UTIL
    "fp16_active_percent": 13,  # NVML_GPM_METRIC_FP16_UTIL
}
_NAMES = {number: name for name, number in METRICS.items()}
_BLANK: dict[str, float | None] = dict.fromkeys(METRICS)
_LEAST_SECONDS = 0.1  # nvml.h: how often the driver renews the counters
_WORD = "activity (GPM)"
_sample_alloc = binding("nvmlGpmSampleAlloc")
_query_support = binding("nvmlGpmQueryDeviceSupport")


def is_supported(handle: Any) -> bool:
    """Say whether a GPU has GPM.

    Raises:
        pynvml.NVMLError: It does not say.
    """
    return bool(_query_support(handle).isSupportedDevice)


class ActivityMeter:
    """Activity of one GPU or MIG instance, from one reading to the next; each reading's sample serves for two.

    Args:
        take: Fills a sample: nvmlGpmSampleGet of the GPU, or nvmlGpmMigSampleGet of the instance.
        supported: Says whether the GPU has GPM; may raise pynvml.NVMLError.
        monotonic_seconds: A clock.
    """

    def __init__(
        self, take: Callable[[Any], object], supported: Callable[[], bool], monotonic_seconds: Callable[[], float]
    ) -> None:
        self._take = take
        self._supported = supported
        self._monotonic_seconds = monotonic_seconds
        self._before: tuple[Any, float] | None = None  # sample, when
        self._refused: set[int] = set()
        self._is_there = True

    def forget_unsupported(self) -> None:
        """Ask for everything again at the next reading."""
        self._refused.clear()
        self._is_there = True

    def read(self, values: Values, outcome: Outcome) -> None:
        """Write the activity since the last reading into `values`: None at the first, and for what cannot be read.

        Raises:
            pynvml.NVMLError: The GPU is lost.
        """
        values.update(_BLANK)
        if not self._is_there:
            return
        now = self._monotonic_seconds()
        if self._before is not None and now - self._before[1] <= _LEAST_SECONDS:
            return
        try:
            self._read(now, values, outcome)
        except pynvml.NVMLError as error:
            self.close()
            if outcome.lost:
                raise
            if error.value in UNSUPPORTED:
                self._is_there = False
                outcome.unsupported.append(_WORD)
            else:
                outcome.fail(_WORD, error)

    def _read(self, now: float, values: Values, outcome: Outcome) -> None:
        if self._before is None and not self._supported():
            raise nvml_error(Code.NOT_SUPPORTED)
        sample = _sample_alloc()
        try:
            self._take(sample)
            if self._before is not None:
                self._compare(self._before[0], sample, values, outcome)
        except pynvml.NVMLError:
            _free(sample)
            raise
        self.close()
        self._before = (sample, now)
        outcome.succeeded += 1

    def _compare(self, before: Any, after: Any, values: Values, outcome: Outcome) -> None:
        question = pynvml.c_nvmlGpmMetricsGet_t()
        question.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        question.sample1, question.sample2 = before, after
        numbers = [number for number in _NAMES if number not in self._refused]
        question.numMetrics = len(numbers)
        for at, number in enumerate(numbers):
            question.metrics[at].metricId = number
        answer = pynvml.nvmlGpmMetricsGet(question)
        for at, number in enumerate(numbers):
            metric = answer.metrics[at]
            if metric.nvmlReturn == Code.SUCCESS:
                values[_NAMES[number]] = metric.value if math.isfinite(metric.value) else None
            elif metric.nvmlReturn in UNSUPPORTED:
                self._refused.add(number)
                outcome.unsupported.append(_NAMES[number])
            else:
                outcome.fail(_NAMES[number], nvml_error(metric.nvmlReturn))

    def close(self) -> None:
        """Give the memory of the kept sample back to the driver."""
        if self._before is not None:
            _free(self._before[0])
            self._before = None


def _free(sample: Any) -> None:
    try:
        pynvml.nvmlGpmSampleFree(sample)
    except pynvml.NVMLError:  # there is nothing left that could be done with it
        return
