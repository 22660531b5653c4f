from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunodes.proof_report import plots
from gpunodes.proof_report.plots import Held, Line, Plot, Window
from gpunodes.proof_report.quantities import Scale

BEGIN = datetime(2030, 1, 2, 10, 0, tzinfo=UTC)
WINDOW = Window(BEGIN, BEGIN + timedelta(minutes=10))
PLAIN = Scale(1, "")
LARGEST = 2.0**360  # CloudWatch refuses what is larger


def at(minutes: float) -> datetime:
    return BEGIN + timedelta(minutes=minutes)


def points(*values: float | None) -> list[tuple[datetime, float]]:
    """A value each minute; None for a minute without."""
    return [(at(number), value) for number, value in enumerate(values) if value is not None]


def plot(*values: float | None, scale: Scale = PLAIN) -> Plot:
    return Plot("Title", "Words", scale, [Line("GPU 0", 0, points(*values))])


def drawn(shown: Plot, window: Window = WINDOW) -> Element:
    return ElementTree.fromstring(plots.svg(shown, window, "p1"))


def texts(root: Element, kind: str) -> list[str | None]:
    return [element.text for element in root.iter("text") if element.get("class") == kind]


def test_each_minute_is_a_level_and_the_next_is_joined_to_it() -> None:
    assert plots.path(points(0, 50, 100), WINDOW, [0, 100]) == "M0 1000h60v-500h60v-500h60"


def test_a_level_that_lasts_is_one_stroke() -> None:
    assert plots.path(points(50, 50, 50, 0), WINDOW, [0, 100]) == "M0 500h180v500h60"


def test_a_missing_minute_is_a_gap() -> None:
    assert plots.path(points(50, None, 50, None, None, 0), WINDOW, [0, 100]) == "M0 500h60M120 500h60M300 1000h60"


def test_nothing_is_drawn_of_no_points() -> None:
    assert plots.path([], WINDOW, [0, 100]) == ""


def test_own_readings_are_dots_in_the_middle_of_their_minute() -> None:
    assert plots.dots(points(0, 100), WINDOW, [0, 100]) == "M30 1000h0M90 0h0"


@pytest.mark.parametrize(
    ("values", "axis"),
    [
        ((0, 0), [0, 1]),
        ((0, 97), [0, 50, 100]),
        ((3, 3), [0, 1, 2, 3]),
        ((40, 50), [40, 45, 50]),
        ((50, 50.1), [44, 46, 48, 50, 52]),  # noise stays small
        ((-5, 5), [-5, 0, 5]),
        ((0.001, 0.003), [0, 0.001, 0.002, 0.003]),
    ],
)
def test_axis_has_round_numbers_that_enclose_the_values(values: tuple[float, ...], axis: list[float]) -> None:
    assert plots.value_axis(plot(*values)) == pytest.approx(axis)


def test_axis_is_round_in_the_unit_that_is_written() -> None:
    gib = 2.0**30

    assert plots.value_axis(plot(0, 14 * gib, scale=Scale(gib, "GiB"))) == [0, 5 * gib, 10 * gib, 15 * gib]


def test_axis_reaches_what_other_plots_reach() -> None:
    assert plots.value_axis(Plot("", "", PLAIN, [Line("", 0, points(1))], highest=100))[-1] == 100


@given(st.lists(st.floats(-LARGEST, LARGEST), max_size=5))
def test_axis_encloses_any_values(values: list[float]) -> None:
    axis = plots.value_axis(plot(*values))

    assert 2 <= len(axis) <= 6
    assert axis == sorted(set(axis))
    width = axis[-1] - axis[0]
    assert all(axis[0] - width / 1000 <= value <= axis[-1] + width / 1000 for value in values)


@pytest.mark.parametrize(
    ("minutes", "hours"),
    [
        (1, ["10:00", "10:00", "10:00", "10:00", "10:01"]),
        (14, ["10:00", "10:05", "10:10"]),
        (35, ["10:00", "10:10", "10:20", "10:30"]),
        (600, ["12:00", "15:00", "18:00"]),
    ],
)
def test_times_are_round_and_few(minutes: int, hours: list[str]) -> None:
    window = Window(BEGIN, at(minutes))

    assert [f"{moment:%H:%M}" for moment in plots.time_ticks(window)] == hours


