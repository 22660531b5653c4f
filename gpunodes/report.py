"""What a command prints at its end: a summary for people on standard error, or one JSON document on standard output."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from gpunodes.bake.bake import Baked
from gpunodes.cleanup.destroy import Destroyed
from gpunodes.operation.steps import Timing
from gpunodes.proof.check import Check
from gpunodes.proof.proof import Verdict

_MARKS = {True: (("✓", "green"), "dim"), False: (("✗", "red"), "red"), None: (("?", "yellow"), "yellow")}
_REASON_WIDTH = 48  # with less room beside its check, a reason goes on a line of its own


def console() -> Console:
    """Where people read."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(document, indent=2, default=str))  # noqa: T201 - standard output is the interface


def baked_document(baked: Baked) -> dict[str, Any]:
    """`build-ami --json`."""
    return {"result": "baked", **asdict(baked)}


def verdict_document(verdict: Verdict) -> dict[str, Any]:
    """`test-instance --json`."""
    return asdict(verdict)


def destroyed_document(destroyed: Destroyed) -> dict[str, Any]:
    """`destroy --json`."""
    return {"result": "destroyed", **asdict(destroyed)}


def print_baked(baked: Baked) -> None:
    """Which image, from what, where the evidence lies."""
    out = console()
    out.print()
    out.print(Text.assemble(("baked  ", "bold green"), (baked.ami_id, "bold"), f"  {baked.name}"))
    print_facts(
        out,
        [
            ("base image", f"{baked.source_ami}  {baked.flavor}"),
            ("channel", baked.channel),
            ("gpumon", baked.gpumon_version),
            ("fingerprint", baked.fingerprint[:16]),
            ("packages", str(baked.packages)),
            ("evidence", str(baked.evidence)),
            (
                "took",
                f"{_seconds(baked.timings)}: Packer {baked.packer_seconds:.1f} s, gpunodes {baked.own_seconds:.1f} s",
            ),
        ],
    )
    for note in baked.notes:
        out.print(Text(f"  note: {note}", style="yellow"))


def print_verdict(verdict: Verdict) -> None:
    """Passed or failed first, then every check with what was seen."""
    out = console()
    passed = verdict.result == "passed"
    colour = "green" if passed else "red"
    out.print()
    out.print(
        Text.assemble(
            (f"{verdict.result}  ", f"bold {colour}"), (verdict.ami_id, "bold"), f"  on {verdict.instance_type}"
        )
    )
    print_checks(out, verdict.checks)
    state = "still running" if verdict.kept else "destroyed"
    print_facts(
        out,
        [
            *([("image is now", verdict.state)] if verdict.state else []),
            ("instance", f"{verdict.instance_id}, {state}"),
            *((f"  {name}", command) for name, command in verdict.kept.items()),
            ("evidence", str(verdict.evidence)),
            ("took", _seconds(verdict.timings)),
        ],
    )


def print_checks(out: Console, checks: list[Check]) -> None:
    """A line for each check, with what was seen."""
    width = max((len(check.name) for check in checks), default=0) + 2
    is_narrow = out.is_terminal and out.width < width + _REASON_WIDTH
    for check in checks:
        mark, style = _MARKS[check.passed]
        reason = Text(check.reason, style=style)
        if is_narrow:
            out.print(Text.assemble("  ", mark, f" {check.name}"))
            out.print(Padding(reason, (0, 0, 0, 6)), soft_wrap=False)
        else:
            out.print(Text.assemble("  ", mark, f" {check.name:<{width}}", reason))


def print_destroyed(destroyed: Destroyed) -> None:
    """Which runs."""
    text = ", ".join(destroyed.run_ids) if destroyed.run_ids else "nothing was left"
    if destroyed.going_on:
        text += f"; going on and left alone: {', '.join(destroyed.going_on)}"
    console().print(Text.assemble(("destroyed  ", "bold green"), text))


def print_parts(parts: list[tuple[str, str]], machines: list[dict[str, str]]) -> None:
    """One line for each part of the offline cloud, then one for each instance."""
    out = console()
    print_facts(out, parts)
    for machine in machines:
        out.print("  " + "  ".join(str(value) for value in machine.values()), markup=False)


def print_facts(out: Console, facts: list[tuple[str, str]]) -> None:
    """Name and value, a line each."""
    for name, value in facts:
        out.print(Text.assemble((f"  {name:<18}", "dim"), value))


def _seconds(timings: list[Timing]) -> str:
    return f"{sum(timing.seconds for timing in timings):.1f} s"
