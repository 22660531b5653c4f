from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from gpumon import control
from gpumon.control import DRIVER_NOT_BACK, RESTART_SECONDS, ReleaseFlag, read_status, release, resume
from gpumon.errors import GpumonError
from tests.gpumon.fakes import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PID = 4242


def alive(pid: int) -> bool:
    return pid == PID


def dead(_pid: int) -> bool:
    return False


class FakeService:
    """Does every second what a service does: holds the driver, or lets go of it."""

    def __init__(self, directory: Path, clock: FakeClock, *, driver_answers: bool = True) -> None:
        self.flag = ReleaseFlag(directory, clock, PID)
        self.clock = clock
        self.driver_answers = driver_answers
        self.step()

    def step(self) -> None:
        if self.flag.is_released():
            self.flag.report("released")
        else:
            self.flag.report("held" if self.driver_answers else "released")
        self.clock.at(1.0, self.step)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    directory = tmp_path / "closed"
    directory.mkdir(mode=0)
    return directory


@pytest.fixture
def nobody(closed: Path) -> Iterator[None]:
    """Run the test as a user without rights, once there is a directory that root has closed."""
    assert closed.is_dir()
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_release_waits_until_the_service_has_let_go_and_resume_until_it_is_back(
    tmp_path: Path, clock: FakeClock
) -> None:
    FakeService(tmp_path, clock)
    start = clock.now

    released = release(tmp_path, clock, alive)

    assert (released.exit_code, read_state(tmp_path)) == (0, "released")
    assert 0.9 < clock.now - start < 1.3
    resumed = resume(tmp_path, clock, alive)
    assert (resumed.exit_code, read_state(tmp_path)) == (0, "held")
    assert not ReleaseFlag(tmp_path, clock).is_released()


def test_a_release_may_be_asked_for_twice_and_so_may_a_resume(tmp_path: Path, clock: FakeClock) -> None:
    FakeService(tmp_path, clock)

    assert [release(tmp_path, clock, alive).exit_code for _ in range(2)] == [0, 0]
    assert [resume(tmp_path, clock, alive).exit_code for _ in range(2)] == [0, 0]


def test_an_answer_to_an_earlier_release_is_none_to_this_one(tmp_path: Path, clock: FakeClock) -> None:
    flag = ReleaseFlag(tmp_path, clock, PID)
    flag.report("held")
    clock.at(1.0, lambda: flag.report("released") if flag.is_released() else None)
    release(tmp_path, clock, alive)
    (tmp_path / "released").unlink()  # and the service begins to open the driver, which takes a while
    assert not flag.is_released()
    clock.at(5.0, lambda: flag.report("held"))
    clock.at(6.0, lambda: flag.report("released") if flag.is_released() else None)
    start = clock.now

    release(tmp_path, clock, alive)

    assert 5.9 < clock.now - start < 6.2


def test_without_a_driver_a_release_still_waits_for_the_service_to_see_it(tmp_path: Path, clock: FakeClock) -> None:
    FakeService(tmp_path, clock, driver_answers=False)
    start = clock.now

    release(tmp_path, clock, alive)

    assert 0.9 < clock.now - start < 1.2


def test_a_service_that_does_not_let_go_is_an_error_after_the_time(tmp_path: Path, clock: FakeClock) -> None:
    ReleaseFlag(tmp_path, clock, PID).report("held")
    start = clock.now

    with pytest.raises(GpumonError, match="process 4242 holds the driver after 15 s"):
        release(tmp_path, clock, alive)

    assert 15 <= clock.now - start < 15.2
    assert ReleaseFlag(tmp_path, clock).is_released()


def test_a_driver_that_is_not_back_yet_is_no_error(tmp_path: Path, clock: FakeClock) -> None:
    FakeService(tmp_path, clock, driver_answers=False)

    assert release(tmp_path, clock, alive).exit_code == 0
    outcome = resume(tmp_path, clock, alive)

    assert (outcome.exit_code, DRIVER_NOT_BACK) == (3, 3)
    assert "as soon as it answers" in outcome.message


def test_an_old_report_of_a_process_that_is_gone_counts_for_nothing(tmp_path: Path, clock: FakeClock) -> None:
    ReleaseFlag(tmp_path, clock, PID).report("held")

    assert "not running" in release(tmp_path, clock, dead).message
    assert clock.waits == 0
    with pytest.raises(GpumonError, match=r"Start gpumon\.service"):
        resume(tmp_path, clock, dead)
    assert clock.waits <= RESTART_SECONDS / 0.1 + 1


