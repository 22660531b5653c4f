"""MIG: instances that are found, come and go, and have memory and activity of their own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from gpumon.readers import Due
from gpumon.readers.nvml import REPROBE_SECONDS, RESCAN_SECONDS
from gpumon.readers.nvml.mig import profile_of
from tests.gpumon.readers.nvml.reading import MIB, NOT_SUPPORTED, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from localaws.simgpu.gpus import SimulatedGpus
    from tests.gpumon.readers.nvml.reading import Reading

MEMORY = {
    "memory_used_bytes",
    "memory_free_bytes",
    "memory_total_bytes",
    "memory_reserved_bytes",
    "memory_utilization_percent",
}


@pytest.fixture
def gpus(gpus: SimulatedGpus) -> SimulatedGpus:
    """Eight A100 with 40 GB; the first is divided in three."""
    gpus.install("p4d.24xlarge", "i-0123456789abcdef0")
    gpus.set_mig(0, [("1g.5gb", 100 * MIB), ("2g.10gb", 200 * MIB), None, ("3g.20gb", 300 * MIB)])
    return gpus


def instances(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [sample for sample in samples if sample["mig"] is not None]


def test_each_instance_is_there_after_its_gpu(gpus: SimulatedGpus, reading: Reading) -> None:
    samples = reading.gpus()

    assert [sample["index"] for sample in samples] == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7]
    parent, *divided = samples[:4]
    assert parent["mig"] is None
    assert {sample["mig"]["profile"] for sample in divided} == {"1g.5gb", "2g.10gb", "3g.20gb"}
    numbers = [sample["mig"]["gpu_instance_id"] for sample in divided]
    assert numbers == sorted(set(numbers))
    assert all(sample["mig"]["uuid"].startswith("MIG-") for sample in divided)
    same = ("uuid", "name", "pci_bus_id", "minor_number")
    assert all(sample[key] == parent[key] for sample in divided for key in same)
    assert parent["uuid"] == gpus.read(0)["uuid"]


def test_several_compute_instances_of_one_gpu_instance_are_one_entry(
    gpus: SimulatedGpus, reading: Reading, tmp_path: Path
) -> None:
    gpus.set_mig(0, [("3g.20gb", 0)])
    number, _, *rest, uuid = gpus.read(0)["mig_instance.0"].split(",")
    second = ",".join([number, "1", *rest, f"{uuid[:-1]}x"])
    with (tmp_path / "state" / "gpu0").open("a") as state:
        state.write(f"mig_instance.1={second}\n")

    divided = instances(reading.gpus())

    assert [sample["mig"]["uuid"] for sample in divided] == [uuid]


def test_memory_of_an_instance_is_its_own(reading: Reading) -> None:
    reading.read()

    divided = instances(reading.gpus(Due.SAMPLE))

    assert all(set(sample["values"]) == MEMORY | {"gpu_up"} for sample in divided)
    used = {sample["mig"]["profile"]: sample["values"]["memory_used_bytes"] for sample in divided}
    assert used == {"1g.5gb": 100 * MIB, "2g.10gb": 200 * MIB, "3g.20gb": 300 * MIB}
    assert all(sample["values"]["memory_total_bytes"] < 21 * 2**30 for sample in divided)


def test_a_gpu_that_is_divided_is_not_asked_for_its_utilization_each_second(
    gpus: SimulatedGpus, reading: Reading
) -> None:
    assert reading.values()["gpu_utilization_now_percent"] is None
    gpus.fail(0, "nvmlDeviceGetUtilizationRates", UNKNOWN)  # which counts as an error where it is asked

    answer = reading.read(Due.SAMPLE | Due.BUFFER)

    values = answer["gpus"][0]["values"]
    assert answer["error_count"] == 0
    assert (values["gpu_utilization_now_percent"], values["gpu_utilization_percent"]) == (None, None)
    assert values["gpu_up"] == 1
    assert values["power_watts"] is not None


def test_instances_come_and_go_with_slow_readings(gpus: SimulatedGpus, reading: Reading) -> None:
    reading.read()
    gpus.set_mig(0, [("1g.5gb", 0), ("2g.10gb", 0), ("1g.5gb", 0), ("3g.20gb", 0)])
    assert len(instances(reading.gpus(Due.SAMPLE))) == 3

    assert len(instances(reading.gpus(Due.SAMPLE | Due.SLOW))) == 4
    gpus.set_mig(0, None)
    assert instances(reading.gpus(Due.SAMPLE | Due.SLOW)) == []


def test_an_instance_that_was_removed_is_gone_at_the_next_reading(gpus: SimulatedGpus, reading: Reading) -> None:
    reading.read()
    gpus.set_mig(0, [("1g.5gb", 0)])

    assert [sample["mig"]["profile"] for sample in instances(reading.gpus(Due.SAMPLE))] == ["1g.5gb"]
    assert reading.read(Due.SAMPLE)["error_count"] == 0


def test_an_instance_that_does_not_answer_is_down_and_its_gpu_up(gpus: SimulatedGpus, reading: Reading) -> None:
    reading.read()
    gpus.fail(0, "nvmlDeviceGetMemoryInfo_v2", UNKNOWN)

    parent, *divided = reading.gpus(Due.SAMPLE)[:4]

    assert parent["values"]["gpu_up"] == 1
    assert [sample["values"] for sample in divided] == [{"gpu_up": 0}] * 3


def test_a_lost_gpu_takes_its_instances_with_it(gpus: SimulatedGpus, reading: Reading) -> None:
    reading.read()
    gpus.lose(0)

    samples = reading.gpus(Due.SAMPLE)

    assert instances(samples) == []
    assert samples[0]["values"] == {"gpu_up": 0}
    gpus.restore(0)
    assert len(instances(reading.gpus(after_seconds=RESCAN_SECONDS))) == 3


def test_utilization_is_asked_for_again_some_time_after_mig_mode_ended(gpus: SimulatedGpus, reading: Reading) -> None:
    reading.read()
    gpus.set_mig(0, None)
    gpus.set(0, utilization_gpu_percent=33)

    values = reading.values(after_seconds=REPROBE_SECONDS)

    assert values["gpu_utilization_now_percent"] == 33


def test_activity_of_an_instance_where_the_gpu_measures_it(gpus: SimulatedGpus, start: Callable[..., Reading]) -> None:
    gpus.install("p5.48xlarge", "i-0123456789abcdef0")
    gpus.set_mig(0, [("1g.10gb", 0), ("3g.40gb", 0)])
    gpus.set(0, gpm_sm_active_percent=55)
    reading = start()
    assert [sample["values"]["sm_active_percent"] for sample in instances(reading.gpus())] == [None, None]
    time.sleep(0.15)  # nvml.h: more than 100 ms apart

    divided = instances(reading.gpus(Due.SLOW, after_seconds=60))

    assert [sample["values"]["sm_active_percent"] for sample in divided] == [55, 55]


@pytest.mark.parametrize(
    ("profile", "slices", "memory_mib"),
    [("1g.5gb", 1, 4864), ("2g.10gb", 2, 9856), ("3g.20gb", 3, 19968), ("7g.40gb", 7, 40192)],
)
def test_the_profile_is_worked_out_where_the_name_does_not_tell(profile: str, slices: int, memory_mib: int) -> None:
    assert profile_of(slices, memory_mib, 40960 * MIB) == profile


def test_a_gpu_that_cannot_be_divided_is_not_asked_again(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.fail(1, "nvmlDeviceGetMigMode", NOT_SUPPORTED)
    reading.read()
    gpus.fail(1, "nvmlDeviceGetMigMode", UNKNOWN)

    assert reading.read(Due.SLOW)["error_count"] == 0
