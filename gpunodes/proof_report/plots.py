"""Plots over time as inline SVG, drawn for a page without scripts.

Own code, because libraries for it fail one need each: SVG whose lines take the page's colours (light and dark), whose
text keeps its size on a phone, and whose gaps are gaps. The trick: what is drawn lies in an inner `svg` that stretches,
with strokes that do not; text lies outside it, at percentages.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from markupsafe import Markup

from gpunodes.proof.datapoints import PERIOD_SECONDS
from gpunodes.proof_report import quantities
from gpunodes.proof_report.quantities import Scale

STYLES = 8  # lines that look different: the page has so many colours, each with a dash of its own

_UNITS_PER_MINUTE = 60  # inner x: seconds
_HEIGHT = 1000  # inner y, downwards
_TOP_PX = 18
_BOTTOM_PX = 20
_TICK_SECONDS = (5, 10, 15, 30, *(60 * minutes for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440)))
_DAY_SECONDS = 86400
_MARK_PERCENT = 14  # a mark needs so much of the width
_MOST_TIME_TICKS = 4
_NOTHING = 1e-12
_STEPS = (1, 2, 2.5, 5, 10)
_NEAR_ZERO = 1.5  # spreads: an axis that begins so near to zero begins at zero
_LEAST_SPREAD = 0.1  # of the largest value: less is noise, and is not made to look like mountains

Points = Sequence[tuple[datetime, float]]


@dataclass(frozen=True)
class Window:
    """The time that plots show, UTC; all plots of a page show the same."""

    begin: datetime
    end: datetime

    @property
    def width(self) -> int:
        """In inner units."""
        return max(self.place(self.end), 1)

    def place(self, moment: datetime) -> int:
        """Where a moment lies, in inner units from the left."""
        return round((moment - self.begin).total_seconds() * _UNITS_PER_MINUTE / 60)

    def percent(self, moment: datetime) -> float:
        """Where a moment lies, in percent from the left."""
        return round(100 * self.place(moment) / self.width, 2)


@dataclass(frozen=True)
class Line:
    """One series.

    Attributes:
        label: what the legend calls it.
        style: number of its colour and dash, from 0.
        points: start of a minute and its value, in order.
        local: what NVML said on the instance, for the same minutes.
    """

    label: str
    style: int
    points: Points
    local: Points = ()


@dataclass(frozen=True)
class Held:
    """So much was allocated from `begin` to `end`: a band from `base` to `top`."""

    begin: datetime
    end: datetime
    base: float
    top: float


@dataclass(frozen=True)
class Plot:
    """What one plot shows.

    Attributes:
        title: for whoever hears the page, and sees it in the caption.
        description: the same figures in words.
        scale: of its values.
        lines: in the legend's order.
        load: from when to when the test held memory; None where it did not.
        marks: moments with a word each, drawn as lines from top to bottom.
        held: what should be seen.
        seen: values at moments of their own, drawn as squares.
        highest: what the axis reaches at least, so that plots side by side have the same.
        height_px: of the drawing itself.
    """

    title: str
    description: str
    scale: Scale
    lines: Sequence[Line]
    load: tuple[datetime, datetime] | None = None
    marks: Sequence[tuple[datetime, str]] = ()
    held: Sequence[Held] = field(default_factory=tuple)
    seen: Points = ()
    highest: float | None = None
    height_px: int = 96


def svg(plot: Plot, window: Window, name: str) -> Markup:
    """A plot as an `svg` element.

    Args:
        plot: what to show.
        window: of the page.
        name: an id for its title, unique on the page.
    """
    axis = value_axis(plot)
    parts = [
        Markup('<svg class="plot" role="img" aria-labelledby="{0} {0}d" width="100%" height="{1}">').format(
            name, plot.height_px + _TOP_PX + _BOTTOM_PX
        ),
        Markup('<title id="{0}">{1}</title><desc id="{0}d">{2}</desc>').format(name, plot.title, plot.description),
        *_value_ticks(plot, axis),
        *_time_ticks(plot, window),
        Markup('<svg y="{}" width="100%" height="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">').format(
            _TOP_PX, plot.height_px, window.width, _HEIGHT
        ),
        *_drawing(plot, window, axis),
        Markup("</svg>"),
        *_mark_texts(plot, window),
        Markup("</svg>"),
    ]
    return Markup().join(parts)


def value_axis(plot: Plot) -> list[float]:
    """The ticks of a plot's values, lowest first: two to five round numbers that enclose all that is drawn."""
    drawn = [value for line in plot.lines for _, value in (*line.points, *line.local)]
    drawn += [value for held in plot.held for value in (held.base, held.top)]
    drawn += [value for _, value in plot.seen]
    drawn += [] if plot.highest is None else [plot.highest]
    low, high = (min(drawn), max(drawn)) if drawn else (0.0, 0.0)
    if max(abs(low), abs(high)) < _NOTHING:
        return [0.0, plot.scale.factor]
    spread = max(high - low, _LEAST_SPREAD * max(abs(low), abs(high)))
    if low == high:
        low, high = min(low, 0.0), max(high, 0.0)
    elif 0 <= low < _NEAR_ZERO * spread:
        low = 0.0
    elif low > 0:
        low = min(low, high - spread)
    return _round_ticks(low / plot.scale.factor, high / plot.scale.factor, plot.scale.factor)