@given(st.timedeltas(timedelta(seconds=1), timedelta(days=20000)), st.timedeltas(timedelta(0), timedelta(days=400)))
def test_times_lie_in_any_window(length: timedelta, later: timedelta) -> None:
    window = Window(BEGIN + later, BEGIN + later + length)

    ticks = list(plots.time_ticks(window))

    assert len(ticks) <= 6
    assert all(window.begin <= tick <= window.end for tick in ticks)


def test_svg_is_an_image_with_a_title_and_its_figures_in_words() -> None:
    root = drawn(plot(1, 2))

    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "p1 p1d"
    assert [(element.tag, element.get("id"), element.text) for element in list(root)[:2]] == [
        ("title", "p1", "Title"),
        ("desc", "p1d", "Words"),
    ]


def test_unit_stands_once_at_the_top() -> None:
    assert texts(drawn(plot(0, 99, scale=Scale(1, "°C"))), "tick") == ["0", "50", "100 °C"]


def test_lines_differ_by_class_and_own_readings_have_another() -> None:
    lines = [Line("GPU 0", 0, points(1), points(1)), Line("GPU 9", 9, points(2)), Line("GPU 2", 2, [])]

    root = drawn(Plot("", "", PLAIN, lines))

    assert [element.get("class") for element in root.iter("path")] == ["l g0", "l g1", "n g0"]


def test_load_and_what_was_held_and_marks_are_drawn() -> None:
    root = drawn(
        Plot(
            "",
            "",
            PLAIN,
            [Line("", 0, points(0, 4, 4))],
            (at(1), at(5)),
            [(at(1), "25 %"), (at(2), "")],
            [Held(at(1), at(5), 0, 4)],
        )
    )

    paths = {element.get("class"): element.get("d") for element in root.iter("path")}
    assert paths["load"] == "M60 0h240v1000h-240z"
    assert paths["held"] == "M60 1000V0H300V1000z"
    assert paths["at"] == "M120 0V1000"
    assert texts(root, "mark") == ["25 %"]


def test_words_of_marks_that_lie_close_share_a_place() -> None:
    marks = [(at(1), "25 %"), (at(1.5), "50 %"), (at(2), "75 %"), (at(6), "freed")]

    root = drawn(Plot("", "", PLAIN, [], marks=marks))

    assert texts(root, "mark") == ["25 %, 50 %, 75 %", "freed"]


def test_values_of_moments_are_drawn_and_enclosed() -> None:
    shown = Plot("", "", PLAIN, [], seen=[(at(1), 8), (at(2), 4)])

    assert plots.value_axis(shown) == [0, 5, 10]
    assert [element.get("d") for element in drawn(shown).iter("path")] == ["M60 200h0M120 600h0"]


def test_drawing_stretches_and_text_does_not() -> None:
    root = drawn(plot(1))

    inner = root.find("svg")
    assert inner is not None
    assert inner.get("preserveAspectRatio") == "none"
    assert inner.get("viewBox") == "0 0 600 1000"
    assert inner.find(".//text") is None
    assert root.get("viewBox") is None


def test_titles_cannot_become_markup() -> None:
    root = drawn(Plot("<b>", '"&</title>', Scale(1, "<i>"), [], marks=[(at(1), "<u>")]))

    assert [element.text for element in list(root)[:2]] == ["<b>", '"&</title>']
    assert texts(root, "mark") == ["<u>"]
    assert {element.tag for element in root.iter()} == {"svg", "title", "desc", "line", "text", "path"}


@given(st.lists(st.tuples(st.integers(0, 599), st.floats(-LARGEST, LARGEST)), max_size=8))
def test_any_points_make_whole_numbers(values: list[tuple[int, float]]) -> None:
    ordered = sorted((at(second / 60), value) for second, value in values)

    svg = plots.svg(Plot("", "", PLAIN, [Line("", 0, ordered, ordered)]), WINDOW, "p1")

    for data in re.findall(r' d="([^"]*)"', svg):
        assert re.fullmatch(r"(M-?\d+ -?\d+|[hvHV]-?\d+|z)*", data)
