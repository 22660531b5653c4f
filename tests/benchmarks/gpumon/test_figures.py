from __future__ import annotations

from benchmarks.gpumon.figures import at_most, not_measured, printed, table


def test_a_figure_beyond_its_limit_is_missed() -> None:
    assert at_most("memory", 60, 60.0, "MiB").is_met is True
    assert at_most("memory", 60, 60.1, "MiB").is_met is False


def test_nothing_is_asked_of_a_printed_figure_or_one_that_there_is_none_of() -> None:
    assert printed("ratio", 4.2, "times").is_met is None
    assert not_measured("peer", "<= 0.2 of it", "no package index").is_met is None


def test_the_table_says_what_must_be_what_is_and_whether_that_is_enough() -> None:
    lines = table([at_most("start", 3, 3.5, "s", "of 5 runs"), not_measured("peer", "<= 0.2 of it", "no index")])
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines.splitlines()[2:]] == [
        ["start", "<= 3 s", "3.50 s (of 5 runs)", "MISSED"],
        ["peer", "<= 0.2 of it", "not measured: no index", ""],
    ]
