"""The program that runs on the instance, with the simulated driver's libnvidia-ml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpunodes.proof.nvml_readings import summed_up
from gpunodes.proof.on_instance import read_nvml
from gpunodes.proof.promised_metrics import promised, promised_by_agent
from localaws.simgpu import driver
from localaws.simgpu.gpu_values import NvmlReturn
from localaws.simgpu.gpus import SimulatedGpus

GIB = 2**30
PATIENCE_SECONDS = 30
# Values of gpumon's that no plain call gives: what it counts itself, or makes of several readings.
NOT_READ = {"xid_error_count", "xid_critical_count", "pcie_link_degraded"}


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("driver")
    driver.build(folder)
    return folder


class Machine:
    """A machine with simulated GPUs, and the program as the instance runs it."""

    def __init__(self, folder: Path, libraries: Path) -> None:
        self.folder, self._libraries = folder, libraries
        self.gpus = SimulatedGpus(folder / "state")
        self.program: subprocess.Popen[str] | None = None

    def start(self, seconds: float = 100 * PATIENCE_SECONDS) -> None:
        self.program = subprocess.Popen(
            [sys.executable, "-I", "-B", read_nvml.__file__, str(self.folder), str(seconds)],
            env={"SIMGPU_STATE": str(self.folder / "state"), "LD_LIBRARY_PATH": str(self._libraries)},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def text(self) -> str:
        path = self.folder / "readings"
        return path.read_text() if path.exists() else ""

    def documents(self, count: int) -> list[dict[str, Any]]:
        """The first lines, once they are there."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if self.text().count("\n") >= count:
                return [json.loads(line) for line in self.text().splitlines()][:count]
            os.sched_yield()
        pytest.fail(f"the program wrote no {count} lines: {self.text()}")

    def end(self) -> tuple[int, str]:
        assert self.program is not None
        _, errors = self.program.communicate(timeout=PATIENCE_SECONDS)
        return self.program.returncode, errors

    def first(self, index: int = 0) -> tuple[dict[str, float], list[str]]:
        """The first reading of a GPU, and what it does not have."""
        self.start()
        head, reading = self.documents(2)
        uuid = next(uuid for uuid, number in head["gpus"].items() if number == index)
        return reading["values"][uuid], head["unsupported"][uuid]


@pytest.fixture
def machine(tmp_path: Path, libraries: Path) -> Iterator[Machine]:
    """A g5.12xlarge: four A10G."""
    made = Machine(tmp_path, libraries)
    assert made.gpus.install("g5.12xlarge", "i-0123456789abcdef0") == 4
    yield made
    if made.program is not None:
        made.program.kill()
        made.program.communicate()


def test_values_are_in_the_units_of_their_names(machine: Machine) -> None:
    machine.gpus.set(
        2,
        memory_used_bytes=3 * GIB,
        temperature_celsius=81,
        power_milliwatts=123_500,
        utilization_gpu_percent=70,
        utilization_memory_percent=30,
        clock_sm_mhz=1710,
        clocks_event_reasons=0x4 | 0x40,
        ecc_corrected_volatile=5,
        remapped_rows_pending=1,
        recovery_action=2,
    )

    values, _ = machine.first(2)

    total, reserved = (machine.gpus.read(2)[f"memory_{what}_bytes"] for what in ("total", "reserved"))
    assert values["memory_used_bytes"] == 3 * GIB
    assert values["memory_free_bytes"] == int(total) - int(reserved) - 3 * GIB
    assert values["memory_utilization_percent"] == pytest.approx(100 * 3 * GIB / (int(total) - int(reserved)))
    expected = {
        "temperature_celsius": 81,
        "power_watts": 123.5,
        "gpu_utilization_percent": 70,
        "memory_bandwidth_utilization_percent": 30,
        "sm_clock_megahertz": 1710,
        "throttled_power_percent": 100,
        "throttled_thermal_percent": 100,
        "throttled_hw_slowdown_percent": 0,
        "throttled_power_brake_percent": 0,
        "ecc_correctable_count": 5,
        "ecc_uncorrectable_count": 0,
        "row_remap_pending": 1,
        "row_remap_failure": 0,
        "recovery_action": 2,
        "process_count": 0,
        "gpu_up": 1,
    }
    assert {reader: values[reader] for reader in expected} == expected


def test_everything_that_the_image_promises_of_a_gpu_is_read_or_known_not_to_be_there(machine: Machine) -> None:
    values, unsupported = machine.first()

    wanted = {promise.reader for promise in promised() if promise.scope == "gpu"} - NOT_READ
    assert wanted - set(values) - set(unsupported) == set()
    assert unsupported == ["nvlink_error_count", "fan_speed_percent"]


