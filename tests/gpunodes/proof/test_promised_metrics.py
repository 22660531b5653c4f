from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpunodes.errors import GpunodesError
from gpunodes.proof.datapoints import Series
from gpunodes.proof.promised_metrics import (
    Promise,
    agent_series_of,
    name_of,
    one_of_each,
    promised,
    promised_by_agent,
    series_of,
)
from tests.gpunodes.fakes import INSTANCE_ID, gpus

SETTINGS = """
cloudwatch = true
cloudwatch_tiers = ["core"]
namespace = "GPU"
sample_seconds = 1.0
slow_seconds = 60.0
publish_seconds = 60
publish_phase_seconds = 3.0
"""
METRICS = """
[Energy]
scope = "gpu"
tier = "core"
unit = "None"
reader = "energy_millijoules"
every = "slow"
kind = "counter"
scale = 0.001
minimum = 5
maximum = 2000

[Xids]
scope = "gpu"
tier = "core"
unit = "Count"
reader = "xid_error_count"
every = "slow"
kind = "counter"
baseline = 0

[Rate]
scope = "gpu"
tier = "core"
unit = "Bytes/Second"
reader = "transmitted_bytes"
every = "slow"
kind = "rate"
maximum = 7

[Heat]
scope = "gpu"
tier = "core"
unit = "None"
reader = "temperature_celsius"
every = "sample"
minimum = -60
maximum = 200

[Load]
scope = "host"
tier = "core"
unit = "Percent"
reader = "load_percent"
every = "buffer"

[Mask]
scope = "gpu"
tier = "core"
unit = "None"
reader = "mask"
every = "sample"
cloudwatch = false

[Rest]
scope = "gpu"
tier = "extended"
unit = "None"
reader = "rest"
every = "sample"

["Old Name"]
scope = "gpu"
tier = "legacy"
unit = "None"
reader = "temperature_celsius"
every = "sample"
"""


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.toml"
    path.write_text(METRICS)
    return path


def settings(folder: Path, name: str = "default.toml", text: str = SETTINGS) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def of(promises: list[Promise], metric: str) -> Promise:
    return next(promise for promise in promises if promise.metric == metric)


def test_memory_used_has_the_name_that_gpumon_publishes() -> None:
    assert name_of("memory_used_bytes") == "MemoryUsed"


def test_a_value_that_no_metric_carries_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.toml"
    path.write_text('[HostOnly]\nscope = "host"\nreader = "memory_used_bytes"\n')
    with pytest.raises(GpunodesError, match="memory_used_bytes"):
        name_of("memory_used_bytes", path)


def test_what_the_image_promises_are_gpumons_core_and_health() -> None:
    promises = promised()

    assert [sum(promise.scope == scope for promise in promises) for scope in ("gpu", "host")] == [24, 17]
    assert {promise.namespace for promise in promises} == {"GPU"}
    assert of(promises, "Heartbeat").scope == "host"
    assert of(promises, "MemoryUsed").unit == "Bytes"
    assert not {"MemoryTotal", "XidLastCode", "Memory Usage"} & {promise.metric for promise in promises}


def test_tiers_are_those_of_the_settings_and_values_without_statistics_are_left_out(
    metrics: Path, tmp_path: Path
) -> None:
    default = settings(tmp_path)
    image = settings(tmp_path, "gpumon.toml", 'cloudwatch_tiers = ["core", "extended", "legacy"]\nnamespace = "Mine"')

    assert [promise.metric for promise in promised(metrics, [default])] == ["Energy", "Xids", "Rate", "Heat", "Load"]
    told = promised(metrics, [default, image])
    assert [promise.metric for promise in told] == ["Energy", "Xids", "Rate", "Heat", "Load", "Rest"]
    assert {promise.namespace for promise in told} == {"Mine"}


def test_an_image_that_does_not_publish_promises_nothing(metrics: Path, tmp_path: Path) -> None:
    quiet = settings(tmp_path, "gpumon.toml", "cloudwatch = false")

    assert promised(metrics, [settings(tmp_path), quiet]) == []


