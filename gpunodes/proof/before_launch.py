"""What is asked before a test instance costs money: is the image ours, does it fit the type, is there quota for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import UsageError
from gpunodes.preflight import instance_type, quotas
from gpunodes.preflight.diagnosis import require
from gpunodes.preflight.finding import look
from gpunodes.preflight.instance_type import InstanceType
from gpunodes.proof import second_clone
from gpunodes.proof.gpu_checks import PromisedGpus
from gpunodes.recipe import ami
from gpunodes.target import Target


def require_choice_of_zone(target: Target, zone: str) -> None:
    """Let nobody believe that a zone was tried where a subnet decides it.

    Raises:
        UsageError: a zone is named and the target has a subnet.
    """
    if zone and target.subnet_id:
        raise UsageError(
            f"Subnet {target.subnet_id} decides the zone (`subnet_id` in gpunodes.toml; the offline cloud has its own);"
            f" leave --zone {zone} out."
        )


def promised_gpus(clients: Clients, image: Mapping[str, Any], type_name: str, *, spot: bool = False) -> PromisedGpus:
    """The GPUs that an instance type promises, once an instance of the image can be launched as that type.

    Args:
        clients: of the target.
        image: as in DescribeImages.
        type_name: of the instance.
        spot: whether it will be a spot instance, which has a quota of its own.

    Raises:
        UsageError: the type does not exist, has no NVIDIA GPU or another processor; the image is another account's.
        PreflightError: the vCPU quota does not allow one more instance of the type.
        AwsError: AWS refused or did not answer.
    """
    found = instance_type.describe(clients.ec2, type_name, spot=spot).fact
    _require_architecture(image, found)
    _require_own(clients, image)
    _require_quota(clients, found.name, found.vcpus, spot=spot)
    return PromisedGpus(type_name, found.gpus, found.gpu_model, found.gpu_memory_bytes)


def require_quota_of_second_clone(clients: Clients, image: Mapping[str, Any]) -> None:
    """The second clone counts against a quota of its own, on demand also where the first is a spot instance.

    Raises:
        PreflightError: that quota does not allow it.
        AwsError: AWS refused or did not answer.
    """
    name = second_clone.TYPES[image["Architecture"]]
    with aws_errors(f"looking up the instance type {name}"):
        vcpus = quotas.vcpus_of(clients.ec2, [name])[name]
    _require_quota(clients, name, vcpus, spot=False)


def _require_architecture(image: Mapping[str, Any], found: InstanceType) -> None:
    if image["Architecture"] not in found.architectures:
        runs = " and ".join(found.architectures)
        raise UsageError(
            f"Image {image['ImageId']} is for {image['Architecture']} and {found.name} runs {runs}; name a --type that"
            " fits."
        )


def _require_own(clients: Clients, image: Mapping[str, Any]) -> None:
    """The verdict becomes a tag, and nobody can tag what is another account's."""
    ami.require_own(clients, image, "log in there, or copy the image")


def _require_quota(clients: Clients, type_name: str, vcpus: int, *, spot: bool) -> None:
    region = clients.target.region
    service_quotas = clients.client("service-quotas")
    looked = look(
        "vCPU quota",
        lambda: quotas.check(clients.ec2, service_quotas, type_name, vcpus, region, spot=spot),
        tolerates_missing_calls=clients.target.tolerates_missing_calls,
    )
    require([looked.finding])
