"""What was measured, beside what it must be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        name: What was measured.
        must: What the figure must be, in words; "" if nothing is asked.
        measured: The figure, in words.
        is_met: None: nothing is asked, or it was not measured.
    """

    name: str
    must: str
    measured: str
    is_met: bool | None = None


def at_most(name: str, limit: float, value: float, unit: str, note: str = "") -> Figure:
    """Return a figure that must be at most `limit`."""
    return Figure(name, f"<= {limit:g} {unit}", _measured(value, unit, note), value <= limit)


def printed(name: str, value: float, unit: str, note: str = "") -> Figure:
    """Return a figure of which nothing is asked."""
    return Figure(name, "", _measured(value, unit, note))


def not_measured(name: str, must: str, why: str) -> Figure:
    """Return a figure that there is none of."""
    return Figure(name, must, f"not measured: {why}")


def table(figures: list[Figure]) -> str:
    """Return the figures as a Markdown table."""
    verdicts = {True: "met", False: "MISSED", None: ""}
    rows = [("figure", "must", "measured", ""), *((f.name, f.must, f.measured, verdicts[f.is_met]) for f in figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _measured(value: float, unit: str, note: str) -> str:
    digits = 2 if abs(value) < 10 else 1
    return f"{value:.{digits}f} {unit}{f' ({note})' if note else ''}"
