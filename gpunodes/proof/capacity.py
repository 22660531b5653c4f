"""Lack of capacity: how EC2 says it, and the sentence for a person."""

from __future__ import annotations

import re

# EC2's error codes as Terraform repeats them, and their sentences where a code is missing.
_CODE = r"Insufficient(?:Instance|Host|Reserved\w*)?Capacity|SpotMaxPriceTooLow|MaxSpotInstanceCountExceeded"
_NOT_OFFERED = re.compile(r"not supported in your requested Availability Zone|AWS does not offer \S+", re.IGNORECASE)
_NO_CAPACITY = re.compile(
    rf"{_CODE}|capacity-not-available|(no|insufficient|sufficient)( \S+)? capacity|{_NOT_OFFERED.pattern}",
    re.IGNORECASE,
)
_FAILED_ZONE = re.compile(
    r"requested (?:Availability Zone )?\(([a-z]{2}-[a-z0-9-]+)\)"
    r"|(?:no capacity for|does not offer) \S+ in ([a-z]{2}-[a-z0-9-]+)"
)


def is_lacking(error: str) -> bool:
    """Whether a launch failed because AWS has no such instance there now; elsewhere it may have one."""
    return _NO_CAPACITY.search(error) is not None


def failed_zone(error: str) -> str:
    """The zone that AWS had tried, where its sentence or ours says so; else empty."""
    found = _FAILED_ZONE.search(error)
    return next(filter(None, found.groups()), "") if found else ""


def sentence(instance_type: str, error: str, log: object) -> str:
    """What a person is told; `is_lacking` and `failed_zone` read it, too.

    Args:
        instance_type: that was asked for.
        error: of Terraform.
        log: where all of it is.
    """
    code, zone = re.search(_CODE, error), failed_zone(error)
    place = f"{instance_type}{f' in {zone}' if zone else ''}"
    if _NOT_OFFERED.search(error):
        return (
            f"AWS does not offer {place}; take another zone or type (`--types` goes through several); all that"
            f" Terraform printed is in {log}."
        )
    return (
        f"AWS has no capacity for {place} now"
        f"{f' ({code.group()})' if code else ''}; take another type or zone (`--types` goes through several), or try"
        f" later; all that Terraform printed is in {log}."
    )
