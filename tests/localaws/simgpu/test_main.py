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


def test_lose_unload_and_upgrade_take_more_words(state: Path) -> None:
    gpus = SimulatedGpus(state)
    assert main([str(state), "lose", "1", "--how", "vanished"]) == 0
    assert gpus.read(1)["lost"] == "3"
    assert main([str(state), "unload", "--code", "GPU_IS_LOST"]) == 0
    assert gpus.read(None)["unloaded_code"] == "15"
    assert main([str(state), "upgrade", "590.44.01"]) == 0
    assert gpus.driver_version == "590.44.01"


def test_fields_fail_and_calls_hang_until_they_are_healed(state: Path) -> None:
    before = SimulatedGpus(state).read(2)
    assert main([str(state), "fail-field", "2", "94", "NO_PERMISSION"]) == 0
    assert main([str(state), "hang", "2", "nvmlDeviceGetName"]) == 0
    added = dict(SimulatedGpus(state).read(2).items() - before.items())
    assert added == {"fail_field.94": "4", "hang.nvmlDeviceGetName": "1"}
    assert main([str(state), "heal", "2"]) == 0
    assert SimulatedGpus(state).read(2) == before


def test_xid_writes_an_event_and_a_log_record_or_one_of_them(state: Path) -> None:
    assert main([str(state), "xid", "1", "79"]) == 0
    assert main([str(state), "xid", "1", "48", "--no-event"]) == 0
    assert main([str(state), "xid", "1", "94", "--gpu-instance", "3", "--compute-instance", "0", "--no-log"]) == 0
    assert (state / "events").read_text().splitlines() == ["1 8 79 4294967295 4294967295", "1 8 94 3 0"]
    assert ["): 79," in line or "): 48," in line for line in (state / "kmsg").read_text().splitlines()] == [True, True]


def test_samples_and_mig(tmp_path: Path) -> None:
    assert main([str(tmp_path), "install", "p4d.24xlarge", "i-1"]) == 0
    gpus = SimulatedGpus(tmp_path)
    assert main([str(tmp_path), "samples", "0", "utilization_gpu_percent=0,100"]) == 0
    assert gpus.read(0)["utilization_gpu_pattern"] == "0,100"
    assert main([str(tmp_path), "samples", "0", "utilization_gpu_percent=none"]) == 0
    assert "utilization_gpu_pattern" not in gpus.read(0)
    assert main([str(tmp_path), "mig", "0", "1g.5gb=1000", "none", "3g.20gb=0"]) == 0
    state = gpus.read(0)
    assert [key for key in state if key.startswith("mig_instance")] == ["mig_instance.0", "mig_instance.2"]
    assert main([str(tmp_path), "mig", "0", "off"]) == 0
    assert gpus.read(0)["mig_mode"] == "0"


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
        (["samples", "0", "utilization_gpu_percent=a,b"], 2, "KEY=PERCENT"),
        (["mig", "0", "1g.5gb"], 2, "PROFILE=USED_BYTES"),
        (["xid", "0", "0"], 2, "from 1 to 999"),
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
