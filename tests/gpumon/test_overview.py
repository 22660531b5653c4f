from __future__ import annotations

import threading

import pytest

from gpumon.errors import DriverUnavailableError
from gpumon.inventory import Inventory
from gpumon.latest import Latest
from gpumon.metrics import load_metrics
from gpumon.overview import Overview
from gpumon.own_metrics import OwnMetrics
from gpumon.publisher import DeliveryStats
from gpumon.readers import EVERYTHING, Due
from gpumon.sampler import Outcome
from gpumon.samples import Reading, Sample
from gpumon.xid_counts import XidCounts
from gpumon.xids import XidEvent, load_xids
from tests.gpumon.fakes import GPU, OTHER_GPU, gpu_sample

BOTH = Reading((gpu_sample(GPU, gpu_up=1.0, power_watts=30.0), gpu_sample(OTHER_GPU, gpu_up=1.0)), "580.1")
ONE_LOST = Reading((gpu_sample(GPU, gpu_up=1.0, power_watts=31.0), gpu_sample(OTHER_GPU, gpu_up=0.0)), "580.1")
NO_DRIVER = DriverUnavailableError("Load the driver.")


class House:
    def __init__(self) -> None:
        self.latest = Latest()
        self.on_bus: int | None = 2
        self.xids = XidCounts(load_xids(), threading.Event())
        self.stats = {"cloudwatch": DeliveryStats(published_datums=5, failed_calls=1)}
        self.overview = Overview(
            latest=self.latest,
            inventory=Inventory("machine", "boot"),
            xids=self.xids,
            own=OwnMetrics(),
            count_on_bus=lambda: self.on_bus,
            delivery_stats=lambda: self.stats,
        )

    def take(self, answer: Reading | DriverUnavailableError | None, due: Due = Due.SAMPLE, at: float = 100.0) -> Sample:
        reading = answer if isinstance(answer, Reading) else None
        error = answer if isinstance(answer, DriverUnavailableError) else None
        return self.overview.of_outcome(Outcome(at + 1e9, at, 0.1, due, reading, error))


def test_the_first_reading_has_everything_of_the_host() -> None:
    sample = House().take(BOTH)

    host_readers = {metric.reader for metric in load_metrics() if metric.scope == "host"}
    assert set(sample.host) == host_readers
    assert sample.host["gpu_count"] == 2
    assert sample.host["power_total_watts"] == 30.0
    assert sample.host["collect_seconds"] == 0.1
    assert (sample.unix_seconds, sample.monotonic_seconds) == (1e9 + 100, 100)


def test_only_a_slow_reading_has_what_is_slow() -> None:
    house = House()
    house.take(BOTH)

    assert "heartbeat" not in house.take(BOTH).host
    assert "heartbeat" in house.take(BOTH, EVERYTHING).host
    assert "xid_error_count" not in house.take(BOTH).gpus[0].values
    assert house.take(BOTH, EVERYTHING).gpus[0].values["xid_error_count"] == 0.0


def test_a_lost_gpu_is_missed_at_once() -> None:
    house = House()
    house.take(BOTH)

    sample = house.take(ONE_LOST)

    assert (sample.host["gpu_missing_count"], sample.host["gpu_unhealthy_count"]) == (1, 1)
    assert house.latest.snapshot().gpus[1].values == {"gpu_up": 0.0}


def test_a_gpu_that_the_driver_never_showed_is_missed_by_the_bus() -> None:
    house = House()
    house.on_bus = 8

    assert house.take(BOTH).host["gpu_missing_count"] == 6


@pytest.mark.parametrize("is_wedged", [False, True])
def test_a_silent_driver_is_down_and_so_is_every_known_gpu(is_wedged: bool) -> None:
    house = House()
    house.take(BOTH)

    sample = house.overview.of_silence(1e9, 101) if is_wedged else house.take(NO_DRIVER)

    assert [(found.gpu, found.values["gpu_up"]) for found in sample.gpus] == [(GPU, 0.0), (OTHER_GPU, 0.0)]
    assert (sample.host["driver_up"], sample.host["gpu_missing_count"], sample.host["heartbeat"]) == (0.0, 2, 1.0)
    assert "power_total_watts" not in house.latest.snapshot().host


def test_a_host_without_a_gpu_misses_none_and_still_beats() -> None:
    house = House()
    house.on_bus = 0

    sample = house.take(NO_DRIVER)

    assert sample.gpus == ()
    assert (sample.host["driver_up"], sample.host["gpu_missing_count"], sample.host["heartbeat"]) == (0.0, 0, 1.0)


def test_of_a_released_driver_nothing_is_claimed() -> None:
    house = House()
    house.take(BOTH)

    sample = house.take(None)

    assert sample.gpus == ()
    assert sample.host["heartbeat"] == 1.0
    assert sample.host["driver_up"] is None
    assert set(house.latest.snapshot().host) & {"driver_up", "gpu_count", "gpu_missing_count"} == set()


def test_xids_are_told_by_gpu_and_can_be_told_alone() -> None:
    house = House()
    house.take(BOTH)
    house.xids.record(XidEvent(GPU.uuid, None, 79, 1e9, None, "nvml"))

    sample = house.overview.of_xids(1e9, 101)

    assert sample.gpus[0].values == {
        "xid_error_count": 1.0,
        "xid_critical_count": 1.0,
        "xid_last_code": 79.0,
        "xid_last_unix_seconds": 1e9,
    }
    assert sample.gpus[1].values["xid_error_count"] == 0.0
    house.take(BOTH)  # no slow one, and yet it shows at once what follows from them
    assert house.latest.snapshot().gpus[0].xids == {79: 1}
    assert house.latest.snapshot().gpus[0].values["xid_critical_count"] == 1
    assert house.latest.snapshot().host["gpu_unhealthy_count"] == 1


def test_xids_of_the_kernel_log_find_their_gpu_by_its_address() -> None:
    house = House()
    house.xids.record(XidEvent(None, "0000:00:1e.0", 79, 1e9, None, "kmsg"))
    addressed = gpu_sample(type(GPU)(GPU.uuid, 0, "x", "00000000:00:1E.0"), gpu_up=1.0)

    house.take(Reading((addressed,)))

    assert house.overview.of_xids(1e9, 101).gpus[0].values["xid_error_count"] == 1.0


def test_a_snapshot_has_the_driver_version_and_the_sinks() -> None:
    house = House()
    house.take(BOTH)

    assert house.latest.snapshot().driver_version == "580.1"
    assert house.latest.snapshot().sinks == house.stats


def test_a_gpu_that_the_driver_counts_and_cannot_open_is_missed() -> None:
    house = House()

    assert house.take(Reading(BOTH.gpus, "580.1", counted=3)).host["gpu_missing_count"] == 1
