"""Finds out whether this host can do what gpumon is for, and says what to do where it cannot."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from gpumon.errors import DriverMismatchError, DriverUnavailableError, GpumonError
from gpumon.health import degradations, unhealthy_reason
from gpumon.host_facts import LIBRARY, HostFacts, StateFacts
from gpumon.readers import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpumon.identity import InstanceIdentity
    from gpumon.metrics import Metric
    from gpumon.readers import GpuReader
    from gpumon.samples import GpuSample

LATE_SECONDS = 900.0  # a backlog older than this is no hiccup of the network
_NO_WORK = "Give it no work; do what the driver asks for where it says so, else reset the GPU or replace the instance."
_KERNEL_LOG = "Look for NVRM lines in the kernel log."


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
    facts: HostFacts,
    find_identity: Callable[[], InstanceIdentity],
    find_credentials: Callable[[], str | None],
) -> list[Finding]:
    """Look at the driver, each GPU, the identity, the Region, the credentials and the state directory.

    Never raises for what it finds.
    """
    findings = list(_driver_findings(reader, metrics, facts))
    if not facts.publishes_to_cloudwatch:
        findings.append(Finding("CloudWatch", Health.HEALTHY, "not used: cloudwatch = false"))
        return findings + ([] if facts.state is None else list(_state_findings(facts.state)))
    identity_finding, identity_region = _identity_finding(find_identity)
    findings.append(identity_finding)
    if facts.region or identity_region:
        findings.append(Finding("region", Health.HEALTHY, facts.region or identity_region))
    else:
        findings.append(Finding("region", Health.BROKEN, "unknown", "Set region in /etc/gpumon/gpumon.toml."))
    findings.append(_credentials_finding(find_credentials))
    if facts.state is not None:
        findings += _state_findings(facts.state)
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


def _driver_findings(reader: GpuReader, metrics: Sequence[Metric], facts: HostFacts) -> Iterator[Finding]:
    if facts.is_released:
        advice = "Run gpumon resume as root when the driver may be used again."
        yield Finding("driver", Health.DEGRADED, "released by gpumon release, so nothing is read", advice)
        return
    try:
        reading = reader.read(EVERYTHING)
    except DriverUnavailableError as error:
        yield _absent_driver(error, facts)
        return
    finally:
        reader.close()
    version = f" (version {reading.driver_version})" if reading.driver_version else ""
    gpus = [sample for sample in reading.gpus if sample.gpu.mig is None]
    up_count = sum(sample.values.get("gpu_up") != 0 for sample in gpus)
    expected_count = max(facts.expected_gpu_count or 0, len(gpus), reading.counted)
    yield Finding("driver", Health.HEALTHY, f"answers{version}")
    yield _count_finding(up_count, expected_count, is_known=facts.expected_gpu_count is not None)
    for sample in gpus:
        yield _gpu_finding(sample, facts.xid_critical_counts.get(sample.gpu.uuid, 0))
    yield from _missing_findings(gpus, metrics, has_failures=reading.error_count > 0)
    if reading.error_count:
        found = f"{reading.error_count} call(s) failed that the GPUs support"
        yield Finding("readings", Health.DEGRADED, found, f"Run gpumon once to see what is missing. {_KERNEL_LOG}")


def _absent_driver(error: DriverUnavailableError, facts: HostFacts) -> Finding:
    if facts.expected_gpu_count == 0 and not isinstance(error, DriverMismatchError):
        return Finding("driver", Health.HEALTHY, "no GPU on this host, and no driver in use")
    module, has_library = facts.driver.module_version, facts.driver.has_library
    if isinstance(error, DriverMismatchError):
        found = f"its library is not of the version of the loaded kernel module{_of_version(module)}"
        advice = "Reboot, or unload and load the nvidia module: the driver was upgraded underneath."
    elif has_library and module is None:
        found = "installed, but its kernel module is not loaded"
        advice = f"Run modprobe nvidia; where that fails, build the module for the running kernel. {_KERNEL_LOG}"
    elif has_library:
        found, advice = f"loaded{_of_version(module)}, but does not answer", str(error)
    elif module is None:
        found, advice = "not installed", "Install the NVIDIA driver."
    else:
        found = f"its library {LIBRARY} is missing"
        advice = f"Install the library (libnvidia-compute) of the loaded kernel module's version{_of_version(module)}."
    return Finding("driver", Health.BROKEN, found, advice)


def _of_version(version: str | None) -> str:
    return f" ({version})" if version else ""


def _count_finding(up_count: int, expected_count: int, *, is_known: bool) -> Finding:
    if expected_count == 0:
        if is_known:
            return Finding("GPUs", Health.HEALTHY, "no GPU on this host")
        return Finding("GPUs", Health.BROKEN, "none that the driver knows", _KERNEL_LOG)
    if up_count < expected_count:
        advice = f"Reboot the host, and replace the instance if that does not bring them back. {_KERNEL_LOG}"
        return Finding("GPUs", Health.BROKEN, f"{up_count} of {expected_count} answer", advice)
    return Finding("GPUs", Health.HEALTHY, f"{up_count} of {expected_count} answer")


def _missing_findings(gpus: Sequence[GpuSample], metrics: Sequence[Metric], *, has_failures: bool) -> Iterator[Finding]:
    """Say which values GPUs do not give, once for those that are alike."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for sample in gpus:
        missing = tuple(m.name for m in metrics if m.tier != "legacy" and _is_none(sample, m.reader))
        if missing:
            alike.setdefault(missing, []).append(str(sample.gpu.index))
    # Which of them failed is in the log of the reading; here it is only known that some did.
    words = "not supported or not readable now" if has_failures else "not supported"
    for names, indices in alike.items():
        yield Finding("values", Health.HEALTHY, f"{words} by GPU {', '.join(indices)}: {', '.join(names)}")


