"""What `refresh-ami` prints, and `plan --refresh` beside the plan of the bake: what is due, and why or why not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from gpunodes.plan import plan_report
from gpunodes.plan.plan import BakePlan
from gpunodes.refresh.refresh import FAILED, REFRESHED, Refreshed
from gpunodes.refresh.situation import RefreshPlan


def document(planned: BakePlan, due: RefreshPlan | None) -> dict[str, Any]:
    """`plan --json`; with `--refresh` also `decision`, `reason` and `ami_id` of the promoted image.

    Args:
        planned: the bake.
        due: the refresh; None where nobody asked.
    """
    bake = plan_report.document(planned)
    if due is None:
        return bake
    decision = due.decision
    return {
        "decision": decision.action,
        "reason": decision.reason,
        "ami_id": due.promoted_ami,
        "refresh": {
            "channel": due.channel,
            "is_due": decision.is_due,
            "due_at": decision.due_at.isoformat() if decision.due_at else None,
            "begun_ami": decision.ami_id,
            "urgency": due.urgency,
            "changes": [asdict(change) for change in due.changes],
        },
        "bake": bake,
    }


def show(planned: BakePlan, due: RefreshPlan | None, out: Console) -> None:
    """The plan of the bake, and below it in a line or two what a refresh would do."""
    plan_report.show(planned, out)
    if due is None:
        return
    style = "bold green" if due.decision.is_due else "bold yellow"
    out.print()
    out.print(Text.assemble(("refresh: ", "bold"), (due.decision.action, style), f"  {due.decision.reason}"))
    out.print(Text(f"  channel {due.channel} names {due.promoted_ami or 'no image yet'}", style="dim"))


def refreshed_document(refreshed: Refreshed) -> dict[str, Any]:
    """`refresh-ami --json`."""
    return {
        "decision": refreshed.decision,
        "reason": refreshed.reason,
        "ami_id": refreshed.ami_id,
        "channel": refreshed.channel,
        "done": refreshed.done,
        "problem": refreshed.problem,
    }


def show_refreshed(refreshed: Refreshed, out: Console) -> None:
    """What was decided and why, what was done, and what the channel names now."""
    style = {REFRESHED: "bold green", FAILED: "bold red"}.get(refreshed.decision, "bold yellow")
    out.print()
    out.print(Text.assemble((refreshed.decision, style), f"  {refreshed.reason}"))
    for done in refreshed.done:
        out.print(Text(f"  {done}"))
    if refreshed.problem:
        out.print(Text(f"  older images were not retired: {refreshed.problem}", style="bold red"))
    out.print(Text(f"  channel {refreshed.channel} names {refreshed.ami_id or 'no image yet'}", style="dim"))
