"""Evidence, which is any JSON, in the shapes that a page can show: facts, tables, lists, text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpunodes.proof_report import quantities
from gpunodes.proof_report.proof_document import moment

MOST_ROWS = 100  # the file beside the page has them all
_DEEPEST = 4
_SUFFIXES = {"_percent": "%", "_celsius": "°C", "_watts": "W", "_usd": "USD", "_gib": "GiB", "_mib": "MiB"}


@dataclass(frozen=True)
class Shape:
    """What to show.

    Attributes:
        kind: `facts` (rows of name and shape), `table` (columns, and rows of texts), `items` (texts), `lines` (text of
            several lines), `text`, or `nothing`.
        text: of a text.
        rows: of the others.
        columns: of a table.
        left_out: how many rows are not shown.
    """

    kind: str
    text: str = ""
    rows: Sequence[Any] = field(default_factory=tuple)
    columns: Sequence[str] = ()
    left_out: int = 0


def shape(value: Any, name: str = "", depth: int = 0) -> Shape:
    """The shape of a value; the name tells the unit, as in `free_bytes`."""
    if isinstance(value, Mapping) and value:
        return _mapping(value, depth)
    if isinstance(value, list | tuple) and value:
        return _sequence(value, name, depth)
    if isinstance(value, Mapping | list | tuple | str) and not value:
        return Shape("nothing", "none")
    if isinstance(value, str) and "\n" in value.strip():
        return Shape("lines", value)
    return Shape("nothing", "unknown") if value is None else Shape("text", _text(value, name))


def _mapping(value: Mapping[Any, Any], depth: int) -> Shape:
    if depth >= _DEEPEST:
        return Shape("lines", _json(value))
    rows = list(value.values())
    if len(rows) > 1 and all(isinstance(row, Mapping) and row and _is_flat(row) for row in rows):
        return _table([{"": key, **row} for key, row in value.items()])
    return Shape("facts", rows=[(_title(str(key)), shape(entry, str(key), depth + 1)) for key, entry in value.items()])


def _sequence(value: Sequence[Any], name: str, depth: int) -> Shape:
    if all(isinstance(row, Mapping) and row and _is_flat(row) for row in value):
        return _table(value)
    if _is_flat(dict(enumerate(value))):
        texts = [_text(entry, name) or "unknown" for entry in value]
        if sum(map(len, texts)) <= 80:
            return Shape("text", ", ".join(texts))
        return Shape("items", rows=texts[:MOST_ROWS], left_out=max(len(texts) - MOST_ROWS, 0))
    if depth >= _DEEPEST:
        return Shape("lines", _json(value))
    rows = [(str(number), shape(entry, name, depth + 1)) for number, entry in enumerate(value[:MOST_ROWS], 1)]
    return Shape("facts", rows=rows, left_out=max(len(value) - MOST_ROWS, 0))


def _table(rows: Sequence[Mapping[Any, Any]]) -> Shape:
    columns = list(dict.fromkeys(str(key) for row in rows for key in row))
    texts = [[_text(row.get(column, ""), column) for column in columns] for row in rows[:MOST_ROWS]]
    return Shape("table", rows=texts, columns=[_title(name) for name in columns], left_out=len(rows) - len(texts))


def _is_flat(row: Mapping[Any, Any]) -> bool:
    return not any(isinstance(entry, Mapping | list | tuple) for entry in row.values())


def _title(name: str) -> str:
    """A key as words; its unit goes to the values."""
    for suffix in ("_bytes", "_seconds", *_SUFFIXES):
        name = name.removesuffix(suffix)
    return name.replace("_", " ")


def _text(value: Any, name: str) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _number(value, name)
    at = moment(value) if isinstance(value, str) and "T" in value else None
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else str(value)


def _number(value: float, name: str) -> str:
    if name.endswith("_bytes"):
        return quantities.size(value)
    if name.endswith("_seconds"):
        return quantities.scale("", "Seconds", abs(value)).text(value)
    unit = next((unit for suffix, unit in _SUFFIXES.items() if name.endswith(suffix)), "")
    number = str(value) if isinstance(value, int) else quantities.digits(value)
    return f"{number} {unit}".strip()


def clock(iso: str) -> str:
    """A moment for people, as `22 November 2026, 04:32:10 UTC`; what is no time stays as it is."""
    at = moment(iso)
    return iso if at is None else f"{at.day} {at:%B %Y, %H:%M:%S} UTC"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