def test_sum_of_nvlink_errors_is_that_of_all_kinds(machine: Machine) -> None:
    machine.gpus.install("p4d.24xlarge", "i-0123456789abcdef0")
    kinds = ("crc_flit", "crc_data", "replay", "recovery")
    machine.gpus.set(0, **{f"nvlink_{kind}_errors": 2 + number for number, kind in enumerate(kinds)})

    assert machine.first()[0]["nvlink_error_count"] == 2 + 3 + 4 + 5


def test_what_a_gpu_does_not_have_is_said_and_what_fails_is_left_out(machine: Machine) -> None:
    machine.gpus.set(0, power_milliwatts=None)
    machine.gpus.fail(0, "nvmlDeviceGetTemperature", NvmlReturn.UNKNOWN)
    machine.gpus.fail(0, "nvmlDeviceGetMaxPcieLinkGeneration", NvmlReturn.NOT_SUPPORTED)
    machine.gpus.fail_field(0, 230, NvmlReturn.INVALID_ARGUMENT)

    values, unsupported = machine.first()

    assert not {"power_watts", "temperature_celsius", "recovery_action"} & set(values)
    assert {"power_watts", "recovery_action", "pcie_link_degraded"} <= set(unsupported)
    assert "temperature_celsius" not in unsupported
    assert "memory_used_bytes" in values


def test_older_driver_counts_reserved_memory_as_used(machine: Machine) -> None:
    machine.gpus.fail(0, "nvmlDeviceGetMemoryInfo_v2", NvmlReturn.FUNCTION_NOT_FOUND)

    values, _ = machine.first()

    assert values["memory_used_bytes"] == int(machine.gpus.read(0)["memory_reserved_bytes"])


def test_lost_gpu_has_no_values_and_the_others_have(machine: Machine) -> None:
    machine.start()
    head = machine.documents(2)[0]
    machine.gpus.lose(1)
    seen = len(machine.text().splitlines())

    values = machine.documents(seen + 2)[-1]["values"]

    lost = next(uuid for uuid, index in head["gpus"].items() if index == 1)
    assert {uuid: bool(values[uuid]) for uuid in head["gpus"]} == {uuid: uuid != lost for uuid in head["gpus"]}


def test_it_reads_once_a_second_until_it_is_told_to_stop(machine: Machine) -> None:
    machine.start()
    times = [document["time"] for document in machine.documents(4)[1:]]
    (machine.folder / "stop").touch()

    assert machine.end() == (0, "")
    assert times[1] - times[0] == pytest.approx(1.0, abs=0.4)
    assert times[2] - times[0] == pytest.approx(2.0, abs=0.4)


def test_nobody_need_stop_it(machine: Machine) -> None:
    machine.start(seconds=0.1)

    assert machine.end() == (0, "")
    read = summed_up(machine.text())
    assert sorted(read.indices.values()) == [0, 1, 2, 3]
    assert len(read.minutes) > 4 * 20


def test_driver_that_is_not_loaded_is_an_error(machine: Machine) -> None:
    machine.gpus.unload_driver()
    machine.start()

    assert machine.end() == (1, "")
    assert list(machine.documents(1)[0]) == ["error"]


def test_the_host_is_read_beside_the_gpus(machine: Machine) -> None:
    machine.start()
    _, reading = machine.documents(2)

    assert set(reading["values"][read_nvml.HOST]) == {promise.metric for promise in promised_by_agent()}
    assert all(0 <= value <= 100 for value in reading["values"][read_nvml.HOST].values())


@pytest.mark.parametrize(("swap_kib", "swap_percent"), [(2000, 25.0), (0, 0.0)])
def test_host_values_are_the_agents(tmp_path: Path, *, swap_kib: int, swap_percent: float) -> None:
    meminfo = tmp_path / "meminfo"
    lines = {"MemTotal": 8000, "MemFree": 1000, "Buffers": 500, "Cached": 2000, "SReclaimable": 500}
    lines |= {"SwapTotal": swap_kib, "SwapFree": swap_kib * 3 // 4}
    meminfo.write_text("".join(f"{name}: {value} kB\n" for name, value in lines.items()))

    values = read_nvml.host(meminfo, str(tmp_path))

    assert (values["mem_used_percent"], values["swap_used_percent"]) == (50.0, swap_percent)
    disk = os.statvfs(tmp_path)
    assert values["disk_used_percent"] == pytest.approx(
        100 * (disk.f_blocks - disk.f_bfree) / (disk.f_blocks - disk.f_bfree + disk.f_bavail), abs=0.5
    )
