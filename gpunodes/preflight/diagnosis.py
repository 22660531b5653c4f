"""What to make of the findings: `require` for a bake, `doctor` for a person."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gpunodes.aws import Clients
from gpunodes.bake.template_check import Template
from gpunodes.errors import PreflightError
from gpunodes.preflight.checks import checks
from gpunodes.preflight.finding import FAILED, Finding
from gpunodes.preflight.instance_type import BaseFacts
from gpunodes.settings import Settings
from gpunodes.target import Target


@dataclass(frozen=True)
class Diagnosis:
    """What `invoke doctor` answers.

    Attributes:
        target: its name, `aws` or `offline`.
        region: that was asked.
        instance_type: that would bake.
        findings: one for each check.
        seconds: that it took.
    """

    target: str
    region: str
    instance_type: str
    findings: list[Finding]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether nothing keeps a bake from starting."""
        return not failures(self.findings)

    @property
    def exit_code(self) -> int:
        """1 where a check failed, as for every verdict."""
        return 0 if self.passed else 1

    def document(self) -> dict[str, Any]:
        """`doctor --json`."""
        return {
            "result": "passed" if self.passed else "failed",
            "target": self.target,
            "region": self.region,
            "instance_type": self.instance_type,
            "findings": [finding.document() for finding in self.findings],
            "seconds": round(self.seconds, 2),
        }


def doctor(
    target: Target,
    settings: Settings,
    clients: Clients,
    *,
    base: BaseFacts | Callable[[], BaseFacts],
    template: Template | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Diagnosis:
    """Run the preflight alone; nothing is changed, neither here nor in AWS. Arguments as for `checks`."""
    start = clock()
    findings = checks(target, settings, clients, base=base, template=template)
    return Diagnosis(target.name, target.region, settings.build_instance_type, findings, clock() - start)


def failures(findings: Sequence[Finding]) -> list[Finding]:
    """Those that keep a bake from starting."""
    return [finding for finding in findings if finding.outcome == FAILED]


def require(findings: Sequence[Finding]) -> None:
    """Go on only where nothing failed; what nobody could say is let pass.

    Raises:
        PreflightError: the first failure's sentence, and how many more there are.
        UsageError: the same where an argument or a setting is wrong.
        AwsError: the same where AWS did not answer.
    """
    failed = failures(findings)
    if not failed:
        return
    text = failed[0].text
    if len(failed) > 1:
        end = text[-1] if text[-1] in ".?" else ""
        text = f"{text.removesuffix(end)}{'?' if end == '?' else ''} ({len(failed) - 1} more: see `invoke doctor`)."
    raise (failed[0].error or PreflightError)(text)
