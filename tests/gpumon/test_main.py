"""The command line: what each command answers, and with which exit code."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpumon import __version__
from gpumon.__main__ import main
from tests.gpumon.world import CLOSED_PORT, STOP_SECONDS, World, a_world, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = ("run", "once", "check", "show-config", "release", "resume")
FIRST_DATAPOINT_SECONDS = 3.0  # from the start of the process, on a host with nothing else to do


@pytest.fixture
def world(tmp_path: Path, driver_directory: Path) -> Iterator[World]:
    with a_world(tmp_path, driver_directory) as world:
        yield world


@pytest.fixture
def kept_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what main() does to the log and the environment of this process."""
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", CLOSED_PORT)
    root, ours = logging.getLogger(), logging.getLogger("gpumon")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


# --- Usage and settings


@pytest.mark.parametrize("arguments", [[], ["publish"], ["run", "--json"], ["once", "--every", "1"], ["--config", "x"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)

    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("usage: gpumon")


@pytest.mark.parametrize(("arguments", "words"), [(["--version"], f"gpumon {__version__}"), (["--help"], "exit codes")])
def test_what_it_is_and_can_do_is_exit_code_0(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)

    assert end.value.code == 0
    assert words in capsys.readouterr().out


@pytest.mark.usefixtures("kept_process")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# all is well\nsample_seconds = \n", "line 2"),
        ("sample_seconds = 1.0\n\nsampel_seconds = 2.0\n", "line 3"),
        ('log_level = "info"\nsample_seconds = "1"\n', "line 2"),
        ("cloudwatch = 1\n", "true or false"),
        ("\n\n\nsample_seconds = 0.01\n", "line 4"),
        ('cloudwatch_tiers = ["core", "everything"]\n', "'everything' is none of them"),
    ],
)
def test_a_bad_settings_file_is_one_sentence_that_names_the_place(
    command: str, text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gpumon.toml"
    file.write_text(text)

    assert main([command, "--config", str(file)]) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("gpumon: ")
    assert str(file) in captured.err
    assert words in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.usefixtures("kept_process")
@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("GPUMON_NAMESPAC", "Mine", "the nearest one is 'namespace'"),
        ("GPUMON_SAMPLE_SECONDS", "often", "GPUMON_SAMPLE_SECONDS"),
        ("GPUMON_PROMETHEUS", "yes", "true or false"),
    ],
)
def test_a_wrong_variable_is_one_sentence_that_names_it(
    variable: str, text: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)

    assert main(["run"]) == 2

    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("kept_process")
@pytest.mark.parametrize("place", ["missing.toml", "."])
def test_a_settings_file_that_was_named_must_be_there(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show-config", "--config", str(tmp_path / place)]) == 2
    assert "Repair the settings file" in capsys.readouterr().err


# --- Commands that answer and end


@pytest.mark.parametrize("arguments", [["once"], ["once", "--json"]])
def test_once_without_a_driver_is_exit_code_3(arguments: list[str], world: World) -> None:
    world.gpus.unload_driver()

    answer = world.command(*arguments)

    assert (answer.returncode, answer.stdout) == (3, "")
    assert answer.stderr.startswith("gpumon: Load the NVIDIA driver")
    assert answer.stderr.count("\n") == 1


def test_once_with_a_library_of_another_driver_is_exit_code_4(world: World) -> None:
    world.gpus.fail(None, "nvmlInitWithFlags", 18)

    answer = world.command("once")

    assert (answer.returncode, answer.stdout) == (4, "")
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["once"], ["once", "--json"], ["check"], ["check", "--json"], ["show-config"]])
def test_an_answer_is_on_standard_output_and_nothing_else_anywhere(arguments: list[str], world: World) -> None:
    answer = world.command(*arguments)

    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.endswith("\n")


def test_a_reader_that_has_seen_enough_is_no_error(world: World) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "gpumon", "show-config"],
            env=world.environment,
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writing)

    assert (answer.returncode, answer.stderr) == (0, b"")


@pytest.mark.parametrize(("place", "words"), [("/dev/full", "No space left"), ("&-", "it is closed")])
@pytest.mark.parametrize("command", ["show-config", "once --json"])
def test_an_output_that_cannot_be_written_is_one_sentence(command: str, place: str, words: str, world: World) -> None:
    line = ["sh", "-c", f'exec "$0" -m gpumon {command} >{place}', sys.executable]
    answer = subprocess.run(line, env=world.environment, stderr=subprocess.PIPE, text=True, check=False)

    assert answer.returncode == 1
    assert words in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.usefixtures("kept_process")
def test_release_without_a_service_is_remembered_and_undone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUMON_RUNTIME_DIRECTORY", str(tmp_path))

    assert main(["release"]) == 0
    assert "will leave the driver alone when it starts" in capsys.readouterr().out
    assert (tmp_path / "released").exists()

    assert main(["resume"]) == 1
    assert "Start gpumon.service" in capsys.readouterr().err
    assert not (tmp_path / "released").exists()


