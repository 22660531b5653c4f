from __future__ import annotations

from typing import Any

import pytest

IDS = [1, 2, 3, 5, 10, 11, 12, 13]
KEYS = ["graphics_engine", "sm_active", "sm_occupancy", "tensor_active", "dram_active"]
KEYS += ["fp64_active", "fp32_active", "fp16_active"]
BEGIN = """
import time
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)

def metrics(take, seconds, ids):
    request = n.c_nvmlGpmMetricsGet_t()
    request.version, request.numMetrics = n.NVML_GPM_METRICS_GET_VERSION, len(ids)
    request.sample1, request.sample2 = n.nvmlGpmSampleAlloc(), n.nvmlGpmSampleAlloc()
    for place, metric in enumerate(ids):
        request.metrics[place].metricId = metric
    take(request.sample1)
    time.sleep(seconds)
    take(request.sample2)
    n.nvmlGpmMetricsGet(request)
    filled = request.metrics[0:len(ids)]
    values = [f"error {metric.nvmlReturn}" if metric.nvmlReturn else metric.value for metric in filled]
    n.nvmlGpmSampleFree(request.sample1)
    n.nvmlGpmSampleFree(request.sample2)
    return values

def of(device):
    return lambda sample: n.nvmlGpmSampleGet(device, sample)
"""


@pytest.fixture
def h100s(bare_machine: Any) -> Any:
    assert bare_machine.gpus.install("p5.48xlarge", "i-1") == 8
    bare_machine.gpus.set(0, **{f"gpm_{key}_percent": 10 + place for place, key in enumerate(KEYS)})
    return bare_machine


def test_metrics_are_those_that_are_set(h100s: Any) -> None:
    code = f"result = [n.nvmlGpmQueryDeviceSupport(h).isSupportedDevice, metrics(of(h), 0.11, {[*IDS, 4]})]"
    assert h100s.nvml(BEGIN + code) == [1, [*map(float, range(10, 18)), "error 3"]]


def test_samples_less_than_100_ms_apart_are_refused(h100s: Any) -> None:
    assert h100s.nvml(BEGIN + "result = call(metrics, of(h), 0.02, [2])") == "error 2"


def test_samples_of_two_gpus_are_refused(h100s: Any) -> None:
    code = """
handles = iter([h, n.nvmlDeviceGetHandleByIndex(1)])
result = call(metrics, lambda sample: n.nvmlGpmSampleGet(next(handles), sample), 0.11, [2])
"""
    assert h100s.nvml(BEGIN + code) == "error 2"


def test_a_mig_device_has_metrics_by_its_handle_and_by_its_gpu_instance(h100s: Any) -> None:
    h100s.gpus.set_mig(0, [("1g.10gb", 0), ("3g.40gb", 0)])
    code = """
d = n.nvmlDeviceGetMigDeviceHandleByIndex(h, 1)
instance = n.nvmlDeviceGetGpuInstanceId(d)
result = [metrics(of(d), 0.11, [2]), metrics(lambda sample: n.nvmlGpmMigSampleGet(h, instance, sample), 0.11, [2]),
    call(n.nvmlGpmMigSampleGet, h, 55, n.nvmlGpmSampleAlloc())]
"""
    assert h100s.nvml(BEGIN + code) == [[11.0], [11.0], "error 2"]


def test_a_gpu_without_mig_mode_has_no_mig_samples(h100s: Any) -> None:
    assert h100s.nvml_of(0, "call(n.nvmlGpmMigSampleGet, h, 1, n.nvmlGpmSampleAlloc())") == "error 3"


def test_cards_before_hopper_have_none(machine: Any) -> None:
    code = "result = [n.nvmlGpmQueryDeviceSupport(h).isSupportedDevice, call(metrics, of(h), 0, [2])]"
    assert machine.nvml(BEGIN + code) == [0, "error 3"]
