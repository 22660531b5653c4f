"""What `reap` prints: a table of what went or would go, with reasons; or one JSON document."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gpunodes.cleanup.reap import Leftover, Reaped, span

_WIDEST = 1000


def document(reaped: Reaped) -> dict[str, Any]:
    """`reap --json`; times in UTC and ISO 8601, ages in seconds."""
    return {
        "result": "reaped" if reaped.is_applied else "planned",
        "is_complete": not reaped.failures,
        "leftovers": [_row(leftover, reaped) for leftover in reaped.plan.leftovers],
        "failures": reaped.failures,
        "going_on": reaped.plan.going_on,
        "undated": reaped.plan.undated,
    }


def show(reaped: Reaped, out: Console) -> None:
    """The table, then what a person must know besides."""
    out.print()
    leftovers = reaped.plan.leftovers
    if leftovers:
        _print_whole(_table(reaped), out)
    out.print(_summary(reaped))
    for sentence in reaped.failures:
        out.print(Text(f"  failed: {sentence}", style="red"))
    for name in reaped.plan.undated:
        out.print(Text(f"  left alone: {name} carries neither an expiry nor a time; look at it.", style="yellow"))
    if reaped.plan.going_on:
        out.print(Text(f"  going on and left alone: {', '.join(reaped.plan.going_on)}", style="dim"))
    if leftovers and not reaped.is_applied:
        out.print(Text("  nothing was deleted; `invoke reap --apply` does it", style="dim"))


def _print_whole(table: Table, out: Console) -> None:
    """As wide as it is, not as the terminal: an id that was cut could not be copied."""
    width = out.width
    out.width = max(width, out.measure(table, options=out.options.update(max_width=_WIDEST)).maximum)
    out.print(table)
    out.width = width


def _summary(reaped: Reaped) -> Text:
    count = len(reaped.plan.leftovers)
    if reaped.is_applied:
        text = f"{len(reaped.gone)} of {count} deleted" if count else "nothing to delete"
        return Text.assemble(("reaped  ", "bold red" if reaped.failures else "bold green"), text)
    text = f"{count} would go" if count else "nothing has expired"
    if reaped.plan.failures:
        text += ", as far as could be seen"
    return Text.assemble(("planned  ", "bold"), text)


def _table(reaped: Reaped) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("kind", "id", "run", "age", "reason", *([""] if reaped.is_applied else [])):
        table.add_column(heading, no_wrap=True)
    for leftover in reaped.plan.leftovers:
        age = "?" if leftover.age is None else span(leftover.age)
        cells = [leftover.kind, leftover.id, leftover.run_id or "?", age, leftover.reason]
        table.add_row(*cells, *([_outcome(leftover, reaped)] if reaped.is_applied else []))
    return table


def _outcome(leftover: Leftover, reaped: Reaped) -> Text:
    return Text("deleted", style="green") if leftover in reaped.gone else Text("failed", style="red")


def _row(leftover: Leftover, reaped: Reaped) -> dict[str, Any]:
    return {
        "kind": leftover.kind,
        "id": leftover.id,
        "run_id": leftover.run_id,
        "expires_at": leftover.expires_at.isoformat() if leftover.expires_at else None,
        "age_seconds": round(leftover.age.total_seconds()) if leftover.age else None,
        "reason": leftover.reason,
        "is_deleted": leftover in reaped.gone,
    }