def test_a_resume_waits_out_the_restart_after_the_driver_was_replaced(tmp_path: Path, clock: FakeClock) -> None:
    old = ReleaseFlag(tmp_path, clock, PID)
    old.report("released")
    clock.at(0.5, old.withdraw)
    clock.at(3.0, lambda: ReleaseFlag(tmp_path, clock, PID).report("held"))

    assert resume(tmp_path, clock, alive).exit_code == 0


def test_the_flag_outlives_the_service(tmp_path: Path, clock: FakeClock) -> None:
    first = FakeService(tmp_path, clock)
    release(tmp_path, clock, alive)
    first.flag.withdraw()

    assert read_status(tmp_path) is None
    assert ReleaseFlag(tmp_path, clock, PID).is_released()


@pytest.fixture
def strict_umask() -> Iterator[None]:
    """Make new files readable for nobody else, as the unit does."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("strict_umask")
def test_a_report_is_written_only_when_it_is_news_and_for_everybody(tmp_path: Path, clock: FakeClock) -> None:
    flag = ReleaseFlag(tmp_path, clock, PID)
    flag.report("held")
    (tmp_path / "driver-state").unlink()

    flag.report("held")
    assert read_status(tmp_path) is None
    flag.report("released")
    assert json.loads((tmp_path / "driver-state").read_text()) == {
        "pid": PID,
        "state": "released",
        "unix_seconds": clock.wall,
        "flag": "",
    }
    assert [file.name for file in tmp_path.iterdir()] == ["driver-state"]
    assert (tmp_path / "driver-state").stat().st_mode & 0o777 == 0o644


def test_without_a_directory_nobody_can_ask_and_nothing_is_written(clock: FakeClock) -> None:
    flag = ReleaseFlag(None, clock)

    flag.report("held")
    flag.withdraw()
    assert not flag.is_released()


def test_a_directory_that_cannot_be_written_costs_a_warning_and_is_tried_again(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    flag = ReleaseFlag(tmp_path / "later", clock, PID)
    flag.report("held")
    assert "do not work" in caplog.text

    (tmp_path / "later").mkdir()
    flag.report("held")

    assert read_state(tmp_path / "later") == "held"
    assert not ReleaseFlag(tmp_path / "none", clock).is_released()


@pytest.mark.usefixtures("nobody")
def test_a_flag_that_may_not_be_seen_is_not_there_and_warned_of(
    closed: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    assert not ReleaseFlag(closed, clock).is_released()
    assert "cannot see" in caplog.text


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("command", [release, resume])
def test_who_may_not_ask_is_told_to_be_root(command: object, clock: FakeClock, closed: Path) -> None:
    with pytest.raises(GpumonError, match="Run this as root"):
        call(command, closed, clock)


@pytest.mark.parametrize("command", [release, resume])
def test_without_a_runtime_directory_there_is_no_service(command: object, tmp_path: Path, clock: FakeClock) -> None:
    with pytest.raises(GpumonError, match=r"Start gpumon\.service first: it is not running"):
        call(command, tmp_path / "none", clock)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        '{"pid": 1}',
        '{"pid": "x", "state": "held", "unix_seconds": 1, "flag": ""}',
        '{"pid": -1, "state": "held", "unix_seconds": 1, "flag": ""}',
        '{"pid": 1, "state": "lost", "unix_seconds": 1, "flag": ""}',
        '{"pid": 1, "state": ["held"], "unix_seconds": 1, "flag": ""}',
        '{"pid": 1e999, "state": "held", "unix_seconds": 1, "flag": ""}',
        "[" * 4000,
        "\udcff",
    ],
)
def test_a_report_that_is_none_counts_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "driver-state").write_bytes(text.encode("utf-8", "surrogateescape"))

    assert read_status(tmp_path) is None


def test_neither_a_link_nor_a_pipe_in_place_of_a_file_fools_root(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "released").symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / "driver-state")

    assert "not running" in release(tmp_path, clock, alive).message
    assert not (tmp_path / "victim").exists()


def test_this_process_exists_and_the_greatest_id_does_not() -> None:
    assert control.process_exists(os.getpid())
    assert not control.process_exists(2**22 + 1)


def read_state(directory: Path) -> str:
    status = read_status(directory)
    assert status is not None
    return status.state


def call(command: object, directory: Path, clock: FakeClock) -> None:
    assert callable(command)
    command(directory, clock, alive)
