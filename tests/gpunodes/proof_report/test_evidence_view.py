from __future__ import annotations

from typing import Any

import pytest

from gpunodes.proof_report import evidence_view
from gpunodes.proof_report.evidence_view import Shape


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("free_bytes", 3 * 2**30, "3 GiB"),
        ("boot_seconds", 0.25, "250 ms"),
        ("tolerance_percent", 1, "1 %"),
        ("port", 9400, "9400"),
        ("share", 0.123456, "0.123"),
        ("seen", True, "yes"),
        ("at", "2030-01-02T04:05:06.7+01:00", "2030-01-02 03:05:06 UTC"),
        ("name", "TeslaT4", "TeslaT4"),
        ("pids", [1, 2], "1, 2"),
    ],
)
def test_value_is_written_with_the_unit_of_its_name(name: str, value: Any, text: str) -> None:
    assert evidence_view.shape({name: value}).rows[0][1] == Shape("text", text)


def test_key_is_written_as_words_without_its_unit() -> None:
    assert [name for name, _ in evidence_view.shape({"free_memory_bytes": 1, "gpu_index": 0}).rows] == [
        "free memory",
        "gpu index",
    ]


@pytest.mark.parametrize(("value", "word"), [(None, "unknown"), ([], "none"), ({}, "none"), ("", "none")])
def test_what_was_not_read_differs_from_what_is_empty(value: Any, word: str) -> None:
    assert evidence_view.shape(value) == Shape("nothing", word)


def test_rows_of_the_same_kind_are_a_table() -> None:
    shape = evidence_view.shape([{"gpu": 0, "used_bytes": 1024}, {"gpu": 1, "fits": False}])

    assert shape == Shape("table", rows=[["0", "1 KiB", ""], ["1", "", "no"]], columns=["gpu", "used", "fits"])


def test_things_by_name_are_a_table_too() -> None:
    shape = evidence_view.shape({"first": {"id": "a"}, "second": {"id": "b"}})

    assert shape == Shape("table", rows=[["first", "a"], ["second", "b"]], columns=["", "id"])


def test_many_words_are_a_list_and_lines_stay_lines() -> None:
    assert evidence_view.shape(["word" * 15, "word" * 15]).kind == "items"
    assert evidence_view.shape("one\ntwo") == Shape("lines", "one\ntwo")


@pytest.mark.parametrize("rows", [[{"n": 1}] * 105, ["a long word"] * 105, [[{"n": [1]}]] * 105])
def test_what_is_left_out_is_counted(rows: list[Any]) -> None:
    shape = evidence_view.shape(rows)

    assert (len(shape.rows), shape.left_out) == (evidence_view.MOST_ROWS, 5)


def test_what_lies_deep_is_json() -> None:
    deep: Any = "bottom"
    for _ in range(200):
        deep = {"down": deep}

    shape = evidence_view.shape(deep)

    while shape.kind == "facts":
        shape = shape.rows[0][1]
    assert shape.kind == "lines"
    assert shape.text.startswith('{\n  "down": {')


def test_moments_are_for_people_and_what_is_none_stays() -> None:
    assert evidence_view.clock("2030-01-02T04:05:06+01:00") == "2 January 2030, 03:05:06 UTC"
    assert evidence_view.clock("soon") == "soon"
