"""Checks of the AWS account: who we are, whether the region is open to us, where instances would be launched."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.parsers import ResponseParserError

from gpunodes.aws import aws_errors
from gpunodes.errors import AwsError, GpunodesError, PreflightError, UsageError
from gpunodes.preflight.finding import Seen

# A region of each partition that nobody has to opt in to.
_HOMES = {"cn-": "cn-north-1", "us-gov-": "us-gov-west-1"}
_NO_ANSWER = (AwsError, PreflightError, ResponseParserError)


@dataclass(frozen=True)
class Subnet:
    """Where instances go.

    Attributes:
        subnet_id: empty where AWS chooses one of the default VPC.
        zone: its availability zone; empty where AWS chooses.
    """

    subnet_id: str = ""
    zone: str = ""


def home_region(region: str) -> str:
    """The region that can say whether another one exists and is open to this account."""
    return next((home for prefix, home in _HOMES.items() if region.startswith(prefix)), "us-east-1")


def identity(sts: Any, home_sts: Callable[[], Any]) -> Seen[str]:
    """Account id and ARN (STS GetCallerIdentity, which every valid credential may call).

    Args:
        sts: of the target's region.
        home_sts: makes the client of a region that is always open: one that is not refuses good credentials.

    Raises:
        PreflightError: there are no credentials, or they are not accepted.
        AwsError: STS does not answer.
    """
    try:
        answer = _caller(sts)
    except GpunodesError:
        try:
            answer = _caller(home_sts())
        except GpunodesError:
            answer = None
        if answer is None:
            raise
    account, arn = str(answer["Account"]), str(answer["Arn"])
    return Seen(account, f"AWS knows you as {arn}.", {"account": account, "arn": arn})


def _caller(sts: Any) -> Any:
    with aws_errors("asking who you are"):
        return sts.get_caller_identity()


def region(ec2: Any, name: str, home_ec2: Callable[[], Any]) -> Seen[str]:
    """Whether a region exists and is open to this account (EC2 DescribeRegions).

    Args:
        ec2: of that region.
        name: of the region.
        home_ec2: makes the client of a region that is always open, for the region itself cannot say that it is not.

    Raises:
        UsageError: there is no such region.
        PreflightError: the account has not opted in to it.
        AwsError: neither region answers.
    """
    try:
        known = _regions(ec2, RegionNames=[name])
    except _NO_ANSWER:
        try:
            known = _regions(home_ec2())
        except _NO_ANSWER:
            known = {}
        if known.get(name, "not-opted-in") != "not-opted-in" or not known:
            raise
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean `{nearest[0]}`?" if nearest else "name one such as us-east-1."
        raise UsageError(f"There is no region `{name}`; {hint}")
    if known[name] == "not-opted-in":
        raise PreflightError(
            f"Your account has not opted in to the region {name}; enable it in the AWS account settings, or set another"
            " region in gpunodes.toml."
        )
    return Seen(name, f"{name} is open to your account.", {"region": name, "opt_in_status": known[name]})


def _regions(ec2: Any, **names: Any) -> dict[str, str]:
    with aws_errors("looking up the region"):
        found = ec2.describe_regions(AllRegions=True, **names)["Regions"]
    return {str(each["RegionName"]): str(each.get("OptInStatus", "")) for each in found}


def subnet(ec2: Any, subnet_id: str) -> Seen[Subnet]:
    """The subnet of the instances, or that AWS has one to choose (EC2 DescribeSubnets).

    Raises:
        UsageError: it does not exist or is full; or none is set and the region has no default one.
        AwsError: EC2 refused.
    """
    wanted = (
        {"Name": "subnet-id", "Values": [subnet_id]} if subnet_id else {"Name": "default-for-az", "Values": ["true"]}
    )
    with aws_errors("looking up the subnet"):
        pages = ec2.get_paginator("describe_subnets").paginate(Filters=[wanted])
        found = [each for page in pages for each in page["Subnets"]]
    if not subnet_id:
        if not found:
            raise UsageError("This region has no default subnet; set subnet_id in gpunodes.toml.")
        zones = sorted(str(each["AvailabilityZone"]) for each in found)
        return Seen(Subnet(), f"AWS chooses one of {len(found)} default subnets.", {"zones": zones})
    if not found:
        raise UsageError(f"There is no subnet {subnet_id} in this region; correct subnet_id in gpunodes.toml.")
    free, zone = int(found[0].get("AvailableIpAddressCount", 1)), str(found[0]["AvailabilityZone"])
    if free == 0:
        raise UsageError(f"Subnet {subnet_id} has no free address; set another subnet_id in gpunodes.toml.")
    evidence = {"subnet_id": subnet_id, "zone": zone, "vpc_id": found[0].get("VpcId"), "free_addresses": free}
    return Seen(Subnet(subnet_id, zone), f"Subnet {subnet_id} in {zone} has {free} free addresses.", evidence)
