"""Finds out whether this host can do what gpumon is for, and says what to do where it cannot."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from gpumon.errors import DriverUnavailableError, GpumonError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpumon.identity import InstanceIdentity
    from gpumon.metrics import Metric
    from gpumon.readers import GpuReader


class Health(IntEnum):
    """A verdict; its number is the exit code of ``gpumon check``."""

    HEALTHY = 0
    DEGRADED = 1
    BROKEN = 2


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, what was found, and what to do about it ("" if nothing)."""

    subject: str
    health: Health
    found: str
    advice: str = ""


def run_checks(
    reader: GpuReader,
    metrics: Sequence[Metric],
    find_identity: Callable[[], InstanceIdentity],
    find_credentials: Callable[[], str | None],
    region: str,
) -> list[Finding]:
    """Look at the driver, each GPU, the identity, the Region and the credentials; never raises for what it finds."""
    findings = list(_gpu_findings(reader, metrics))
    identity_finding, identity_region = _identity_finding(find_identity)
    findings.append(identity_finding)
    if region or identity_region:
        findings.append(Finding("region", Health.HEALTHY, region or identity_region))
    else:
        findings.append(Finding("region", Health.BROKEN, "unknown", "Set region in /etc/gpumon/gpumon.toml."))
    findings.append(_credentials_finding(find_credentials))
    return findings


def verdict(findings: Sequence[Finding]) -> Health:
    """Return the worst health found."""
    return max(finding.health for finding in findings)


def as_text(findings: Sequence[Finding]) -> str:
    """Return the findings, one line each, and the verdict."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.health.name.lower():8}  {finding.subject}: {finding.found}")
        if finding.advice:
            lines.append(f"{'':8}  -> {finding.advice}")
    return "\n".join([*lines, f"this host is {verdict(findings).name.lower()}"]) + "\n"


def as_json(findings: Sequence[Finding]) -> str:
    """Return the findings and the verdict as one JSON document."""
    shown = [{**asdict(finding), "health": finding.health.name.lower()} for finding in findings]
    return json.dumps({"health": verdict(findings).name.lower(), "findings": shown}, indent=2) + "\n"


def _gpu_findings(reader: GpuReader, metrics: Sequence[Metric]) -> Iterator[Finding]:
    try:
        samples = reader.read()
    except DriverUnavailableError as error:
        yield Finding("driver", Health.BROKEN, "does not answer", str(error))
        return
    finally:
        reader.close()
    if not samples:
        yield Finding("driver", Health.BROKEN, "answers and shows no GPU", "Look for NVRM lines in the kernel log.")
        return
    yield Finding("driver", Health.HEALTHY, f"answers and shows {len(samples)} GPU(s)")
    for sample in samples:
        subject = f"GPU {sample.gpu.index} ({sample.gpu.name}, {sample.gpu.uuid})"
        missing = [m.name for m in metrics if m.scope == "gpu" and sample.values.get(m.reader) is None]
        if not missing:
            yield Finding(subject, Health.HEALTHY, "every value can be read")
        elif all(value is None for value in sample.values.values()):
            yield Finding(subject, Health.DEGRADED, "no value can be read", "Reset the GPU or replace the instance.")
        else:
            advice = "Ignore this if the GPU does not have them; else look for NVRM lines in the kernel log."
            yield Finding(subject, Health.DEGRADED, f"cannot be read: {', '.join(missing)}", advice)


def _identity_finding(find_identity: Callable[[], InstanceIdentity]) -> tuple[Finding, str]:
    try:
        identity = find_identity()
    except GpumonError as error:
        return Finding("identity", Health.BROKEN, "unknown", str(error)), ""
    return Finding("identity", Health.HEALTHY, f"{identity.instance_id} ({identity.instance_type})"), identity.region


def _credentials_finding(find_credentials: Callable[[], str | None]) -> Finding:
    try:
        source = find_credentials()
    except GpumonError as error:
        return Finding("credentials", Health.BROKEN, "cannot be used", str(error))
    if source is None:
        advice = "Give the instance a profile whose role allows cloudwatch:PutMetricData."
        return Finding("credentials", Health.BROKEN, "none", advice)
    return Finding("credentials", Health.HEALTHY, f"found ({source})")
