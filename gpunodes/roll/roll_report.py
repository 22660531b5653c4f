"""What `roll` prints: each group with what became of it, and the way back; or one JSON document."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from gpunodes.roll.roll import NOT_BEGUN, NOTHING, ROLLED, Rolled

_STYLES = {ROLLED: "bold green", NOTHING: "bold yellow", NOT_BEGUN: "dim"}


def document(rolled: Rolled) -> dict[str, Any]:
    """`roll --json`: `decision`, `reason`, `ami_id` of the image that the channel names, and what was done."""
    return {
        "decision": rolled.decision,
        "reason": rolled.reason,
        "ami_id": rolled.ami_id,
        "channel": rolled.channel,
        "done": rolled.done,
        "way_back": rolled.way_back,
        "groups": [asdict(outcome) for outcome in rolled.groups],
    }


def show(rolled: Rolled, out: Console) -> None:
    """A line for each group, what was done in it, and what a person can do about a failure."""
    out.print()
    for outcome in rolled.groups:
        style = _STYLES.get(outcome.decision, "bold red")
        out.print(Text.assemble((outcome.decision, style), "  ", (outcome.group, "bold"), f"  {outcome.reason}"))
        for done in outcome.done:
            out.print(Text(f"  {done}"))
    out.print(Text(f"  channel {rolled.channel} names {rolled.ami_id}", style="dim"))
    if rolled.way_back:
        out.print(Text(f"  the channel was left alone; the way back everywhere: {rolled.way_back}"))
