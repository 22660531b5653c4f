"""GPUs that are lost, in all ways in which the driver shows it, and found again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpumon.readers import Due
from gpumon.readers.nvml import RESCAN_SECONDS
from gpumon.samples import Gpu
from tests.gpumon.readers.nvml.reading import GPU_IS_LOST, GPU_NOT_FOUND, RESET_REQUIRED, SAMPLE_CALLS, UNKNOWN, up

if TYPE_CHECKING:
    from collections.abc import Callable

    from localaws.simgpu.gpus import SimulatedGpus
    from tests.gpumon.readers.nvml.reading import Reading

WAYS = ["lost", "unknown", "vanished"]


@pytest.mark.parametrize("due", [Due.SAMPLE, Due.BUFFER, Due.SLOW, Due.SAMPLE | Due.BUFFER | Due.SLOW])
@pytest.mark.parametrize("how", WAYS)
def test_a_lost_gpu_costs_its_own_values_and_comes_back(
    gpus: SimulatedGpus, reading: Reading, how: str, due: Due
) -> None:
    before = reading.gpus()
    gpus.lose(1, how)

    answer = reading.read(due)

    samples = answer["gpus"]
    assert up(samples) == [1, 0, 1, 1]
    assert samples[1]["values"] == {"gpu_up": 0}
    identity = ("uuid", "index", "name", "pci_bus_id", "minor_number")
    assert [[sample[key] for key in identity] for sample in samples] == [
        [gpu[key] for key in identity] for gpu in before
    ]
    assert answer["error_count"] == 1
    assert reading.log.count("is lost (") == 1
    gpus.restore(1)
    assert up(reading.gpus()) == [1, 0, 1, 1]
    assert up(reading.gpus(after_seconds=RESCAN_SECONDS)) == [1, 1, 1, 1]


@pytest.mark.parametrize("how", WAYS)
def test_a_gpu_that_stays_lost_is_looked_for_without_harm_to_the_others(
    gpus: SimulatedGpus, reading: Reading, how: str
) -> None:
    reading.read()
    gpus.lose(1, how)
    for _ in range(4):
        assert up(reading.gpus(after_seconds=RESCAN_SECONDS)) == [1, 0, 1, 1]

    gpus.restore(1)

    samples = reading.gpus(after_seconds=RESCAN_SECONDS)
    assert up(samples) == [1, 1, 1, 1]
    assert len(samples[1]["values"]) > 70  # it is new again: everything


def test_the_handle_of_a_lost_gpu_is_not_used_again(gpus: SimulatedGpus, reading: Reading) -> None:
    reading.read()
    gpus.lose(1)
    reading.read(Due.SAMPLE)

    answer = reading.read(Due.SAMPLE)

    assert answer["error_count"] == 0
    assert up(answer["gpus"]) == [1, 0, 1, 1]


@pytest.mark.parametrize("code", [GPU_IS_LOST, GPU_NOT_FOUND, RESET_REQUIRED])
def test_one_call_that_says_so_is_enough(gpus: SimulatedGpus, reading: Reading, code: int) -> None:
    reading.read()
    gpus.fail(2, "nvmlDeviceGetPowerUsage", code)

    assert reading.values(2, Due.SAMPLE) == {"gpu_up": 0}


@pytest.mark.parametrize("code", [UNKNOWN, 17])  # 17: OPERATING_SYSTEM
def test_a_gpu_of_which_nothing_can_be_read_is_down(gpus: SimulatedGpus, reading: Reading, code: int) -> None:
    reading.read()
    for function in SAMPLE_CALLS:
        gpus.fail(2, function, code)

    answer = reading.read(Due.SAMPLE)

    assert up(answer["gpus"]) == [1, 1, 0, 1]
    assert answer["gpus"][2]["values"] == {"gpu_up": 0}
    gpus.heal(2)
    assert up(reading.gpus(after_seconds=RESCAN_SECONDS)) == [1, 1, 1, 1]


def test_a_gpu_of_which_one_thing_can_be_read_is_up(gpus: SimulatedGpus, reading: Reading) -> None:
    reading.read()
    for function in SAMPLE_CALLS[1:]:
        gpus.fail(2, function, UNKNOWN)

    assert reading.values(2, Due.SAMPLE)["gpu_up"] == 1


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("instance_type", ["g5.12xlarge", "g5.xlarge"])
def test_a_host_that_lost_every_gpu_says_so_and_finds_them_again(
    gpus: SimulatedGpus, start: Callable[..., Reading], instance_type: str, how: str
) -> None:
    count = gpus.install(instance_type, "i-0123456789abcdef0")
    reading = start()
    reading.read()
    for index in range(count):
        gpus.lose(index, how)

    assert [up(reading.gpus(Due.SAMPLE)) for _ in range(3)] == [[0] * count] * 3
    for index in range(count):
        gpus.restore(index)

    assert up(reading.gpus(after_seconds=RESCAN_SECONDS)) == [1] * count


@pytest.mark.parametrize("how", WAYS)
def test_a_gpu_that_is_lost_from_the_start_does_not_hide_the_others(
    gpus: SimulatedGpus, reading: Reading, how: str
) -> None:
    everyone = [gpus.read(index)["uuid"] for index in range(4)]
    gpus.lose(0, how)

    assert [sample["uuid"] for sample in reading.gpus()] == everyone[1:]
    gpus.restore(0)
    found = reading.gpus(after_seconds=RESCAN_SECONDS)
    assert [sample["uuid"] for sample in found] == everyone
    assert [sample["index"] for sample in found] == [0, 1, 2, 3]
    assert up(found) == [1, 1, 1, 1]


def test_a_gpu_keeps_its_index_while_another_one_is_gone(gpus: SimulatedGpus, reading: Reading) -> None:
    reading.read()
    gpus.lose(0, "vanished")  # for the driver, the others have moved down

    assert [sample["index"] for sample in reading.gpus(after_seconds=RESCAN_SECONDS)] == [0, 1, 2, 3]
    assert [sample["index"] for sample in reading.gpus(after_seconds=RESCAN_SECONDS)] == [0, 1, 2, 3]


def test_an_index_that_cannot_be_opened_hides_no_other(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.fail(1, "nvmlDeviceGetHandleByIndex_v2", UNKNOWN)

    answer = reading.read()

    assert [sample["index"] for sample in answer["gpus"]] == [0, 2, 3]
    assert answer["error_count"] == 1
    assert "index 1 cannot be opened: Unknown Error" in reading.log


def remembered(gpus: SimulatedGpus, index: int) -> Gpu:
    state = gpus.read(index)
    return Gpu(state["uuid"], index, "NVIDIA A10G", f"0000{state['pci_bus_id'].upper()}", index)


def test_gpus_of_an_earlier_process_are_lost_until_they_are_found(
    gpus: SimulatedGpus, start: Callable[..., Reading]
) -> None:
    gpus.lose(1, "vanished")
    reading = start(known=[remembered(gpus, index) for index in range(4)])

    samples = reading.gpus()

    lost = [sample for sample in samples if sample["values"] == {"gpu_up": 0}]
    assert [sample["uuid"] for sample in lost] == [gpus.read(1)["uuid"]]
    assert len(samples) == 4
    gpus.restore(1)
    assert up(reading.gpus(after_seconds=RESCAN_SECONDS)) == [1, 1, 1, 1]


BY_INDEX = "nvmlDeviceGetHandleByIndex_v2"


@pytest.mark.parametrize("refused", [[BY_INDEX], [BY_INDEX, "nvmlDeviceGetHandleByUUID"]])
def test_a_remembered_gpu_is_opened_by_its_uuid_or_its_address_where_its_index_does_not_serve(
    gpus: SimulatedGpus, start: Callable[..., Reading], refused: list[str]
) -> None:
    for function in refused:
        gpus.fail(1, function, UNKNOWN)

    samples = start(known=[remembered(gpus, 1)]).gpus()

    assert up(samples) == [1, 1, 1, 1]
    assert samples[1]["uuid"] == gpus.read(1)["uuid"]


def test_an_address_that_holds_another_gpu_now_is_not_taken_for_the_old_one(
    gpus: SimulatedGpus, start: Callable[..., Reading]
) -> None:
    old = Gpu("GPU-00000000-0000-0000-0000-000000000000", 1, "NVIDIA A10G", remembered(gpus, 1).pci_bus_id, 1)

    samples = start(known=[old]).gpus()

    assert {sample["uuid"]: sample["values"]["gpu_up"] for sample in samples} == {
        old.uuid: 0,
        **{gpus.read(index)["uuid"]: 1 for index in range(4)},
    }


def test_activity_of_a_gpu_that_was_lost_begins_anew(gpus: SimulatedGpus, start: Callable[..., Reading]) -> None:
    gpus.install("p5.48xlarge", "i-0123456789abcdef0")
    reading = start()
    reading.read()
    gpus.lose(1)
    reading.read()
    gpus.restore(1)

    values = reading.values(1, after_seconds=RESCAN_SECONDS)

    assert (values["gpu_up"], values["sm_active_percent"]) == (1, None)
