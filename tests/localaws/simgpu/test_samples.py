from __future__ import annotations

import itertools
from typing import Any

BEGIN = """
import time
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)

def samples(kind, last_seen):
    value_type, found = n.nvmlDeviceGetSamples(h, kind, last_seen)
    assert value_type == n.NVML_VALUE_TYPE_UNSIGNED_INT
    return [(s.timeStamp, s.sampleValue.uiVal) for s in found]
"""


def test_twenty_seconds_of_samples_are_buffered_six_a_second(machine: Any) -> None:
    machine.gpus.set(0, utilization_gpu_percent=87, utilization_memory_percent=41, power_milliwatts=123_456)
    code = """
result = [samples(kind, 0) for kind in (n.NVML_GPU_UTILIZATION_SAMPLES, n.NVML_MEMORY_UTILIZATION_SAMPLES,
                                        n.NVML_TOTAL_POWER_SAMPLES)]
result.append(time.time() * 1e6)
"""
    *found, now = machine.nvml(BEGIN + code)

    for series, value in zip(found, [87, 41, 123_456], strict=True):
        times = [time for time, _ in series]
        assert 119 <= len(times) <= 120  # one may leave the buffer between pynvml's two calls
        assert {later - earlier for earlier, later in itertools.pairwise(times)} <= {166_666, 166_667}
        assert now - 400_000 < times[-1] <= now
        assert {sample for _, sample in series} == {value}


def test_only_newer_samples_come_and_none_is_not_found(machine: Any) -> None:
    code = """
last = samples(n.NVML_GPU_UTILIZATION_SAMPLES, 0)[-1][0]
wait = (last + 166_667) / 1e6 + 0.01 - time.time()
nothing = call(n.nvmlDeviceGetSamples, h, n.NVML_GPU_UTILIZATION_SAMPLES, last + 166_668)
time.sleep(max(0, wait))
newer = samples(n.NVML_GPU_UTILIZATION_SAMPLES, last)
result = [nothing, len(newer), newer[0][0] - last]
"""
    nothing, count, step = machine.nvml(BEGIN + code)

    assert nothing == "error 6"
    assert 1 <= count <= 3
    assert step in {166_666, 166_667}


def test_a_burst_between_two_readings_shows_in_the_samples(machine: Any) -> None:
    machine.gpus.set_samples(0, utilization_gpu_percent=[0, 0, 100])
    code = "result = [value for _, value in samples(n.NVML_GPU_UTILIZATION_SAMPLES, 0)]"

    values = machine.nvml(BEGIN + code)

    assert sorted(values[:3]) == [0, 0, 100]
    assert values[:-3] == values[3:]
    machine.gpus.set_samples(0, utilization_gpu_percent=None)
    assert set(machine.nvml(BEGIN + code)) == {0}


def test_an_array_that_is_too_short_gets_the_oldest(machine: Any) -> None:
    code = """
import ctypes
kind, count, array = ctypes.c_uint(), ctypes.c_uint(2), (n.c_nvmlSample_t * 2)()
ask = n.nvmlLib.nvmlDeviceGetSamples
first = samples(1, 0)[0][0]
code = ask(h, 1, ctypes.c_ulonglong(first), ctypes.byref(kind), ctypes.byref(count), array)
none = ask(h, 1, ctypes.c_ulonglong(0), ctypes.byref(kind), ctypes.byref(ctypes.c_uint(0)), array)
result = [code, count.value, array[0].timeStamp - first, none]
"""
    code, count, step, none = machine.nvml(BEGIN + code)
    assert (code, count, none) == (0, 2, 2)
    assert step in {166_666, 166_667}


def test_other_kinds_are_not_supported(machine: Any) -> None:
    asked = "[call(n.nvmlDeviceGetSamples, h, kind, 0) for kind in (3, 5, 99)]"
    assert machine.nvml_of(0, asked) == ["error 3", "error 3", "error 2"]


def test_utilization_has_no_samples_in_mig_mode_and_power_has(bare_machine: Any) -> None:
    bare_machine.gpus.install("p4d.24xlarge", "i-1")
    bare_machine.gpus.set_mig(0, [])
    asked = "[call(n.nvmlDeviceGetSamples, h, kind, 0)[0:7] for kind in (1, 2)] + [n.nvmlDeviceGetSamples(h, 0, 0)[0]]"
    assert bare_machine.nvml_of(0, asked) == ["error 3", "error 3", 1]
