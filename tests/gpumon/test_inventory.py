from __future__ import annotations

import json

import pytest

from gpumon.inventory import Inventory
from gpumon.samples import Gpu, GpuSample
from tests.gpumon.fakes import gpu_sample

MACHINE, BOOT = "ec2 g5.12xlarge", "boot-1"
GPUS = [Gpu(f"GPU-{index}", index, "NVIDIA A10G", f"00000000:0{index}:00.0", index) for index in range(4)]
OTHERS = [Gpu(f"GPU-x{index}", index, "NVIDIA A10G", f"00000000:0{index}:00.0", index) for index in range(4)]


def reading(up: list[Gpu], lost: list[Gpu] | None = None) -> list[GpuSample]:
    return [gpu_sample(gpu, gpu_up=1.0) for gpu in up] + [gpu_sample(gpu, gpu_up=0.0) for gpu in lost or []]


def after(inventory: Inventory, machine: str = MACHINE, boot: str = BOOT) -> Inventory:
    """Return what the next process knows."""
    return Inventory(machine, boot, json.loads(json.dumps(inventory.remembered())))


@pytest.fixture
def inventory() -> Inventory:
    inventory = Inventory(MACHINE, BOOT)
    inventory.see(reading(GPUS))
    return inventory


def test_expected_is_what_the_bus_shows_or_what_was_ever_seen(inventory: Inventory) -> None:
    assert Inventory(MACHINE, BOOT).expected_count(None) == 0
    assert [inventory.expected_count(count) for count in (None, 0, 3, 8)] == [4, 4, 4, 8]


def test_gpus_are_remembered_by_the_next_process(inventory: Inventory) -> None:
    assert after(inventory).gpus == tuple(GPUS)
    assert after(inventory).expected_count(None) == 4


def test_a_gpu_that_is_gone_after_a_reboot_is_missed(inventory: Inventory) -> None:
    rebooted = after(inventory, boot="boot-2")

    seen = rebooted.see(reading(GPUS[:3], lost=GPUS[3:]))

    assert [(sample.gpu, sample.values["gpu_up"]) for sample in seen][-1] == (GPUS[3], 0.0)
    assert rebooted.expected_count(3) == 4


def test_other_hardware_after_a_stop_and_start_replaces_the_gpus_but_not_their_number(inventory: Inventory) -> None:
    restarted = after(inventory, boot="boot-2")

    seen = restarted.see(reading(OTHERS[:3], lost=GPUS))

    assert [sample.gpu for sample in seen] == OTHERS[:3]
    assert restarted.gpus == tuple(OTHERS[:3])
    assert restarted.expected_count(None) == 4


def test_within_a_boot_hardware_does_not_change(inventory: Inventory) -> None:
    restarted = after(inventory)

    assert len(restarted.see(reading(OTHERS[:1], lost=GPUS))) == 5


def test_nothing_is_forgotten_while_no_gpu_answers(inventory: Inventory) -> None:
    restarted = after(inventory, boot="boot-2")

    assert len(restarted.see(reading([], lost=GPUS))) == 4
    assert restarted.gpus == tuple(GPUS)


def test_another_machine_begins_with_nothing(inventory: Inventory) -> None:
    assert after(inventory, machine="ec2 g5.xlarge").gpus == ()
    assert after(inventory, machine="ec2 g5.xlarge").expected_count(1) == 1


@pytest.mark.parametrize(
    "damage", [{"gpus": 5}, {"gpus": [{}]}, {"gpus": ["x"]}, {"most_count": "x"}, {"gpus": None}, {"most_count": 1e999}]
)
def test_what_cannot_be_read_counts_as_nothing(inventory: Inventory, damage: dict[str, object]) -> None:
    assert Inventory(MACHINE, BOOT, inventory.remembered() | damage).gpus == ()


def test_a_hostile_number_of_gpus_is_not_missed_for_ever(inventory: Inventory) -> None:
    assert Inventory(MACHINE, BOOT, inventory.remembered() | {"most_count": 10**9}).expected_count(4) == 256


def test_gpus_of_an_earlier_boot_are_forgotten_once(inventory: Inventory, caplog: pytest.LogCaptureFixture) -> None:
    restarted = after(inventory, boot="boot-2")
    for _ in range(3):
        restarted.see(reading(OTHERS, lost=GPUS))

    assert caplog.text.count("forgetting 4") == 1
