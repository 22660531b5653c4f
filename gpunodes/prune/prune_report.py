"""What `prune` prints: a table with a reason for each image, or one JSON document."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gpunodes.prune.prune_plan import KEEP, Entry
from gpunodes.prune.prune_run import Prune

_STYLES = {KEEP: "dim", "deprecate": "yellow", "disable": "yellow", "deregister": "red"}


def document(prune: Prune, channel: str) -> dict[str, Any]:
    """`prune --json`; `ami_id` is what the channel names."""
    return {
        "decision": _decision(prune),
        "reason": _reason(prune),
        "ami_id": prune.named.get(channel, ""),
        "done": [vars(done) for done in prune.done],
        "images": [_row(entry) for entry in prune.entries],
        "sources_that_failed": dict(prune.failed),
        "sources_that_are_lacking": dict(prune.lacking),
        "stopped": prune.stopped,
    }


def show(prune: Prune, out: Console) -> None:
    """What happens to each image and why; then what keeps it from happening."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    has_regions = len({entry.image.region for entry in prune.entries}) > 1
    for heading in ("action", "channel", "state", "baked", *(("region",) if has_regions else ()), "image, and why"):
        table.add_column(heading, overflow="fold")
    for entry in prune.entries:
        row = _row(entry)
        where = [row["region"]] if has_regions else []
        image = Text.assemble(row["ami_id"], "\n", (entry.reason, "dim"))  # below each other: in 80 columns, too
        action = Text(entry.action, style=_STYLES[entry.action])
        table.add_row(action, row["channel"], row["state"], row["baked_at"][:10], *where, image)
    out.print()
    out.print(Text.assemble((_decision(prune), "bold"), f"  {_reason(prune)}"))
    if prune.entries:
        out.print(table)
    for done in prune.done:
        if not done.was_done:
            out.print(Text(f"  note: {done.ami_id} stays: {done.reason}", style="yellow"))
        for snapshot in done.left:
            out.print(
                Text(f"  note: {snapshot} of {done.ami_id} is still there: another image needs it", style="yellow")
            )
    for name, why in prune.lacking.items():
        out.print(Text(f"  note: {name} could not be asked: {why}", style="yellow"))
    for name, why in prune.failed.items():
        out.print(Text(f"error: {name} did not answer, so nothing is disabled or deleted: {why}", style="red"))
    if prune.stopped:
        out.print(Text(f"error: {prune.stopped}", style="red"))


def _decision(prune: Prune) -> str:
    if not prune.counts.keys() - {KEEP}:
        return "nothing"
    return "pruned" if prune.was_applied else "planned"


def _reason(prune: Prune) -> str:
    due = {action: count for action, count in prune.counts.items() if action != KEEP}
    if not due:
        return f"none of {len(prune.entries)} images is due"
    words = ", ".join(f"{action} {count}" for action, count in due.items())
    if prune.was_applied:
        return f"{sum(done.was_done for done in prune.done)} of {sum(due.values())} done: {words}"
    return f"{words} of {len(prune.entries)} images; nothing was changed, --apply does it"


def _row(entry: Entry) -> dict[str, Any]:
    image = entry.image
    return {
        "ami_id": image.ami_id,
        "region": image.region,
        "name": image.name,
        "channel": image.channel,
        "state": "disabled" if image.is_disabled else image.state or "unfinished",
        "baked_at": image.created_at.isoformat(timespec="seconds"),
        "gib": image.gib,
        "action": entry.action,
        "reason": entry.reason,
        "due_at": entry.due_at.isoformat(timespec="seconds") if entry.due_at else None,
    }
