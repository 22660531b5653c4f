from __future__ import annotations

from pathlib import Path

import pytest

from localaws.simgpu.__main__ import main
from localaws.simgpu.gpus import SimulatedGpus


@pytest.fixture
def state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main([str(tmp_path), "install", "g5.12xlarge", "i-1"]) == 0
    assert capsys.readouterr().out == "4\n"
    return tmp_path


def test_set_changes_values_and_none_takes_them_away(state: Path) -> None:
    command = ["set", "2", "temperature_celsius=90", "clocks_event_reasons=0x20", "power_milliwatts=none"]
    assert main([str(state), *command]) == 0

    gpu = SimulatedGpus(state).read(2)
    assert (gpu["temperature_celsius"], gpu["clocks_event_reasons"]) == ("90", "32")
    assert "power_milliwatts" not in gpu


@pytest.mark.parametrize("code", ["3", "NOT_SUPPORTED", "NVML_ERROR_NOT_SUPPORTED"])
def test_fail_takes_numbers_and_names_and_heal_undoes_it(state: Path, code: str) -> None:
    fault = "fail.nvmlDeviceGetName"
    assert main([str(state), "fail", "0", "nvmlDeviceGetName", code]) == 0
    assert SimulatedGpus(state).read(0)[fault] == "3"
    assert main([str(state), "heal", "0"]) == 0
    assert fault not in SimulatedGpus(state).read(0)


def test_all_stands_for_every_gpu(state: Path) -> None:
    assert main([str(state), "fail", "all", "nvmlInit_v2", "DRIVER_NOT_LOADED"]) == 0
    assert SimulatedGpus(state).read(None)["fail.nvmlInit_v2"] == "9"


def test_lose_restore_unload_load(state: Path) -> None:
    gpus = SimulatedGpus(state)
    assert main([str(state), "lose", "1"]) == 0
    assert gpus.read(1)["lost"] == "1"
    assert main([str(state), "restore", "1"]) == 0
    assert gpus.read(1)["lost"] == "0"
    assert main([str(state), "unload"]) == 0
    assert gpus.read(None)["loaded"] == "0"
    assert main([str(state), "load"]) == 0
    assert gpus.read(None)["loaded"] == "1"


def test_show_prints_the_driver_and_every_gpu(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(state), "show"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("[")] == ["[driver]", "[gpu 0]", "[gpu 1]", "[gpu 2]", "[gpu 3]"]
    assert lines.count("name=NVIDIA A10G") == 4


@pytest.mark.parametrize(
    ("command", "exit_code", "message"),
    [
        (["set", "9", "temperature_celsius=1"], 2, "from 0 to 3"),
        (["set", "0", "temperature_celsius=hot"], 2, "KEY=NUMBER"),
        (["fail", "0", "nvmlDeviceGetName", "NOPE"], 2, "NOT_SUPPORTED"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(
    state: Path, capsys: pytest.CaptureFixture[str], command: list[str], exit_code: int, message: str
) -> None:
    assert main([str(state), *command]) == exit_code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_directory_without_state_is_exit_code_3(tmp_path: Path) -> None:
    assert main([str(tmp_path / "none"), "show"]) == 3
