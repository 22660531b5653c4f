"""A driver that is absent, goes away, comes back, or is another one than the library."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from gpumon.readers import Due
from gpumon.readers.nvml import RESCAN_SECONDS
from tests.gpumon.readers.nvml.reading import DRIVER_NOT_LOADED, MISMATCH, SAMPLE_CALLS, UNKNOWN, up

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from localaws.simgpu.gpus import SimulatedGpus
    from tests.gpumon.readers.nvml.reading import Reading

UNINITIALIZED = 1


def test_a_driver_that_is_not_loaded_is_waited_for(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.unload_driver()
    assert reading.read()["error"] == "DriverUnavailableError"

    gpus.load_driver()

    assert up(reading.gpus()) == [1, 1, 1, 1]


@pytest.mark.parametrize("code", [UNKNOWN, UNINITIALIZED, DRIVER_NOT_LOADED])
@pytest.mark.parametrize("due", [Due.SAMPLE, Due.BUFFER, Due.SLOW])
def test_a_driver_that_is_unloaded_under_us_is_found_again(
    gpus: SimulatedGpus, reading: Reading, code: int, due: Due
) -> None:
    before = reading.gpus()
    gpus.unload_driver(code)
    assert reading.read(due)["error"] == "DriverUnavailableError"
    assert reading.read(due)["error"] == "DriverUnavailableError"

    gpus.load_driver()

    after = reading.gpus(due)
    assert [gpu["uuid"] for gpu in after] == [gpu["uuid"] for gpu in before]
    burst = "gpu_utilization_percent"  # among the values only as long as the driver has no samples
    assert [{burst, *gpu["values"]} for gpu in after] == [{burst, *gpu["values"]} for gpu in before]


def test_a_driver_that_is_unloaded_under_us_is_one_sentence_and_no_line_per_gpu(
    gpus: SimulatedGpus, reading: Reading
) -> None:
    reading.read()
    lines = len(reading.log.splitlines())
    gpus.unload_driver()

    answer = reading.read()

    assert answer["message"].startswith("Load the NVIDIA driver")
    assert reading.log.splitlines()[lines:] == []


def test_a_driver_that_was_loaded_anew_between_two_readings_is_no_lost_gpu(
    gpus: SimulatedGpus, reading: Reading
) -> None:
    reading.read()
    gpus.unload_driver()
    gpus.load_driver()

    assert up(reading.gpus(Due.SAMPLE)) == [1, 1, 1, 1]


def test_a_driver_that_goes_while_every_gpu_is_lost_is_noticed(gpus: SimulatedGpus, reading: Reading) -> None:
    reading.read()
    for index in range(4):
        gpus.lose(index)
    assert up(reading.gpus()) == [0, 0, 0, 0]
    gpus.unload_driver()

    assert reading.read(after_seconds=RESCAN_SECONDS)["error"] == "DriverUnavailableError"
    gpus.load_driver()
    assert up(reading.gpus()) == [0, 0, 0, 0]


def test_a_session_in_which_every_gpu_is_lost_is_opened_anew(gpus: SimulatedGpus, reading: Reading) -> None:
    reading.read()
    for index in range(4):
        gpus.lose(index)
    assert [up(reading.gpus()) for _ in range(2)] == [[0, 0, 0, 0]] * 2
    gpus.fail(None, "nvmlInitWithFlags", MISMATCH)

    assert reading.read(after_seconds=RESCAN_SECONDS)["error"] == "DriverMismatchError"


@pytest.mark.parametrize("code", [UNINITIALIZED, DRIVER_NOT_LOADED, MISMATCH])
def test_a_driver_that_every_gpu_misses_is_gone_though_it_still_counts_them(
    gpus: SimulatedGpus, reading: Reading, code: int
) -> None:
    reading.read()
    for function in SAMPLE_CALLS:
        gpus.fail(None, function, code)

    expected = "DriverMismatchError" if code == MISMATCH else "DriverUnavailableError"
    assert reading.read(Due.SAMPLE)["error"] == expected


def test_a_driver_that_is_upgraded_under_us_takes_a_new_process(
    gpus: SimulatedGpus, start: Callable[..., Reading]
) -> None:
    reading = start()
    reading.read()

    gpus.upgrade_driver("590.44.01")

    assert [reading.read()["error"] for _ in range(2)] == ["DriverMismatchError"] * 2
    assert start().read()["driver_version"] == "590.44.01"


def test_a_library_of_another_driver_version_is_told_apart(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.fail(None, "nvmlInitWithFlags", MISMATCH)

    assert reading.read()["error"] == "DriverMismatchError"


def test_a_driver_that_does_not_count_its_gpus_does_not_answer(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.fail(None, "nvmlDeviceGetCount_v2", UNKNOWN)

    assert reading.read()["error"] == "DriverUnavailableError"


def test_a_driver_without_gpus_answers(gpus: SimulatedGpus, reading: Reading) -> None:
    for index in range(4):
        gpus.lose(index, "vanished")

    answer = reading.read()

    assert (answer["gpus"], answer["error_count"]) == ([], 0)
    assert "shows no GPU" in reading.log


def test_a_driver_that_does_not_tell_its_version_is_read_all_the_same(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.fail(None, "nvmlSystemGetDriverVersion", UNKNOWN)

    answer = reading.read()

    assert answer["driver_version"] is None
    assert up(answer["gpus"]) == [1, 1, 1, 1]


def test_a_missing_library_is_a_driver_that_is_not_there(tmp_path: Path, start: Callable[..., Reading]) -> None:
    if _system_has_nvml():
        pytest.skip("this machine has a libnvidia-ml.so.1 of its own")

    answer = start(tmp_path / "empty").read()

    assert answer["error"] == "DriverUnavailableError"
    assert "libnvidia-ml.so.1" in answer["message"]


def _system_has_nvml() -> bool:
    answer = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False)
    return "libnvidia-ml.so.1" in answer.stdout
