from __future__ import annotations

from typing import TYPE_CHECKING

from gpumon.host import gpu_rollups
from gpumon.latest import GpuState
from gpumon.metrics import load_metrics
from gpumon.samples import Gpu, MigInstance
from gpumon.xids import load_xids
from tests.gpumon.fakes import GPU, OTHER_GPU

if TYPE_CHECKING:
    from collections.abc import Mapping

BUSY = {"gpu_up": 1.0, "gpu_utilization_now_percent": 80.0, "memory_utilization_percent": 90.0, "power_watts": 60.0}
IDLE = {"gpu_up": 1.0, "gpu_utilization_now_percent": 0.0, "memory_utilization_percent": 10.0, "power_watts": 10.0}
LOST = {"gpu_up": 0.0}
XIDS = load_xids()


def rollups(*values: Mapping[str, float], expected: int | None = None, is_up: bool = True) -> dict[str, float | None]:
    gpus = [GpuState(Gpu(f"GPU-{index}", index, "x"), found) for index, found in enumerate(values)]
    return gpu_rollups(gpus, len(values) if expected is None else expected, XIDS, driver_is_up=is_up)


def test_sums_and_means_of_a_healthy_host() -> None:
    assert rollups(BUSY, IDLE) == {
        "driver_up": 1.0,
        "gpu_count": 2,
        "gpu_expected_count": 2,
        "gpu_missing_count": 0,
        "gpu_unhealthy_count": 0,
        "gpu_idle_count": 1,
        "gpu_utilization_max_percent": 80.0,
        "gpu_utilization_mean_percent": 40.0,
        "memory_utilization_max_percent": 90.0,
        "power_total_watts": 70.0,
    }


def test_every_rollup_is_a_metric_of_the_table() -> None:
    assert set(rollups(BUSY)) <= {metric.reader for metric in load_metrics() if metric.scope == "host"}


def test_a_lost_gpu_is_missing_and_leaves_every_mean() -> None:
    values = rollups(BUSY, LOST)

    assert (values["gpu_count"], values["gpu_missing_count"], values["gpu_unhealthy_count"]) == (1, 1, 1)
    assert values["gpu_utilization_mean_percent"] == 80.0
    assert values["gpu_idle_count"] == 0


def test_a_gpu_that_nobody_lists_any_more_is_missing() -> None:
    assert rollups(BUSY, expected=8)["gpu_missing_count"] == 7


def test_more_gpus_than_expected_are_not_less_than_none_missing() -> None:
    assert rollups(BUSY, IDLE, expected=1)["gpu_missing_count"] == 0


def test_a_sick_gpu_that_answers_is_unhealthy_and_not_missing() -> None:
    values = rollups(
        BUSY | {"recovery_action": 1.0}, IDLE | {"row_remap_failure": 1.0}, IDLE | {"xid_critical_count": 2.0}
    )

    assert (values["gpu_missing_count"], values["gpu_unhealthy_count"]) == (0, 3)


def test_without_the_driver_no_gpu_is_usable_and_nothing_else_is_known() -> None:
    values = rollups(LOST, LOST, is_up=False)

    assert values["driver_up"] == 0.0
    assert (values["gpu_count"], values["gpu_missing_count"], values["gpu_unhealthy_count"]) == (0, 2, 2)
    assert values["power_total_watts"] is values["gpu_utilization_mean_percent"] is None


def test_a_host_without_gpus_misses_none() -> None:
    values = rollups(is_up=False)

    assert (values["gpu_expected_count"], values["gpu_missing_count"], values["gpu_unhealthy_count"]) == (0, 0, 0)


def test_what_cannot_be_read_is_neither_idle_nor_zero_watts() -> None:
    values = rollups({"gpu_up": 1.0})

    assert values["gpu_idle_count"] is values["power_total_watts"] is None


def test_mig_instances_are_no_gpus() -> None:
    part = Gpu(GPU.uuid, GPU.index, GPU.name, mig=MigInstance(1, "1g.5gb", "MIG-a"))
    states = [GpuState(GPU, BUSY), GpuState(part, BUSY), GpuState(OTHER_GPU, IDLE)]

    assert gpu_rollups(states, 2, XIDS, driver_is_up=True)["gpu_count"] == 2


def test_a_critical_xid_from_before_gpumons_start_counts_where_the_driver_does_not_say_what_it_wants() -> None:
    old = [GpuState(GPU, BUSY, xids={79: 1}), GpuState(OTHER_GPU, BUSY | {"recovery_action": 0.0}, xids={79: 1})]

    assert gpu_rollups(old, 2, XIDS, driver_is_up=True)["gpu_unhealthy_count"] == 1
    assert gpu_rollups([GpuState(GPU, BUSY, xids={13: 5})], 1, XIDS, driver_is_up=True)["gpu_unhealthy_count"] == 0
