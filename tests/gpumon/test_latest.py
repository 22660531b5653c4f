from __future__ import annotations

from gpumon.latest import Latest
from gpumon.samples import GpuProcess, GpuSample
from tests.gpumon.fakes import GPU, OTHER_GPU, gpu_sample


def test_values_that_were_not_due_stay_and_unreadable_ones_go() -> None:
    latest = Latest()
    latest.merge([gpu_sample(used=5.0, clock=100.0)])

    (state,) = latest.merge([gpu_sample(used=None, power=30.0)])

    assert state.values == {"clock": 100.0, "power": 30.0}


def test_a_burst_shows_as_its_mean() -> None:
    (state,) = Latest().merge([GpuSample(GPU, {}, {"utilization": (0.0, 50.0, 100.0)})])

    assert state.values == {"utilization": 50.0}


def test_a_gpu_that_is_lost_keeps_none_of_its_old_values() -> None:
    latest = Latest()
    latest.merge([gpu_sample(gpu_up=1.0, used=5.0)])

    (lost,) = latest.merge([gpu_sample(gpu_up=0.0)])
    (back,) = latest.merge([gpu_sample(gpu_up=1.0)])

    assert lost.values == {"gpu_up": 0.0}
    assert back.values == {"gpu_up": 1.0}


def test_a_gpu_that_is_not_in_the_sample_is_forgotten() -> None:
    latest = Latest()
    latest.merge([gpu_sample(GPU, used=5.0), gpu_sample(OTHER_GPU, used=6.0)])

    assert [state.gpu for state in latest.merge([gpu_sample(OTHER_GPU)])] == [OTHER_GPU]


def test_processes_and_xids_belong_to_their_gpu() -> None:
    latest = Latest()
    process = GpuProcess(1, "python", 100)
    latest.merge([GpuSample(GPU, {}, processes=(process,)), gpu_sample(OTHER_GPU)])

    states = latest.merge([gpu_sample(GPU), gpu_sample(OTHER_GPU)], {OTHER_GPU.uuid: {79: 1}})

    assert [(state.processes, state.xids) for state in states] == [((process,), {}), (None, {79: 1})]


def test_a_snapshot_does_not_change_any_more() -> None:
    latest = Latest()
    latest.publish(10.0, latest.merge([gpu_sample(used=5.0)]), {"gpu_count": 1.0, "driver_up": 1.0}, "580.1", {})
    before = latest.snapshot()

    latest.publish(11.0, latest.merge([gpu_sample(used=6.0)]), {"driver_up": None}, "", {})

    assert (before.unix_seconds, before.gpus[0].values, before.driver_version) == (10.0, {"used": 5.0}, "580.1")
    assert before.host == {"gpu_count": 1.0, "driver_up": 1.0}
    assert latest.snapshot().host == {"gpu_count": 1.0}
