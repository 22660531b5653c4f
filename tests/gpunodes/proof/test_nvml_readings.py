"""Starting the program on an instance and collecting what it read; the instance is this machine, with stand-ins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gpunodes.errors import ToolError
from gpunodes.proof import nvml_readings
from gpunodes.proof.datapoints import Minute, floor_minute
from gpunodes.proof.nvml_readings import NvmlReader, NvmlReadings, summed_up
from localaws.simgpu import driver
from localaws.simgpu.gpus import SimulatedGpus
from tests.gpunodes.fakes import FakeClock, executable

MINUTE = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
HEAD = {"gpus": {"GPU-a": 0, "GPU-b": 1}, "unsupported": {"GPU-a": ["fan_speed_percent"], "GPU-b": []}}
# systemd-run without systemd: the options, then the program in the background; its standard output is nobody's.
SYSTEMD_RUN = 'while [ "${1#-}" != "$1" ]; do shift; done\n"$@" >/dev/null 2>&1 </dev/null &\necho $! > "$UNIT"'
SYSTEMCTL = 'if [ -e "$UNIT" ]; then kill "$(cat "$UNIT")" 2>/dev/null; rm "$UNIT"; fi'


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("driver")
    driver.build(folder)
    return folder


class Instance:
    """A shell on this machine; what the program may not find here is elsewhere."""

    def __init__(self, folder: Path, libraries: Path) -> None:
        self.readings = folder / "run"
        self._places = {"/run/gpunodes-nvml": str(self.readings), "/opt/gpumon/bin/python": sys.executable}
        self.gpus = SimulatedGpus(folder / "state")
        executable(folder / "bin", "sudo", 'exec "$@"')
        executable(folder / "bin", "systemd-run", SYSTEMD_RUN)
        executable(folder / "bin", "systemctl", SYSTEMCTL)
        self._environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "UNIT": str(folder / "unit"),
            "SIMGPU_STATE": str(folder / "state"),
            "LD_LIBRARY_PATH": str(libraries),
        }

    def here(self, text: str) -> str:
        for there, here in self._places.items():
            text = text.replace(there, here)
        return text

    def without(self, place: str) -> None:
        """Let something not be there."""
        self._places[place] = "/nowhere"

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["/bin/sh", "-c", self.here(command)], env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ToolError(done.stderr)
        return done.stdout

    def write(self, path: str, content: str) -> None:
        Path(self.here(path)).write_text(content)


@pytest.fixture
def instance(tmp_path: Path, libraries: Path) -> Iterator[Instance]:
    made = Instance(tmp_path, libraries)
    made.gpus.install("g4dn.12xlarge", "i-0123456789abcdef0")
    yield made
    NvmlReader(made).stop()


def lines(*documents: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(document)}\n" for document in documents)


def at(seconds: float, **values: float) -> dict[str, Any]:
    return {"time": MINUTE.timestamp() + seconds, "values": {"GPU-a": values}}


def test_readings_are_summed_up_minute_by_minute() -> None:
    text = lines(HEAD, at(0, power_watts=10), at(59.9, power_watts=40), at(60, power_watts=7), at(61))

    read = summed_up(text)

    assert read.minutes == {
        ("GPU-a", "power_watts"): [
            Minute(MINUTE, 10, 40, 25, 2),
            Minute(MINUTE + timedelta(minutes=1), 7, 7, 7, 1),
        ]
    }
    assert read.unsupported == {"GPU-a": {"fan_speed_percent"}, "GPU-b": frozenset()}
    assert read.indices == {"GPU-a": 0, "GPU-b": 1}


def test_line_that_is_being_written_does_not_count() -> None:
    read = summed_up(lines(HEAD, at(0, power_watts=10)) + '{"time": 1795345839.6, "values": {"GPU-a": {"power')

    assert read.minutes == {("GPU-a", "power_watts"): [Minute(MINUTE, 10, 10, 10, 1)]}


def test_nothing_read_is_nothing() -> None:
    assert summed_up("") == NvmlReadings()


def test_nvml_that_cannot_be_used_is_an_error() -> None:
    with pytest.raises(ToolError, match="NVML cannot be used on the instance: Driver Not Loaded"):
        summed_up(lines({"error": "Driver Not Loaded"}))


def test_what_the_program_does_not_write_is_an_error() -> None:
    with pytest.raises(ToolError, match="cannot be understood"):
        summed_up("Segmentation fault\n")


def test_every_gpu_of_an_instance_is_read(instance: Instance) -> None:
    instance.gpus.set(3, memory_used_bytes=5)
    reader = NvmlReader(instance)

    reader.start()
    read = collected(reader)

    assert sorted(read.indices.values()) == [0, 1, 2, 3]
    uuid = next(uuid for uuid, index in read.indices.items() if index == 3)
    memory = read.minutes[uuid, "memory_used_bytes"][0]
    assert (memory.minimum, memory.maximum, memory.average) == (5, 5, 5)
    assert abs(memory.minute - floor_minute(datetime.now(UTC))) <= timedelta(minutes=1)
    assert "row_remap_pending" in read.unsupported[uuid]  # these are T4


def collected(reader: NvmlReader) -> NvmlReadings:
    """As soon as there is a reading: the first follows at once."""
    while not (read := reader.collect()).minutes:
        os.sched_yield()
    return read


def test_starting_anew_forgets_what_was_read(instance: Instance) -> None:
    reader = NvmlReader(instance)
    reader.start()
    (instance.readings / "stop").touch()

    reader.start()

    assert not (instance.readings / "stop").exists()
    assert collected(reader).minutes


def test_stopping_leaves_nothing_on_the_instance(instance: Instance) -> None:
    reader = NvmlReader(instance)
    reader.start()
    reader.stop()

    assert not instance.readings.exists()
    with pytest.raises(ToolError):
        reader.collect()


def test_driver_that_is_not_loaded_is_said_at_once(instance: Instance) -> None:
    instance.gpus.unload_driver()

    with pytest.raises(ToolError, match="NVML cannot be used on the instance: "):
        NvmlReader(instance).start()


def test_python_without_pynvml_is_passed_over(instance: Instance, tmp_path: Path) -> None:
    instance.without("/opt/gpumon/bin/python")
    executable(tmp_path / "bin", "python3", f'exec {sys.executable} "$@"')
    reader = NvmlReader(instance)

    reader.start()
    assert collected(reader).minutes


def test_instance_without_pynvml_is_an_error(instance: Instance, tmp_path: Path) -> None:
    instance.without("/opt/gpumon/bin/python")
    executable(tmp_path / "bin", "python3", "exit 1")

    with pytest.raises(ToolError, match="No Python on the instance has pynvml"):
        NvmlReader(instance).start()


def test_program_that_says_nothing_is_not_waited_for_forever(instance: Instance, tmp_path: Path) -> None:
    executable(tmp_path / "bin", "systemd-run", "exit 0")
    clock = FakeClock()

    with pytest.raises(ToolError, match="journalctl -u gpunodes-nvml"):
        NvmlReader(instance, clock, clock.wait).start()

    assert sum(clock.waits) == pytest.approx(nvml_readings._ANSWER_SECONDS, abs=1)
