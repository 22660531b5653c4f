from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpumon.clock import SystemClock
from gpumon.errors import DriverUnavailableError
from gpumon.readers.nvml.events import WAIT_SECONDS, NvmlXidWatcher, SeenXid
from gpumon.xid_counts import XidCounts
from gpumon.xids import load_xids
from localaws.simgpu.gpus import SimulatedGpus
from tests.gpumon.fakes import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).parents[4]
PROGRAM = Path(__file__).with_name("xid_program.py")
UUID, OTHER_UUID = "GPU-aaaa", "GPU-bbbb"
GPUS = {UUID: "handle a", OTHER_UUID: "handle b"}
FAILURE = DriverUnavailableError("Load the driver.")


class FakeEventSource:
    """Gives the planned answers one per wait, then times out; an endless plan is one answer in `always`."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.answers: list[SeenXid | DriverUnavailableError] = []
        self.always: SeenXid | DriverUnavailableError | None = None
        self.open_errors: list[DriverUnavailableError] = []
        self.registers: int | None = None  # None: all
        self.opened: list[Mapping[str, Any]] = []
        self.is_open = False
        self.waits = 0
        self.closes = 0

    def open(self, gpus: Mapping[str, Any]) -> int:
        assert not self.is_open
        self.opened.append(gpus)
        if self.open_errors:
            raise self.open_errors.pop(0)
        self.is_open = True
        return len(gpus) if self.registers is None else self.registers

    def wait(self, seconds: float) -> SeenXid | None:
        assert self.is_open
        self.waits += 1
        answer = self.answers.pop(0) if self.answers else self.always
        if isinstance(answer, DriverUnavailableError):
            raise answer
        if answer is None:
            self._clock.wait(threading.Event(), seconds)
        return answer

    def close(self) -> None:
        self.is_open = False
        self.closes += 1


class Watching:
    """A watcher of a fake source, which runs in the test's own thread for as long as is said."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.source = FakeEventSource(self.clock)
        self.counts = XidCounts(load_xids())
        self.stop = threading.Event()
        self.watcher = NvmlXidWatcher(self.counts, self.clock, self.stop, self.source)

    def run(self, seconds: float) -> None:
        self.stop.clear()
        self.clock.at(seconds, self.stop.set)
        self.watcher.run()


@pytest.fixture
def watching() -> Watching:
    return Watching()


def test_xids_are_counted_and_dated(watching: Watching) -> None:
    watching.source.answers = [SeenXid(UUID, 31, None), SeenXid(UUID, 31, 5), SeenXid(OTHER_UUID, 79, None)]
    watching.watcher.resume(GPUS)
    began = watching.clock.wall

    watching.run(10)

    assert watching.counts.totals() == {UUID: {31: 2}, OTHER_UUID: {79: 1}}
    (critical,) = watching.counts.take_critical()
    assert (critical.gpu_uuid, critical.unix_seconds) == (OTHER_UUID, began)
    assert watching.source.opened == [GPUS]
    assert not watching.source.is_open


def test_a_time_out_is_normal(watching: Watching, caplog: pytest.LogCaptureFixture) -> None:
    watching.watcher.resume(GPUS)

    watching.run(100)

    assert 100 / WAIT_SECONDS - 1 <= watching.source.waits <= 100 / WAIT_SECONDS + 1
    assert len(watching.source.opened) == 1
    assert caplog.records == []


def test_an_error_that_stays_is_met_ever_more_rarely(watching: Watching, caplog: pytest.LogCaptureFixture) -> None:
    watching.source.always = FAILURE
    watching.watcher.resume(GPUS)

    watching.run(600)

    assert 20 <= watching.source.waits <= 30  # after 1, 2, 4, 8, 16, 30, 30, ... seconds
    assert watching.clock.waits <= 650
    assert "NVML's events do not work, trying again: Load the driver." in caplog.text


