"""What `plan` prints: a summary for people, or one JSON document."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from gpunodes.plan.plan import BakePlan
from gpunodes.report import print_facts


def document(plan: BakePlan) -> dict[str, Any]:
    """`plan --json`."""
    return {"result": "planned", "is_new": _is_new(plan), **asdict(plan)}


def show(plan: BakePlan, out: Console) -> None:
    """Whether a bake would make something new first, then from what, then what it takes."""
    verdict = ("something new", "bold green") if _is_new(plan) else ("nothing new", "bold yellow")
    out.print()
    out.print(Text.assemble(verdict, f"  for channel {plan.channel}"))
    print_facts(
        out,
        [
            ("base image", f"{plan.base_ami}  {plan.base_name}"),
            ("", f"of {plan.base_creation_date[:10]}, flavor {plan.flavor}"),
            ("gpumon", plan.gpumon_version),
            ("CloudWatch agent", f"{plan.pins.agent_version}, signed by …{plan.pins.agent_key_fingerprint[-8:]}"),
            ("fingerprint", plan.fingerprint[:16]),
            ("baked on", plan.instance_type),
            ("takes", _duration(plan)),
            ("costs", f"about {plan.usd:.2f} USD ({plan.usd_reason})" if plan.usd else f"not known: {plan.usd_reason}"),
            ("compared with", _previous(plan)),
        ],
    )
    for difference in plan.differences or []:
        out.print(Text(f"    {difference.name}: {difference.before or '(none)'} -> {difference.after or '(none)'}"))
    for note in plan.notes:
        out.print(Text(f"  note: {note}", style="yellow"))


def _is_new(plan: BakePlan) -> bool:
    """A recipe that is not known counts as another one."""
    return plan.differences is None or bool(plan.differences)


def _duration(plan: BakePlan) -> str:
    return "not known: no bake was timed here yet" if plan.seconds is None else f"usually {plan.seconds:.0f} s"


def _previous(plan: BakePlan) -> str:
    if plan.previous is None:
        return f"nothing: channel {plan.channel} has no image yet"
    text = f"{plan.previous.ami_id}  {plan.previous.name} ({plan.previous.state})"
    return f"{text}, whose recipe is not known" if plan.differences is None else text