def test_range_is_that_of_cloudwatchs_unit(metrics: Path, tmp_path: Path) -> None:
    promises = promised(metrics, [settings(tmp_path)])

    assert (of(promises, "Heat").minimum, of(promises, "Heat").maximum) == (-60, 200)
    assert (of(promises, "Load").minimum, of(promises, "Load").maximum) == (None, None)
    # What was added in a minute may be nothing, whatever the counter stands at; and no more than that.
    assert (of(promises, "Energy").minimum, of(promises, "Energy").maximum) == (0, 2)
    assert (of(promises, "Rate").minimum, of(promises, "Rate").maximum) == (0, None)


def test_counters_of_the_driver_come_after_their_second_reading(metrics: Path, tmp_path: Path) -> None:
    promises = promised(metrics, [settings(tmp_path)])

    within = {promise.metric: promise.within_seconds for promise in promises}
    assert within == {"Energy": 123, "Xids": 63, "Rate": 123, "Heat": 63, "Load": 63}


def test_what_is_read_more_rarely_than_published_may_have_gaps(metrics: Path, tmp_path: Path) -> None:
    rare = settings(tmp_path, "gpumon.toml", "slow_seconds = 300")
    promises = promised(metrics, [settings(tmp_path), rare])

    assert not of(promises, "Energy").is_in_every_period
    assert of(promises, "Heat").is_in_every_period
    assert of(promises, "Energy").within_seconds == 363


def test_parts_that_do_not_belong_together_are_an_error(metrics: Path, tmp_path: Path) -> None:
    short = settings(tmp_path, text=SETTINGS.replace("publish_seconds", "something_else"))

    with pytest.raises(GpunodesError, match="'publish_seconds'"):
        promised(metrics, [short])


def test_series_are_one_for_each_gpu_and_one_of_the_host(metrics: Path, tmp_path: Path) -> None:
    promises = [promise for promise in promised(metrics, [settings(tmp_path)]) if promise.metric in {"Heat", "Load"}]

    series = series_of(promises, INSTANCE_ID, gpus(2))

    assert list(series) == [
        Series.of("GPU", "Heat", {"InstanceId": INSTANCE_ID, "GpuIndex": "0", "GpuUuid": "GPU-0"}),
        Series.of("GPU", "Heat", {"InstanceId": INSTANCE_ID, "GpuIndex": "1", "GpuUuid": "GPU-1"}),
        Series.of("GPU", "Load", {"InstanceId": INSTANCE_ID}),
    ]
    assert [promise.metric for promise in series.values()] == ["Heat", "Heat", "Load"]


def test_one_series_tells_for_each_set_of_dimensions() -> None:
    everything = series_of(promised(), INSTANCE_ID, gpus(2)) | agent_series_of(promised_by_agent(), INSTANCE_ID, "xfs")

    # What is read each second has sixty times as much to be looked through; what may not be there tells nothing.
    assert sorted((series.metric, len(series.dimensions)) for series in one_of_each(everything)) == [
        ("Heartbeat", 1),
        ("ProcessCount", 3),
        ("ProcessCount", 3),
        ("disk_used_percent", 3),
        ("mem_used_percent", 1),
    ]


def test_agent_publishes_memory_swap_and_the_root_file_system() -> None:
    series = agent_series_of(promised_by_agent(), INSTANCE_ID, "ext4")

    instance = {"InstanceId": INSTANCE_ID}
    assert list(series) == [
        Series.of("CWAgent", "mem_used_percent", instance),
        Series.of("CWAgent", "swap_used_percent", instance),
        Series.of("CWAgent", "disk_used_percent", {**instance, "path": "/", "fstype": "ext4"}),
    ]
    assert {(promise.unit, promise.minimum, promise.maximum) for promise in series.values()} == {("Percent", 0, 100)}


def test_a_measurement_of_the_agent_whose_unit_is_not_known_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    mem = {"measurement": ["mem_free"], "metrics_collection_interval": 60}
    path.write_text(json.dumps({"metrics": {"namespace": "CWAgent", "metrics_collected": {"mem": mem}}}))

    with pytest.raises(GpunodesError, match="mem_free"):
        promised_by_agent(path)
