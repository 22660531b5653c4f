from __future__ import annotations

import io
import logging

import pytest

from gpumon.logs import JournalFormatter, RepeatFilter


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


def test_an_error_that_repeats_is_written_once_per_interval_with_the_number_left_out() -> None:
    now = [0.0]
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RepeatFilter(lambda: now[0], seconds=600))
    for second in range(1202):
        now[0] = float(second)
        handler.handle(record(logging.WARNING, "GPU %s: %d", "a", second))

    assert stream.getvalue().splitlines() == [
        "GPU a: 0",
        "GPU a: 600 (599 more like this since)",
        "GPU a: 1200 (599 more like this since)",
    ]


def test_other_words_are_another_error_and_information_is_never_left_out() -> None:
    repeats = RepeatFilter(lambda: 0.0)

    assert repeats.filter(record(logging.WARNING, "GPU %s", "a"))
    assert repeats.filter(record(logging.WARNING, "GPU %s", "b"))
    assert not repeats.filter(record(logging.WARNING, "GPU %s", "b"))
    assert all(repeats.filter(record(logging.INFO, "GPU %s", "a")) for _ in range(2))
