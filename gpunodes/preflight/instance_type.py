"""Checks of the instance type: it exists, has NVIDIA GPUs, fits the base image, and can be had here."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Protocol

from gpunodes.aws import aws_errors
from gpunodes.errors import AwsError, UsageError
from gpunodes.preflight.account import Subnet
from gpunodes.preflight.finding import Seen

_NVIDIA = "NVIDIA"
_EXAMPLE = "name a type with NVIDIA GPUs, like g4dn.xlarge"


class BaseFacts(Protocol):
    """What the preflight needs to know of a base image; `base.Base` has it."""

    @property
    def image_id(self) -> str:
        """The AMI's."""

    @property
    def name(self) -> str:
        """Of the AMI."""

    @property
    def architecture(self) -> str:
        """`x86_64` or `arm64`."""


@dataclass(frozen=True)
class InstanceType:
    """What EC2 says about a type.

    Attributes:
        name: such as g4dn.xlarge.
        vcpus: that count against a quota.
        gpus: how many a program sees.
        gpu_model: as EC2 names it.
        gpu_memory_bytes: of each one.
        architectures: that it runs, such as `x86_64`.
        usage_classes: of `on-demand`, `spot` and `capacity-block`.
    """

    name: str
    vcpus: int
    gpus: int
    gpu_model: str
    gpu_memory_bytes: int
    architectures: tuple[str, ...]
    usage_classes: tuple[str, ...]


def describe(ec2: Any, name: str, *, spot: bool) -> Seen[InstanceType]:
    """Look up a type (EC2 DescribeInstanceTypes).

    Raises:
        UsageError: it does not exist here, has no NVIDIA GPU, or cannot be had in the way that is wanted.
        AwsError: EC2 refused.
    """
    try:
        with aws_errors(f"looking up the instance type {name}"):
            answer = ec2.describe_instance_types(InstanceTypes=[name])["InstanceTypes"][0]
    except AwsError as error:
        if "InvalidInstanceType" in str(error) or "InvalidParameterValue" in str(error):
            raise UsageError(f"There is no instance type `{name}` in this region; {_nearest(ec2, name)}") from error
        raise
    found = _read(answer)
    makers = sorted({str(gpu.get("Manufacturer")) for gpu in _gpus(answer)} - {_NVIDIA})
    if found.gpus == 0:
        has = f"{name} has GPUs of {' and '.join(makers)}" if makers else f"{name} has no GPU"
        raise UsageError(f"{has}; {_EXAMPLE}.")
    wanted = "spot" if spot else "on-demand"
    if wanted not in found.usage_classes:
        raise UsageError(f"{name} cannot be had as {wanted}, only as {', '.join(found.usage_classes)}; {_EXAMPLE}.")
    text = f"{name} has {found.gpus} {found.gpu_model} and {found.vcpus} vCPUs."
    evidence = {"vcpus": found.vcpus, "gpus": found.gpus, "gpu_model": found.gpu_model,
        "architectures": list(found.architectures)}  # fmt: skip
    return Seen(found, text, evidence)


def _read(answer: dict[str, Any]) -> InstanceType:
    gpus = [gpu for gpu in _gpus(answer) if gpu.get("Manufacturer") == _NVIDIA]
    return InstanceType(
        name=str(answer["InstanceType"]),
        vcpus=int(answer["VCpuInfo"]["DefaultVCpus"]),
        # A type with a part of a GPU, such as g6f.large, has Count 0.
        gpus=sum(max(int(gpu.get("Count", 0)), int(gpu.get("LogicalGpuCount", 0))) for gpu in gpus),
        gpu_model=str(gpus[0].get("Name", "GPU")) if gpus else "",
        gpu_memory_bytes=int(gpus[0].get("MemoryInfo", {}).get("SizeInMiB", 0)) * 2**20 if gpus else 0,
        architectures=tuple(answer.get("ProcessorInfo", {}).get("SupportedArchitectures", [])),
        usage_classes=tuple(answer.get("SupportedUsageClasses", ["on-demand", "spot"])),
    )


def _gpus(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return list(answer.get("GpuInfo", {}).get("Gpus", []))


def _nearest(ec2: Any, name: str) -> str:
    """The hint for a type that does not exist: one of the region's that is written nearly like it."""
    with aws_errors("listing the region's instance types"):
        offered = _offerings(ec2, "region", [])
    nearest = difflib.get_close_matches(name, sorted({each["InstanceType"] for each in offered}), n=1)
    return f"did you mean `{nearest[0]}`?" if nearest else f"{_EXAMPLE}."


def architecture(base: BaseFacts, found: InstanceType) -> Seen[str]:
    """Whether the base image's processor is the type's.

    Raises:
        UsageError: it is another.
    """
    runs = " and ".join(found.architectures)
    if base.architecture not in found.architectures:
        raise UsageError(
            f"Base image {base.image_id} is for {base.architecture} and {found.name} runs {runs}; choose a base image"
            " or a build_instance_type that fits."
        )
    evidence = {"image": base.architecture, "instance_type": list(found.architectures)}
    return Seen(base.architecture, f"{found.name} runs {base.architecture}, as the base image needs.", evidence)


def offered(ec2: Any, name: str, region: str, subnet: Subnet | None) -> Seen[list[str]]:
    """Whether the type is offered in the region, and in the subnet's zone where one is set.

    EC2 DescribeInstanceTypeOfferings; the fact is the zones that have it.

    Raises:
        UsageError: it is not.
        AwsError: EC2 refused.
    """
    filters = [{"Name": "instance-type", "Values": [name]}]
    with aws_errors(f"asking where {name} is offered"):
        in_region = _offerings(ec2, "region", filters)
        zones = sorted(each["Location"] for each in _offerings(ec2, "availability-zone", filters))
    if not in_region:
        raise UsageError(f"{name} is not offered in {region}; set another build_instance_type or region.")
    if subnet is not None and subnet.zone and subnet.zone not in zones:
        others = f"a subnet in {', '.join(zones)}" if zones else "another region"
        raise UsageError(
            f"{name} is not offered in {subnet.zone}, where {subnet.subnet_id} lies; choose {others}, or another type."
        )
    where = subnet.zone if subnet is not None and subnet.zone else f"{region} ({len(zones)} zones)"
    return Seen(zones, f"{name} is offered in {where}.", {"region": region, "zones": zones})


def _offerings(ec2: Any, location_type: str, filters: list[dict[str, Any]]) -> list[dict[str, str]]:
    pages = ec2.get_paginator("describe_instance_type_offerings").paginate(LocationType=location_type, Filters=filters)
    return [each for page in pages for each in page["InstanceTypeOfferings"]]