def path(points: Points, window: Window, axis: Sequence[float]) -> str:
    """A line's path data: a level for each minute, joined where they follow each other, broken where one is missing."""
    data: list[str] = []
    x = y = None
    for moment, value in points:
        begin, level = window.place(moment), _level(value, axis)
        if begin == x and y is not None:
            if level != y:
                data.append(f"v{level - y}")
        else:
            data.append(f"M{begin} {level}")
        if begin == x and level == y:
            data[-1] = f"h{int(data[-1][1:]) + _minute()}"  # a level that lasts is one stroke
        else:
            data.append(f"h{_minute()}")
        x, y = begin + _minute(), level
    return "".join(data)


def dots(points: Points, window: Window, axis: Sequence[float]) -> str:
    """Path data of strokes without length, in the middle of each minute: round caps make dots of them."""
    middle = _minute() // 2
    return "".join(f"M{window.place(moment) + middle} {_level(value, axis)}h0" for moment, value in points)


def time_ticks(window: Window) -> Iterator[datetime]:
    """Round moments of a window, at most a handful."""
    seconds = (window.end - window.begin).total_seconds()
    step = next((step for step in _TICK_SECONDS if seconds / step <= _MOST_TIME_TICKS), None)
    step = step or _DAY_SECONDS * math.ceil(seconds / _DAY_SECONDS / _MOST_TIME_TICKS)
    midnight = window.begin.replace(hour=0, minute=0, second=0, microsecond=0)
    skipped = math.ceil((window.begin - midnight).total_seconds() / step)
    for number in itertools.count(skipped):
        moment = midnight + timedelta(seconds=number * step)
        if moment > window.end:
            return
        yield moment


def _drawing(plot: Plot, window: Window, axis: Sequence[float]) -> Iterator[Markup]:
    if plot.load:
        begin, end = (window.place(moment) for moment in plot.load)
        yield Markup('<path class="load" d="M{} 0h{}v{}h{}z"/>').format(begin, end - begin, _HEIGHT, begin - end)
    for held in plot.held:
        begin, end = window.place(held.begin), window.place(held.end)
        base, top = _level(held.base, axis), _level(held.top, axis)
        yield Markup('<path class="held" d="M{} {}V{}H{}V{}z"/>').format(begin, base, top, end, base)
    for at, _ in plot.marks:
        yield Markup('<path class="at" d="M{} 0V{}"/>').format(window.place(at), _HEIGHT)
    for line in plot.lines:
        if line.points:
            yield Markup('<path class="l g{}" d="{}"/>').format(line.style % STYLES, path(line.points, window, axis))
    for line in plot.lines:
        if line.local:
            yield Markup('<path class="n g{}" d="{}"/>').format(line.style % STYLES, dots(line.local, window, axis))
    if plot.seen:
        data = "".join(f"M{window.place(at)} {_level(value, axis)}h0" for at, value in plot.seen)
        yield Markup('<path class="seen" d="{}"/>').format(data)


def _mark_texts(plot: Plot, window: Window) -> Iterator[Markup]:
    """Words above the marks; those of marks that lie close together share a place."""
    texts: list[tuple[float, str]] = []
    for at, text in plot.marks:
        percent = window.percent(at)
        if text and texts and percent - texts[-1][0] < _MARK_PERCENT:
            texts[-1] = (texts[-1][0], f"{texts[-1][1]}, {text}")
        elif text:
            texts.append((percent, text))
    for percent, text in texts:
        yield Markup('<text class="mark" x="{}%" y="11" dx="2">{}</text>').format(percent, text)


def _value_ticks(plot: Plot, axis: Sequence[float]) -> Iterator[Markup]:
    for value in axis:
        y = round(_TOP_PX + plot.height_px * _level(value, axis) / _HEIGHT, 1)
        yield Markup('<line class="rule" x2="100%" y1="{0}" y2="{0}"/>').format(y)
        text = plot.scale.text(value) if value == axis[-1] else quantities.digits(value / plot.scale.factor)
        yield Markup('<text class="tick" x="100%" y="{}" dx="6">{}</text>').format(y + 4, text)


def _time_ticks(plot: Plot, window: Window) -> Iterator[Markup]:
    y = _TOP_PX + plot.height_px
    moments = list(time_ticks(window))
    pattern = "%H:%M:%S" if any(moment.second for moment in moments) else "%H:%M"
    for moment in moments:
        percent = window.percent(moment)
        side = "start" if percent < 8 else "end" if percent > 92 else "middle"
        yield Markup('<line class="rule" x1="{0}%" x2="{0}%" y1="{1}" y2="{2}"/>').format(percent, y, y + 4)
        yield Markup('<text class="hour" x="{}%" y="{}" text-anchor="{}">{}</text>').format(
            percent, y + 16, side, f"{moment:{pattern}}"
        )


def _round_ticks(low: float, high: float, factor: float) -> list[float]:
    """Two to four steps of 1, 2, 2.5 or 5 times a power of ten that enclose low to high."""
    rough = (high - low) / 3 or abs(high) / 3
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(times * power for times in _STEPS if times * power >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [number * step * factor for number in range(first, last + 1)]


def _level(value: float, axis: Sequence[float]) -> int:
    return round(_HEIGHT * (1 - (value - axis[0]) / (axis[-1] - axis[0])))


def _minute() -> int:
    return PERIOD_SECONDS * _UNITS_PER_MINUTE // 60
