"""The utilization samples that the driver takes itself, several a second, and keeps for some seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pynvml

from gpumon.readers.nvml.codes import SENTINELS, UNSUPPORTED, Code, binding

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpumon.readers.nvml.codes import Outcome

BURST = "gpu_utilization_percent"
_UNSIGNED_INT = 1  # NVML_VALUE_TYPE_UNSIGNED_INT
_GPU_UTILIZATION = 1  # NVML_GPU_UTILIZATION_SAMPLES
_MICROSECONDS = 1_000_000
_CLOCK_STEP_MICROSECONDS = 5 * _MICROSECONDS
_EMPTY = frozenset({Code.NOT_FOUND, Code.NO_DATA, Code.INVALID_ARGUMENT})  # the last: of an array without room

_get_samples = binding("nvmlDeviceGetSamples")
# Straight from the structure: pynvml's own way to its members runs Python code for each of them.
_stamp_of = pynvml.c_nvmlSample_t.timeStamp.__get__
_value_of = pynvml.c_nvmlSample_t.sampleValue.__get__


class UtilizationBuffer:
    """The buffer of one GPU, and up to where it was read; what is older than this object does not count.

    Attributes:
        is_there: Whether the GPU has such a buffer; assumed until it says otherwise.
    """

    def __init__(self, unix_seconds: Callable[[], float]) -> None:
        self._unix_seconds = unix_seconds
        self._last_seen = int(unix_seconds() * _MICROSECONDS)  # the driver dates samples by the wall clock
        self.is_there = True

    def read(self, handle: Any, outcome: Outcome) -> tuple[float, ...]:
        """Return the samples since the last call, oldest first, in percent; () if there are none.

        Raises:
            pynvml.NVMLError: The GPU is lost.
        """
        self._follow_clock()
        try:
            kind, samples = _get_samples(handle, _GPU_UTILIZATION, self._last_seen)
        except pynvml.NVMLError as error:
            if error.value in UNSUPPORTED:
                self.is_there = False
                outcome.unsupported.append("buffered utilization samples")
            elif error.value in _EMPTY:
                self.is_there = True
            else:
                outcome.fail(BURST, error)
            return ()
        self.is_there = True
        outcome.succeeded += 1
        if kind != _UNSIGNED_INT:
            return ()
        dated = sorted((_stamp_of(sample), _value_of(sample).uiVal) for sample in samples)
        # After a step backwards of the wall clock the driver still holds samples that are dated in the future.
        latest = int(self._unix_seconds() * _MICROSECONDS) + _CLOCK_STEP_MICROSECONDS
        fresh = [(stamp, value) for stamp, value in dated if self._last_seen < stamp <= latest]
        if fresh:
            self._last_seen = fresh[-1][0]
        return tuple(value for _, value in fresh if value not in SENTINELS)

    def _follow_clock(self) -> None:
        """After a step backwards of the wall clock, new samples carry dates that were seen already."""
        now = int(self._unix_seconds() * _MICROSECONDS)
        if self._last_seen > now + _CLOCK_STEP_MICROSECONDS:
            self._last_seen = now
