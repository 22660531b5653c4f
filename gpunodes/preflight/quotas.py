"""vCPU quotas of EC2: which one a type counts against, what it allows, and what is in use of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpunodes.aws import aws_errors
from gpunodes.errors import AwsError, PreflightError
from gpunodes.preflight.finding import NotAnsweredError, Seen

_SERVICE_CODE = "ec2"
_TYPES_PER_CALL = 100  # DescribeInstanceTypes takes no more names


@dataclass(frozen=True)
class Quota:
    """A quota of running vCPUs, the same code in every region and account.

    Attributes:
        code: as in Service Quotas.
        name: as in Service Quotas.
        families: letters that the types' names begin with, up to the generation's digit.
        generations: of these families; empty for all.
        excluded_generations: that count against another quota.
        spot: whether it is about spot instances.
    """

    code: str
    name: str
    families: frozenset[str]
    spot: bool
    generations: frozenset[str] = frozenset()
    excluded_generations: frozenset[str] = frozenset()

    def covers(self, instance_type: str) -> bool:
        """Whether instances of a type count against it."""
        family, generation = _family(instance_type)
        return (
            family in self.families
            and (not self.generations or generation in self.generations)
            and generation not in self.excluded_generations
        )


_GRAPHICS = frozenset({"g", "vt"})
_STANDARD = frozenset({"a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"})
_P = frozenset({"p"})
_FIVE = frozenset({"5"})
QUOTAS = (
    Quota("L-DB2E81BA", "Running On-Demand G and VT instances", _GRAPHICS, spot=False),
    Quota("L-417A185B", "Running On-Demand P instances", _P, spot=False),
    Quota("L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", _STANDARD, spot=False),
    Quota("L-3819A6DF", "All G and VT Spot Instance Requests", _GRAPHICS, spot=True),
    Quota("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests", _P, spot=True, excluded_generations=_FIVE),
    Quota("L-C4BD4855", "All P5 Spot Instance Requests", _P, spot=True, generations=_FIVE),
    Quota("L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", _STANDARD, spot=True),
)


def quota_of(instance_type: str, *, spot: bool) -> Quota | None:
    """The quota that a type counts against; None for families without GPUs that are not Standard either."""
    return next((quota for quota in QUOTAS if quota.spot is spot and quota.covers(instance_type)), None)


@dataclass(frozen=True)
class Room:
    """What there is of a quota, in vCPUs.

    Attributes:
        allowed: at once.
        used: now; 0 where nothing is allowed.
    """

    allowed: float
    used: int


def room(ec2: Any, service_quotas: Any, quota: Quota) -> Room:
    """What a quota allows (GetServiceQuota), and what instances use of it (`used_vcpus`).

    Raises:
        AwsError: a call was refused.
    """
    allowed = _allowed(service_quotas, quota)
    return Room(allowed, used_vcpus(ec2, quota) if allowed else 0)


def check(
    ec2: Any, service_quotas: Any, instance_type: str, needed_vcpus: int, region: str, *, spot: bool
) -> Seen[float]:
    """Whether one more instance of a type fits into its quota; the fact is the vCPUs that are left then.

    Args:
        ec2: DescribeInstances and DescribeInstanceTypes, for what is in use.
        service_quotas: GetServiceQuota.
        instance_type: its name.
        needed_vcpus: of one instance.
        region: for the sentence.
        spot: on-demand and spot instances have quotas of their own.

    Returns:
        With PreflightError as its error where it does not fit.

    Raises:
        NotAnsweredError: no quota is known for the type.
        AwsError: a call was refused.
    """
    quota = quota_of(instance_type, spot=spot)
    if quota is None:
        raise NotAnsweredError(f"No vCPU quota is known for {instance_type}; look it up in Service Quotas.")
    found = room(ec2, service_quotas, quota)
    allowed, used = found.allowed, found.used
    evidence = {"code": quota.code, "name": quota.name, "needed_vcpus": needed_vcpus, "allowed_vcpus": allowed,
        "used_vcpus": used}  # fmt: skip
    if used + needed_vcpus <= allowed:
        text = (
            f"Quota {quota.code} allows {allowed:g} vCPUs, {used} are in use and {instance_type} needs {needed_vcpus}."
        )
        return Seen(allowed - used - needed_vcpus, text, evidence)
    use = f", of which {used} are in use," if used else ""
    ask = f"ask for at least {used + needed_vcpus} in Service Quotas"
    stop = f"stop what you do not need, or {ask}" if allowed >= needed_vcpus else ask
    text = (
        f"Quota {quota.code} ({quota.name}) allows {allowed:g} vCPUs in {region}{use} and {instance_type} needs"
        f" {needed_vcpus}; {stop}."
    )
    return Seen(allowed - used - needed_vcpus, text, evidence, PreflightError)


def _allowed(service_quotas: Any, quota: Quota) -> float:
    with aws_errors(f"asking for quota {quota.code}"):
        answer = service_quotas.get_service_quota(ServiceCode=_SERVICE_CODE, QuotaCode=quota.code)["Quota"]
    if answer.get("QuotaCode") != quota.code or "Value" not in answer:
        raise AwsError(f"Service Quotas gave no value for {quota.code}; look it up in its console and repeat.")
    return float(answer["Value"])


def used_vcpus(ec2: Any, quota: Quota) -> int:
    """VCPUs that pending and running instances use of a quota now, by their types' default (as AWS counts).

    Dedicated hosts and capacity blocks have quotas of their own and do not count.

    Raises:
        AwsError: a call was refused.
    """
    with aws_errors("counting the vCPUs in use"):
        running = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        pages = ec2.get_paginator("describe_instances").paginate(Filters=running, PaginationConfig={"PageSize": 1000})
        instances = [each for page in pages for group in page["Reservations"] for each in group["Instances"]]
        counts = Counter(str(each["InstanceType"]) for each in instances if _counts(each, quota))
        vcpus = vcpus_of(ec2, sorted(counts))
    return sum(vcpus[name] * count for name, count in counts.items())


def _counts(instance: dict[str, Any], quota: Quota) -> bool:
    lifecycle = instance.get("InstanceLifecycle") or "on-demand"
    is_shared = instance.get("Placement", {}).get("Tenancy") != "host"
    return quota.covers(instance["InstanceType"]) and is_shared and lifecycle == ("spot" if quota.spot else "on-demand")


def vcpus_of(ec2: Any, names: Sequence[str]) -> dict[str, int]:
    """Default vCPUs of instance types, which is what counts against a quota (DescribeInstanceTypes).

    Raises:
        ClientError: EC2 refused; it is for the caller to say while doing what.
    """
    found: dict[str, int] = {}
    for start in range(0, len(names), _TYPES_PER_CALL):
        answer = ec2.describe_instance_types(InstanceTypes=list(names[start : start + _TYPES_PER_CALL]))
        found |= {each["InstanceType"]: int(each["VCpuInfo"]["DefaultVCpus"]) for each in answer["InstanceTypes"]}
    return found


def _family(instance_type: str) -> tuple[str, str]:
    """Letters and first number of a type's name: `g` and `4` of g4dn.xlarge."""
    found = re.match(r"([a-z]+)(\d+)", instance_type)
    return (found.group(1), found.group(2)) if found else ("", "")