def _gpu_finding(sample: GpuSample, xid_critical_count: int) -> Finding:
    subject = f"GPU {sample.gpu.index} ({sample.gpu.name}, {sample.gpu.uuid})"
    reason = unhealthy_reason(sample.values, xid_critical_count)
    if reason is not None:
        return Finding(subject, Health.BROKEN, reason, _NO_WORK)
    readable = [name for name, value in sample.values.items() if value is not None and name != "gpu_up"]
    if not readable and not any(sample.bursts.values()):
        return Finding(subject, Health.DEGRADED, "no value can be read", "Reset the GPU or replace the instance.")
    found = degradations(sample.values)
    if found:
        advice = " ".join(dict.fromkeys(each.advice for each in found))
        return Finding(subject, Health.DEGRADED, "; ".join(each.reason for each in found), advice)
    return Finding(subject, Health.HEALTHY, "answers")


def _is_none(sample: GpuSample, name: str) -> bool:
    return name in sample.values and sample.values[name] is None and not sample.bursts.get(name)


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


def _state_findings(state: StateFacts) -> Iterator[Finding]:
    if state.is_hidden:
        advice = "Run gpumon check as root to see it."
        yield Finding("state directory", Health.HEALTHY, "this user may not look at the service's", advice)
        return
    if not state.directory:
        yield Finding("state directory", Health.HEALTHY, "none: what cannot be sent ends with the process")
    elif state.problem:
        advice = (
            f"Free space, or correct the rights of {state.directory}: what cannot be sent is lost with the process."
        )
        yield Finding("state directory", Health.DEGRADED, f"cannot be written: {state.problem}", advice)
    else:
        yield Finding("state directory", Health.HEALTHY, f"{state.directory} can be written")
    age = state.oldest_age_seconds or 0.0
    if not state.waiting_count:
        yield Finding("spool", Health.HEALTHY, "empty")
        return
    if age > LATE_SECONDS:
        found = f"{state.waiting_count} datapoints wait, the oldest for {age / 60:.0f} min"
        yield Finding("spool", Health.DEGRADED, found, "Look at the log of gpumon.service for why they cannot be sent.")
    else:
        # The service saves this when it hands a period over, so there are always some.
        yield Finding("spool", Health.HEALTHY, f"{state.waiting_count} datapoints on their way, none is late")
