"""What `promote` and `rollback` print: a summary for people, or one JSON document."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from gpunodes.channel.promote import Promotion
from gpunodes.channel.rollback import Rollback
from gpunodes.report import print_facts


def promotion_document(done: Promotion) -> dict[str, Any]:
    """`promote --json`: `decision`, `reason`, `ami_id` of the image that the channel names, and what was done."""
    decision = "promoted" if done.was_promoted else "nothing"
    return {"decision": decision, "reason": _why(done), **asdict(done), "done": _promoted(done)}


def rollback_document(done: Rollback) -> dict[str, Any]:
    """`rollback --json`, of the same form."""
    found = asdict(done)
    steps = [f"enabled {done.ami_id}"] if done.was_enabled else []
    steps.append(f"promoted {done.ami_id} again")
    steps += [f"promoted {ami_id} again in {region}" for region, ami_id in done.regions.items()]
    return {"decision": "rolled back", **found, "reason": done.reason or f"{done.left_ami} was left", "done": steps}


def show_promotion(done: Promotion, out: Console) -> None:
    """Which image the channel names now, and how to launch by it."""
    verdict = ("promoted", "bold green") if done.was_promoted else ("nothing to do", "bold yellow")
    out.print()
    out.print(Text.assemble(verdict, "  ", (done.ami_id, "bold"), f"  in channel {done.channel}"))
    facts = [
        ("parameter", f"/gpunodes/{done.channel}/ami-id, version {done.version}"),
        ("launch by", f"resolve:ssm:/gpunodes/{done.channel}/ami-id"),
        ("before", done.previous_ami or "none" if done.was_promoted else f"{done.ami_id}, which it names already"),
    ]
    facts += [(region, ami_id) for region, ami_id in done.regions.items()]
    if done.shared_with:
        facts.append(("shared with", ", ".join(done.shared_with)))
    print_facts(out, facts)
    for objection in done.objections:
        out.print(Text(f"  note: it {objection}; overridden: {done.override}", style="yellow"))


def show_rollback(done: Rollback, out: Console) -> None:
    """Which image the channel names again, and what becomes of the other."""
    out.print()
    out.print(
        Text.assemble(("rolled back", "bold green"), "  to ", (done.ami_id, "bold"), f"  in channel {done.channel}")
    )
    print_facts(
        out,
        [
            ("parameter", f"/gpunodes/{done.channel}/ami-id, version {done.version}"),
            ("left", f"{done.left_ami}, which no refresh promotes again"),
            *done.regions.items(),
        ],
    )
    if done.was_enabled:
        out.print(Text(f"  note: {done.ami_id} was disabled and is enabled; only whom the policy names has it back"))


def _promoted(done: Promotion) -> list[str]:
    if not done.was_promoted:
        return []
    steps = [f"promoted {done.ami_id}"]
    steps += [f"promoted {ami_id} in {region}" for region, ami_id in done.regions.items()]
    return [*steps, f"shared it with {', '.join(done.shared_with)}"] if done.shared_with else steps


def _why(done: Promotion) -> str:
    if not done.was_promoted:
        return f"channel {done.channel} names {done.ami_id} already"
    if done.objections:
        return f"it {' and '.join(done.objections)}; overridden: {done.override}"
    return "it is proven"