def test_events_are_asked_for_anew_after_an_error(watching: Watching) -> None:
    watching.source.answers = [FAILURE, SeenXid(UUID, 31, None), FAILURE, SeenXid(UUID, 43, None)]
    watching.watcher.resume(GPUS)

    watching.run(2.5)

    assert watching.counts.totals() == {UUID: {31: 1, 43: 1}}
    assert len(watching.source.opened) == 3  # each error is followed by the first wait, since what came between worked


def test_a_source_that_cannot_be_opened_is_tried_again(watching: Watching) -> None:
    watching.source.open_errors = [FAILURE, FAILURE]
    watching.source.answers = [SeenXid(UUID, 31, None)]
    watching.watcher.resume(GPUS)

    watching.run(10)

    assert len(watching.source.opened) == 3
    assert watching.counts.totals() == {UUID: {31: 1}}


def test_where_no_gpu_gives_events_nothing_is_tried_until_there_are_others(
    watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watching.source.registers = 0
    watching.watcher.resume(GPUS)
    watching.clock.at(500, lambda: watching.watcher.resume({UUID: "new handle"}))

    watching.run(1000)

    assert watching.source.opened == [GPUS, {UUID: "new handle"}]
    assert watching.source.waits == 0
    assert caplog.text.count("NVML reports the Xids of 0 of 2 GPUs") == 1


@pytest.mark.parametrize("answer", [SeenXid(UUID, 45, None), None])
def test_a_source_that_answers_at_once_for_ever_does_not_take_a_core(
    watching: Watching, answer: SeenXid | None
) -> None:
    watching.source.always = answer
    watching.source.wait = lambda seconds: FakeEventSource.wait(watching.source, 0 * seconds)  # type: ignore[method-assign]
    watching.watcher.resume(GPUS)

    watching.run(10)

    assert 90 <= watching.source.waits <= 30_000


def test_nothing_is_touched_before_the_first_resume(watching: Watching) -> None:
    watching.run(10)

    assert watching.source.opened == []


def test_new_gpus_are_watched_after_the_present_call(watching: Watching) -> None:
    watching.watcher.resume({UUID: "handle a"})
    watching.clock.at(10, lambda: watching.watcher.resume(GPUS))

    watching.run(10 + WAIT_SECONDS + 1)

    assert watching.source.opened == [{UUID: "handle a"}, GPUS]


def test_a_resume_does_not_wait_for_the_end_of_a_back_off(watching: Watching) -> None:
    watching.source.always = FAILURE
    watching.watcher.resume(GPUS)
    watching.run(100)
    opened = len(watching.source.opened)

    watching.watcher.resume(GPUS)
    watching.run(1.5)

    assert len(watching.source.opened) == opened + 1


class BlockingEventSource(FakeEventSource):
    """Stays inside a wait until it is let go, as NVML does."""

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.is_inside = threading.Event()
        self.let_go = threading.Event()

    def wait(self, seconds: float) -> SeenXid | None:  # noqa: ARG002 - the test says how long
        self.is_inside.set()
        assert self.let_go.wait(10)
        assert self.is_open, "the event set was freed under a wait"
        self.is_inside.clear()
        return None


def test_a_pause_returns_once_the_thread_is_out_of_nvml_and_the_set_is_freed() -> None:
    source, stop = BlockingEventSource(), threading.Event()
    watcher = NvmlXidWatcher(XidCounts(load_xids()), SystemClock(), stop, source)
    watcher.start()
    watcher.resume(GPUS)
    assert source.is_inside.wait(10)

    closes = source.closes

    assert not watcher.pause(0.01)  # still inside: NVML must not be shut down
    assert source.closes == closes
    source.let_go.set()
    assert watcher.pause(10)

    assert source.closes == closes + 1
    assert not source.is_inside.is_set()
    opened = len(source.opened)
    stop.set()
    watcher.join(10)
    assert len(source.opened) == opened


def run_for(watching: Watching, action: Callable[[], None]) -> None:
    watching.clock.at(5, action)
    watching.run(10)


def test_a_paused_watcher_leaves_nvml_alone_until_it_is_resumed(watching: Watching) -> None:
    watching.watcher.resume(GPUS)
    pauses: list[bool] = []
    # The plan of the fake clock runs inside of a wait, so pausing here must not wait for the end of that very wait.
    run_for(watching, lambda: pauses.append(watching.watcher.pause(0)))
    waits = watching.source.waits

    watching.run(10)
    assert watching.source.waits == waits <= 6
    assert not watching.source.is_open

    watching.watcher.resume(GPUS)
    watching.run(10)
    assert watching.source.waits > waits
    assert len(watching.source.opened) == 2


class Process:
    """A process that watches the simulated driver through the real pynvml."""

    def __init__(self, libraries: Path, state: Path, log: Path) -> None:
        self.log = log
        self._log_file = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log_file,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "SIMGPU_STATE": str(state),
                "LD_LIBRARY_PATH": str(libraries),
            },
            text=True,
        )

    def ask(self, command: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self.log.read_text()
        return json.loads(line)

    def ask_until_logged(self, words: str) -> None:
        deadline = time.monotonic() + 10
        while words not in self.log.read_text():
            assert time.monotonic() < deadline, self.log.read_text()
            self.ask("totals")

    def close(self) -> None:
        self._process.communicate(timeout=10)
        self._log_file.close()
        assert self._process.returncode == 0, self.log.read_text()


@pytest.fixture
def gpus(tmp_path: Path) -> SimulatedGpus:
    gpus = SimulatedGpus(tmp_path / "state")
    if not hasattr(gpus, "xid"):
        pytest.skip("this simulated driver has no Xids")
    gpus.install("g5.12xlarge", "i-0123456789abcdef0")
    return gpus


@pytest.fixture
def process(driver_directory: Path, tmp_path: Path, gpus: SimulatedGpus) -> Iterator[Process]:  # noqa: ARG001 - state first
    process = Process(driver_directory, tmp_path / "state", tmp_path / "log")
    yield process
    process.close()


def test_xids_of_the_driver_and_of_the_kernel_log_count_once(gpus: SimulatedGpus, process: Process) -> None:
    uuids = [gpus.read(index)["uuid"] for index in range(4)]
    process.ask("resume")
    process.ask_until_logged("NVML reports the Xids of 4 of 4 GPUs")

    gpus.xid(0, 79)
    for _ in range(20):
        gpus.xid(2, 31)  # an event and a line in the kernel log
    gpus.xid(1, 119, log=False)
    gpus.xid(3, 45, event=False)  # when this one is counted, the kernel log was read to its end

    assert process.ask("wait 23") == {
        uuids[0]: {"79": 1},
        uuids[1]: {"119": 1},
        uuids[2]: {"31": 20},
        uuids[3]: {"45": 1},
    }


def test_xids_are_counted_again_after_the_driver_was_let_go(gpus: SimulatedGpus, process: Process) -> None:
    uuid = gpus.read(1)["uuid"]
    process.ask("resume")
    process.ask_until_logged("NVML reports")

    assert process.ask("pause") is True
    process.ask("shutdown")
    process.ask("init")
    process.ask("resume")
    process.ask_until_logged("GPUs\nINFO:gpumon.readers.nvml.events:NVML reports the Xids of 4 of 4 GPUs")
    gpus.xid(1, 48)

    assert process.ask("wait 1") == {uuid: {"48": 1}}


def test_a_lost_gpu_does_not_silence_the_others(gpus: SimulatedGpus, process: Process) -> None:
    uuid = gpus.read(3)["uuid"]
    process.ask("resume")
    process.ask_until_logged("NVML reports the Xids of 4 of 4 GPUs")
    gpus.lose(0)
    process.ask_until_logged("NVML reports the Xids of 3 of 4 GPUs")

    gpus.xid(3, 74)

    assert process.ask("wait 1") == {uuid: {"74": 1}}


def test_a_driver_without_events_leaves_xids_to_the_kernel_log(gpus: SimulatedGpus, process: Process) -> None:
    gpus.fail(None, "nvmlEventSetCreate", 13)

    process.ask("resume")

    process.ask_until_logged("NVML reports the Xids of 0 of 4 GPUs")