@pytest.mark.usefixtures("kept_process")
@pytest.mark.parametrize("command", ["release", "resume"])
def test_without_the_services_directory_nothing_can_be_asked_of_it(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUMON_RUNTIME_DIRECTORY", str(tmp_path / "none"))

    assert main([command]) == 1
    assert "Start gpumon.service first" in capsys.readouterr().err


# --- run


def test_a_start_publishes_within_seconds_and_a_stop_publishes_the_rest(world: World) -> None:
    world.configure(publish_seconds=3600)
    program = world.start()
    seconds = wait_for(lambda: world.samples("MemoryUsed"), program)
    time.sleep(1.0)
    program.stop()

    print(f"start to first datapoint: {seconds:.2f} s")  # noqa: T201 - a figure for people
    assert seconds < 3 * FIRST_DATAPOINT_SECONDS  # this machine has other work; the benchmark holds the limit itself
    assert world.samples("MemoryUsed") >= 8
    assert len(world.calls()) == 2
    assert next(datum.samples for datum in world.calls()[0][2] if datum.metric == "MemoryUsed") == 1
    assert "SIGTERM: stopping" in program.log


def test_everything_goes_out_under_the_settings_namespace(world: World) -> None:
    world.configure(namespace="Mine", slow_seconds=60)
    program = world.start_reading()
    wait_for(world.calls, program)
    program.stop()

    assert {namespace for namespace, _, _ in world.calls()} == {"Mine"}
    assert all(f"gpumon/{__version__}" in agent for _, agent, _ in world.calls())
    expected = {"GpuUp", "MemoryUsed", "DriverUp", "Heartbeat", "ProcessCount"}
    assert expected <= {datum.metric for datum in world.sent()}
    assert {datum.gpu for datum in world.sent("GpuUp")} == {world.gpus.read(0)["uuid"]}


def test_systemd_is_told_how_it_goes(world: World) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(world.directory / "notify"))
        notify.settimeout(20)
        program = world.start_reading(NOTIFY_SOCKET=str(world.directory / "notify"), WATCHDOG_USEC="200000")
        time.sleep(0.5)
        program.stop()
        said = []
        notify.setblocking(False)
        while True:
            try:
                said.append(notify.recv(500).decode())
            except BlockingIOError:
                break

    assert said[0].startswith("READY=1")
    assert "STATUS=reading GPUs" in said
    assert said.count("WATCHDOG=1") >= 3
    assert said[-1].startswith("STOPPING=1")


def test_a_stop_takes_seconds_although_cloudwatch_cannot_be_reached(world: World) -> None:
    program = world.start_reading(AWS_ENDPOINT_URL=CLOSED_PORT)
    time.sleep(1.0)
    start = time.monotonic()
    program.stop()

    assert time.monotonic() - start < 2 * STOP_SECONDS
    assert "stay in the spool for the next start" in program.log


def test_a_stop_takes_seconds_although_cloudwatch_does_not_answer(world: World) -> None:
    world.cloudwatch.silent = True
    program = world.start_reading()
    wait_for(lambda: world.cloudwatch.requests, program)
    start = time.monotonic()
    program.stop()

    assert time.monotonic() - start < 2 * STOP_SECONDS


def test_without_a_state_directory_a_stop_says_what_is_lost(world: World) -> None:
    program = world.start_reading(AWS_ENDPOINT_URL=CLOSED_PORT, STATE_DIRECTORY="")
    time.sleep(0.5)
    program.stop()

    assert "are lost" in program.log


def test_without_a_library_it_stays_up_says_so_and_stops_cleanly(world: World) -> None:
    program = world.start(LD_LIBRARY_PATH=str(world.state))
    wait_for(lambda: world.sent("DriverUp"), program)
    program.stop()

    assert {datum.values for datum in world.sent("DriverUp")} == {(0.0,)}
    assert {datum.values for datum in world.sent("Heartbeat")} == {(1.0,)}
    assert program.log.count("libnvidia-ml.so.1") == 1


def test_a_driver_that_comes_late_is_read(world: World) -> None:
    world.gpus.unload_driver()
    program = world.start()
    wait_for(lambda: world.sent("DriverUp"), program)
    world.gpus.load_driver()
    wait_for(lambda: world.sent("MemoryUsed"), program)
    program.stop()

    assert world.sent("DriverUp")[0].values == (0.0,)
    assert world.sent("DriverUp")[-1].values[-1] == 1.0


def test_a_driver_that_is_replaced_underneath_is_exit_code_4_after_a_last_publication(world: World) -> None:
    program = world.start_reading()
    world.gpus.upgrade_driver("590.44.01")

    assert program.wait() == 4
    assert program.log.rstrip().splitlines()[-1].startswith("gpumon: ")
    assert "Traceback" not in program.log
    assert any(0.0 in datum.values for datum in world.sent("DriverUp"))

    world.start_reading().stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_both_signals_that_ask_for_an_end_are_exit_code_0(number: signal.Signals, world: World) -> None:
    program = world.start_reading()
    program.signal(number)

    assert program.wait() == 0, program.log


def test_a_bad_table_of_xids_is_exit_code_2(world: World) -> None:
    table = world.directory / "xids.toml"
    table.write_text("[79\n")
    world.configure(xid_table=str(table))
    program = world.start()

    assert program.wait() == 2
    assert str(table) in program.log
    assert program.log.count("\n") == 1


def test_run_is_light(world: World) -> None:
    world.gpus.install("p5.48xlarge", "i-8")
    world.configure(sample_seconds=1, cloudwatch_tiers=["core", "health", "extended"])
    program = world.start_reading()
    wait_for(world.calls, program)
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    program.stop()

    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    print(f"resident after the first publication, 8 GPUs, all tiers: {resident / 1024:.1f} MiB")  # noqa: T201
    assert resident / 1024 < 60
