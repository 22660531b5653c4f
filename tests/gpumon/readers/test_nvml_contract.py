"""The real pynvml and our reader against the simulated driver, in a process that loads it as it would load NVIDIA's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpumon.metrics import load_metrics
from gpumon.readers.nvml import REPROBE_SECONDS, RESCAN_SECONDS, VALUE_NAMES
from localaws.simgpu.gpus import SimulatedGpus

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
PROGRAM = Path(__file__).with_name("reading_program.py")
MIB = 2**20

NOT_SUPPORTED, FUNCTION_NOT_FOUND, UNKNOWN, DRIVER_NOT_LOADED, MISMATCH = 3, 13, 999, 9, 18


class Reading:
    """A process that reads when asked."""

    def __init__(self, libraries: Path, state: Path, log: Path) -> None:
        self.log = log
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SIMGPU_STATE": str(state),
            "LD_LIBRARY_PATH": str(libraries),
        }
        self._log_file = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log_file,
            env=environment,
            text=True,
        )

    def read(self, after_seconds: float = 1.0) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{after_seconds}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self.log.read_text()
        return json.loads(line)

    def close(self) -> None:
        self._process.communicate(timeout=10)
        self._log_file.close()
        assert self._process.returncode == 0, self.log.read_text()


@pytest.fixture
def gpus(tmp_path: Path) -> SimulatedGpus:
    gpus = SimulatedGpus(tmp_path / "state")
    gpus.install("g5.12xlarge", "i-0123456789abcdef0")
    return gpus


@pytest.fixture
def reading(driver_directory: Path, tmp_path: Path, gpus: SimulatedGpus) -> Iterator[Reading]:  # noqa: ARG001 - state first
    reading = Reading(driver_directory, tmp_path / "state", tmp_path / "log")
    yield reading
    reading.close()


def nothing(sample: dict[str, Any]) -> bool:
    return all(sample[name] is None for name in VALUE_NAMES)


def test_every_metric_of_the_table_is_read_and_nothing_else() -> None:
    assert sorted(metric.reader for metric in load_metrics() if metric.scope == "gpu") == sorted(VALUE_NAMES)


def test_values_are_those_of_the_driver(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.set(
        2,
        memory_used_bytes=1000 * MIB,
        utilization_gpu_percent=37,
        utilization_memory_percent=12,
        temperature_celsius=61,
        power_milliwatts=123_456,
        clock_sm_mhz=1695,
    )
    state = {key: int(value) for key, value in gpus.read(2).items() if value.isdecimal()}
    total, reserved = state["memory_total_bytes"], state["memory_reserved_bytes"]

    samples = reading.read()

    assert [sample["index"] for sample in samples] == [0, 1, 2, 3]
    assert samples[2] == {
        "index": 2,
        "uuid": gpus.read(2)["uuid"],
        "name": "NVIDIA A10G",
        "memory_used_bytes": 1000 * MIB,
        "memory_free_bytes": total - reserved - 1000 * MIB,
        "memory_total_bytes": total,
        "memory_reserved_bytes": reserved,
        "memory_utilization_percent": 100 * 1000 * MIB / (total - reserved),
        "gpu_utilization_percent": 37,
        "memory_bandwidth_utilization_percent": 12,
        "temperature_celsius": 61,
        "power_watts": 123.456,
        "sm_clock_megahertz": 1695,
        "process_count": 0,
    }
    assert samples[0]["memory_used_bytes"] == 0


@pytest.mark.parametrize("refusal", [NOT_SUPPORTED, FUNCTION_NOT_FOUND])
def test_memory_comes_from_version_1_where_version_2_is_refused(
    gpus: SimulatedGpus, reading: Reading, refusal: int
) -> None:
    gpus.set(0, memory_used_bytes=1000 * MIB)
    gpus.fail(0, "nvmlDeviceGetMemoryInfo_v2", refusal)
    reserved = int(gpus.read(0)["memory_reserved_bytes"])

    first, second, *_ = reading.read()

    assert first["memory_used_bytes"] == 1000 * MIB + reserved
    assert first["memory_total_bytes"] == first["memory_used_bytes"] + first["memory_free_bytes"]
    assert first["memory_reserved_bytes"] is None
    assert first["memory_utilization_percent"] == 100 * first["memory_used_bytes"] / first["memory_total_bytes"]
    assert second["memory_reserved_bytes"] == reserved


@pytest.mark.parametrize(
    ("function", "lost"),
    [
        (
            "nvmlDeviceGetMemoryInfo_v2",
            [name for name in VALUE_NAMES if name.startswith("memory_") and "band" not in name],
        ),
        ("nvmlDeviceGetUtilizationRates", ["gpu_utilization_percent", "memory_bandwidth_utilization_percent"]),
        ("nvmlDeviceGetTemperatureV", ["temperature_celsius"]),
        ("nvmlDeviceGetPowerUsage", ["power_watts"]),
        ("nvmlDeviceGetClockInfo", ["sm_clock_megahertz"]),
        ("nvmlDeviceGetComputeRunningProcesses_v3", ["process_count"]),
    ],
)
@pytest.mark.parametrize("code", [UNKNOWN, DRIVER_NOT_LOADED])
def test_a_call_that_fails_costs_its_values_only_and_for_that_reading_only(
    gpus: SimulatedGpus, reading: Reading, function: str, lost: list[str], code: int
) -> None:
    gpus.fail(1, function, code)
    samples = reading.read()

    assert [name for name in VALUE_NAMES if samples[1][name] is None] == lost
    assert all(sample[name] is not None for sample in (samples[0], samples[2], samples[3]) for name in VALUE_NAMES)
    gpus.heal(1)
    assert not any(value is None for value in reading.read()[1].values())


def test_what_a_gpu_does_not_support_is_logged_once_and_asked_for_again_only_rarely(
    gpus: SimulatedGpus, reading: Reading
) -> None:
    gpus.fail(0, "nvmlDeviceGetPowerUsage", NOT_SUPPORTED)
    assert [reading.read()[0]["power_watts"] for _ in range(3)] == [None] * 3
    assert reading.log.read_text().count("does not support power") == 1

    gpus.heal(0)

    assert reading.read()[0]["power_watts"] is None
    assert reading.read(REPROBE_SECONDS)[0]["power_watts"] is not None


def test_the_older_temperature_call_serves_where_the_newer_is_missing(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.set(0, temperature_celsius=44)
    gpus.fail(None, "nvmlDeviceGetTemperatureV", FUNCTION_NOT_FOUND)

    assert reading.read()[0]["temperature_celsius"] == 44


def test_a_lost_gpu_costs_its_own_values_and_comes_back(gpus: SimulatedGpus, reading: Reading) -> None:
    before = reading.read()
    gpus.lose(1)

    samples = reading.read()

    assert [nothing(sample) for sample in samples] == [False, True, False, False]
    assert [sample["uuid"] for sample in samples] == [sample["uuid"] for sample in before]
    gpus.restore(1)
    assert nothing(reading.read()[1])
    assert reading.read(RESCAN_SECONDS) == before


def test_a_host_that_lost_every_gpu_looks_for_them_anew(gpus: SimulatedGpus, reading: Reading) -> None:
    before = reading.read()
    for index in range(4):
        gpus.lose(index)
    assert reading.read() == "DriverUnavailableError"
    assert [nothing(sample) for sample in reading.read()] == [True] * 4

    for index in range(4):
        gpus.restore(index)

    assert reading.read(RESCAN_SECONDS) == before


def test_a_gpu_that_is_lost_from_the_start_does_not_hide_the_others(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.lose(0)
    assert [sample["index"] for sample in reading.read()] == [1, 2, 3]

    gpus.restore(0)

    assert sorted(sample["index"] for sample in reading.read(RESCAN_SECONDS)) == [0, 1, 2, 3]


def test_a_driver_that_is_not_loaded_is_waited_for(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.unload_driver()
    assert reading.read() == "DriverUnavailableError"

    gpus.load_driver()

    assert len(reading.read()) == 4


def test_a_driver_that_is_unloaded_under_us_is_found_again(gpus: SimulatedGpus, reading: Reading) -> None:
    before = reading.read()
    gpus.unload_driver()
    assert reading.read() == "DriverUnavailableError"
    assert reading.read() == "DriverUnavailableError"

    gpus.load_driver()

    assert reading.read() == before


def test_a_library_of_another_driver_version_is_told_apart(gpus: SimulatedGpus, reading: Reading) -> None:
    gpus.fail(None, "nvmlInitWithFlags", MISMATCH)

    assert reading.read() == "DriverMismatchError"


def test_a_missing_library_is_a_driver_that_is_not_there(tmp_path: Path) -> None:
    if _system_has_nvml():
        pytest.skip("this machine has a libnvidia-ml.so.1 of its own")
    reading = Reading(tmp_path / "empty", tmp_path, tmp_path / "log")

    assert reading.read() == "DriverUnavailableError"
    reading.close()


def _system_has_nvml() -> bool:
    answer = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False)
    return "libnvidia-ml.so.1" in answer.stdout
