from __future__ import annotations

import io
import logging
import threading
from typing import TYPE_CHECKING

import pytest

from gpumon import logs
from gpumon.logs import BURST_LINES, MOST_REMEMBERED, SECONDS_PER_LINE, FloodFilter, JournalFormatter

if TYPE_CHECKING:
    from collections.abc import Iterator


def record(level: int, message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("gpumon.x", level, "file", 1, message, arguments, None)


@pytest.mark.parametrize(
    ("level", "prefix"),
    [(logging.ERROR, "<3>"), (logging.WARNING, "<4>"), (logging.INFO, "<6>"), (logging.DEBUG, "<7>")],
)
def test_journald_gets_its_level_on_every_line(level: int, prefix: str) -> None:
    lines = JournalFormatter(journald=True).format(record(level, "a\nb"))

    assert lines == f"{prefix}gpumon.x: a\n{prefix}b"


def test_a_person_gets_the_name_of_the_level() -> None:
    assert JournalFormatter(journald=False).format(record(logging.ERROR, "a")) == "error   gpumon.x: a"


class Journal:
    """A handler as gpumon has it, at a time that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stream = io.StringIO()
        self.handler = logging.StreamHandler(self.stream)
        self.handler.setFormatter(JournalFormatter(journald=True))
        self.handler.addFilter(FloodFilter(lambda: self.now, repeat_seconds=600))

    def log(self, level: int, message: str, *arguments: object) -> None:
        self.handler.handle(record(level, message, *arguments))

    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def test_an_error_that_repeats_is_written_once_per_interval_with_the_number_left_out() -> None:
    journal = Journal()
    for second in range(1202):
        journal.now = float(second)
        journal.log(logging.WARNING, "GPU %s: %d", "a", second)

    assert journal.lines() == [
        "<4>gpumon.x: GPU a: 0",
        "<4>gpumon.x: GPU a: 600 (599 more like this since)",
        "<4>gpumon.x: GPU a: 1200 (599 more like this since)",
    ]


def test_other_words_or_another_level_are_another_error_and_information_may_repeat() -> None:
    journal = Journal()
    for level, word in ((30, "a"), (30, "b"), (30, "b"), (40, "b"), (20, "a"), (20, "a")):
        journal.log(level, "GPU %s", word)

    assert [line.replace("gpumon.x: GPU ", "") for line in journal.lines()] == ["<4>a", "<4>b", "<3>b", "<6>a", "<6>a"]


def test_a_percent_sign_in_a_repeated_message_is_only_that() -> None:
    journal = Journal()
    for journal.now in (0.0, 1.0, 600.0):
        journal.log(logging.WARNING, "100 % of it")

    assert journal.lines()[-1] == "<4>gpumon.x: 100 % of it (1 more like this since)"


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_a_burst_of_different_lines_is_bounded_and_counted(level: int) -> None:
    journal = Journal()
    for number in range(5000):
        journal.log(level, "GPU %s is lost", f"GPU-{number}")
    assert len(journal.lines()) == BURST_LINES

    journal.now = SECONDS_PER_LINE
    journal.log(level, "GPU %s is lost", "GPU-x")
    journal.log(level, "GPU %s is lost", "GPU-y")
    journal.now = 100 * SECONDS_PER_LINE
    journal.log(level, "something else")

    assert len(journal.lines()) == BURST_LINES + 2
    assert journal.lines()[-2].endswith("GPU-x is lost (4800 other lines were left out before this one)")
    assert journal.lines()[-1].endswith("something else (1 other lines were left out before this one)")


def test_more_different_errors_than_are_remembered_never_become_a_flood() -> None:
    journal = Journal()
    for second in range(60):
        journal.now = float(second)
        for number in range(2 * MOST_REMEMBERED):
            journal.log(logging.WARNING, "value of GPU %s", str(number))

    assert len(journal.lines()) <= BURST_LINES + 60 / SECONDS_PER_LINE


def test_much_information_leaves_room_for_errors_and_debugging_is_never_left_out() -> None:
    journal = Journal()
    for number in range(BURST_LINES + 1):
        journal.log(logging.INFO, "%d", number)
        journal.log(logging.DEBUG, "%d", number)
    journal.log(logging.ERROR, "that matters")

    assert len(journal.lines()) == 2 * BURST_LINES + 2
    assert journal.lines()[-1] == "<3>gpumon.x: that matters"


def test_the_oldest_of_too_many_errors_is_forgotten_first() -> None:
    now = [0.0]
    flood = FloodFilter(lambda: now[0], repeat_seconds=1e9)
    for number in range(MOST_REMEMBERED + 1):
        now[0] += SECONDS_PER_LINE
        flood.filter(record(logging.WARNING, str(number)))

    now[0] += 10 * SECONDS_PER_LINE
    assert flood.filter(record(logging.WARNING, "0"))
    assert not flood.filter(record(logging.WARNING, str(MOST_REMEMBERED)))


def test_an_error_that_was_written_again_is_remembered_longer_than_one_in_between() -> None:
    now = [0.0]
    flood = FloodFilter(lambda: now[0], repeat_seconds=10 * SECONDS_PER_LINE)
    flood.filter(record(logging.WARNING, "again"))
    now[0] = 10 * SECONDS_PER_LINE
    flood.filter(record(logging.WARNING, "once"))
    flood.filter(record(logging.WARNING, "again"))
    flood._repeat_seconds = 1e9
    for number in range(MOST_REMEMBERED - 1):
        now[0] += SECONDS_PER_LINE
        flood.filter(record(logging.WARNING, str(number)))

    assert not flood.filter(record(logging.WARNING, "again"))
    assert flood.filter(record(logging.WARNING, "once"))


def test_a_signal_handler_may_log_while_the_thread_that_it_interrupts_does() -> None:
    inner = record(logging.WARNING, "SIGTERM: stopping")
    written: list[bool] = []

    def interrupted() -> float:
        if is_armed and not written:
            written.append(False)  # once
            written[0] = flood.filter(inner)
        return 0.0

    is_armed = False
    flood = FloodFilter(interrupted)
    is_armed = True
    thread = threading.Thread(target=flood.filter, args=(record(logging.WARNING, "interrupted"),), daemon=True)
    thread.start()
    thread.join(10)

    assert not thread.is_alive()
    assert written == [True]


@pytest.fixture
def kept_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("gpumon")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before[0], before[1], before[2]


@pytest.mark.usefixtures("kept_logging")
def test_a_reload_changes_the_level_and_nothing_else() -> None:
    stream = io.StringIO()
    logs.configure("warning", stream, {"JOURNAL_STREAM": "1:2"})
    ours = logging.getLogger("gpumon.x")
    ours.info("too quiet")
    logs.set_level("info")
    ours.info("now heard")
    logging.getLogger("botocore").info("chatter")

    assert stream.getvalue() == "<6>gpumon.x: now heard\n"
