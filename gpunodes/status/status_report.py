"""What `status` prints: one table, or one JSON document."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gpunodes.status.status import ChannelStatus, Status

# Two lines for each channel, so that all of it fits into 80 columns.
_CHANNEL = ("channel", "")  # the only one that may be long
_HEADINGS = (
    _CHANNEL,
    ("image", "base"),
    ("age", "proven"),
    ("waiting", ""),
    ("deprecated", "disabled, due"),
    ("snapshots", "a month"),
)


def document(status: Status, channel: str) -> dict[str, Any]:
    """`status --json`; `ami_id` is what the channel names."""
    return {
        "decision": "nothing",
        "reason": f"channels looked at: {len(status.channels)}",
        "ami_id": next((line.ami_id for line in status.channels if line.channel == channel), ""),
        "done": [],
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
    for headings in _HEADINGS:
        table.add_column("\n".join(headings), overflow="fold", no_wrap=headings != _CHANNEL)
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
    price = "no price" if line.monthly_usd is None else f"<= {line.monthly_usd:.2f} USD"
    return [
        line.channel,
        f"{line.ami_id or 'none'}\n{line.base_ami or '?'}",
        f"{_age(now - line.baked_at) if line.baked_at else '?'}\n{line.proven_at[:10] or 'no'}",
        str(line.candidates),
        f"{line.deprecated}\n{line.disabled}, {line.due}",
        f"<= {line.gib} GiB\n{price}",
    ]


def _age(span: timedelta) -> str:
    return f"{span.days} d" if span.days else f"{span.seconds // 3600} h"
