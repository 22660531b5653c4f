"""What `status` prints: one table, or one JSON document."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gpunodes.status.status import ChannelStatus, Status

_HEADINGS = (
    "channel",
    "image",
    "age",
    "base",
    "proven",
    "waiting",
    "deprecated",
    "disabled",
    "due",
    "GiB",
    "USD/month",
)


def document(status: Status) -> dict[str, Any]:
    """`status --json`."""
    return {
        "at": status.at.isoformat(timespec="seconds"),
        "channels": [
            {
                name: value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
                for name, value in asdict(line).items()
            }
            for line in status.channels
        ],
        "price": status.price_reason,
        "sources_that_failed": list(status.failed),
        "unreachable": status.unreachable,
    }


def show(status: Status, out: Console) -> None:
    """The table, and below it what is wrong."""
    out.print()
    if not status.channels:
        out.print("  no image was baked here yet; begin with `invoke build-ami`")
        return
    table = Table(box=None, pad_edge=False, show_edge=False)
    for number, heading in enumerate(_HEADINGS):
        table.add_column(heading, justify="left" if number < 5 else "right", no_wrap=True)
    for line in status.channels:
        table.add_row(*_cells(line, status.at))
    out.print(table)
    for line in status.channels:
        if line.note:
            out.print(Text(f"  note: channel {line.channel} {line.note}", style="yellow"))
        for each in line.regions:
            said = f"  {line.channel} in {each.region}: {each.ami_id or 'none'}"
            out.print(Text(f"{said}, {each.note}" if each.note else said, style="yellow" if each.note else "dim"))
    if status.unreachable:
        out.print(Text(f"  note: other regions are not shown: {status.unreachable}", style="yellow"))
    if status.failed:
        unsure = f"  note: what is due is not known for sure: {', '.join(status.failed)} did not answer"
        out.print(Text(unsure, style="yellow"))
    if all(line.monthly_usd is None for line in status.channels):
        out.print(Text(f"  note: no price: {status.price_reason}", style="dim"))


def _cells(line: ChannelStatus, now: datetime) -> list[str]:
    return [
        line.channel,
        line.ami_id or "none",
        _age(now - line.baked_at) if line.baked_at else "?",
        line.base_ami or "?",
        line.proven_at[:10] or "no",
        str(line.candidates),
        str(line.deprecated),
        str(line.disabled),
        str(line.due),
        f"<= {line.gib}",
        "?" if line.monthly_usd is None else f"<= {line.monthly_usd:.2f}",
    ]


def _age(span: timedelta) -> str:
    return f"{span.days} d" if span.days else f"{span.seconds // 3600} h"
