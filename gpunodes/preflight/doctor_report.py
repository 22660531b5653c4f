"""What `invoke doctor` prints for people."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from gpunodes.preflight.diagnosis import Diagnosis, failures
from gpunodes.preflight.finding import FAILED, NOT_ANSWERED, PASSED, Outcome

_TEXT_WIDTH = 48  # with less room beside its check, a text goes on a line of its own
_MARKS: dict[Outcome, tuple[str, str, str]] = {
    PASSED: ("✓", "green", "dim"),
    FAILED: ("✗", "red", "red"),
    NOT_ANSWERED: ("?", "yellow", "yellow"),
}


def print_diagnosis(out: Console, diagnosis: Diagnosis) -> None:
    """Ready or not first, then a line for each check with what was found or what to do."""
    failed = len(failures(diagnosis.findings))
    verdict, colour = ("ready  ", "green") if diagnosis.passed else ("not ready  ", "red")
    where = f"{diagnosis.target} {diagnosis.region}, {diagnosis.instance_type}"
    out.print()
    out.print(Text.assemble((verdict, f"bold {colour}"), where))
    width = max((len(finding.name) for finding in diagnosis.findings), default=0) + 2
    is_narrow = out.is_terminal and out.width < width + _TEXT_WIDTH
    for finding in diagnosis.findings:
        mark, mark_style, style = _MARKS[finding.outcome]
        text = Text(finding.text, style=style)
        if is_narrow:
            out.print(Text.assemble("  ", (mark, mark_style), f" {finding.name}"))
            out.print(Padding(text, (0, 0, 0, 6)), soft_wrap=False)
        else:
            out.print(Text.assemble("  ", (mark, mark_style), f" {finding.name:<{width}}", text))
    count = len(diagnosis.findings)
    summary = f"{failed} of {count} checks failed" if failed else f"{count} checks, none failed"
    out.print(Text(f"  {summary}, {diagnosis.seconds:.1f} s", style="dim"))
