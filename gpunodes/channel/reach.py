"""How far a channel reaches beyond its own region and account: what the policy may name, and whether AWS knows it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import GpunodesError, PreflightError, UsageError

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]")
_ORGANIZATION = r"arn:aws[a-z-]*:organizations::[0-9]{12}:"
_KINDS = {
    "UserId": re.compile(r"[0-9]{12}"),
    "OrganizationArn": re.compile(rf"{_ORGANIZATION}organization/o-[a-z0-9]{{10,32}}"),
    "OrganizationalUnitArn": re.compile(rf"{_ORGANIZATION}ou/o-[a-z0-9]{{10,32}}/ou-[0-9a-z]{{4,32}}-[0-9a-z]{{8,32}}"),
}
_ACCOUNT = "UserId"
_OFF = "not-opted-in"
# What a region says to an account that did not switch it on, or did so minutes ago.
_REGION_IS_OFF = frozenset({"AuthFailure", "InvalidClientTokenId", "OptInRequired", "UnrecognizedClientException"})


@dataclass(frozen=True)
class Share:
    """Somebody who may launch an image.

    Attributes:
        kind: `UserId`, `OrganizationArn` or `OrganizationalUnitArn`, as EC2 names it.
        value: a number of twelve digits, or an ARN.
    """

    kind: str
    value: str

    @property
    def permission(self) -> dict[str, str]:
        """As ModifyImageAttribute takes it, and DescribeImageAttribute gives it."""
        return {self.kind: self.value}


class WrongEntryError(ValueError):
    """An entry of a list is wrong; the message goes on from the key's name."""


def regions(value: Any) -> tuple[str, ...]:
    """The regions of a policy.

    Raises:
        WrongEntryError: one of them cannot be a region, or stands there twice.
        TypeError: it is no list.
    """
    found = tuple(_texts(value))
    for name in found:
        if not _REGION.fullmatch(name):
            raise WrongEntryError(f"has `{name}`, which is no name of a region; those look like us-west-2")
    return _each_once(found)


def shares(value: Any) -> tuple[Share, ...]:
    """With whom the images of a policy are shared.

    Raises:
        WrongEntryError: one of them is no account, organisation or organisational unit, or stands there twice.
        TypeError: it is no list.
    """
    return tuple(_share(entry) for entry in _each_once(tuple(_texts(value))))


def check(clients: Clients, wanted: Sequence[str], share_with: Sequence[Share], channel: str) -> None:
    """Whether AWS has the regions, and the account may be named (DescribeRegions, GetCallerIdentity).

    Args:
        clients: of the home region.
        wanted: regions of the policy.
        share_with: of the policy.
        channel: whose policy it is, for the message.

    Raises:
        UsageError: a region does not exist or is the home region; an account is one's own.
        PreflightError: a region is switched off.
        AwsError: AWS refused.
    """
    place = f"refresh.toml: [{channel}]"
    if wanted:
        _check_regions(clients, wanted, place)
    accounts = [share.value for share in share_with if share.kind == _ACCOUNT]
    if accounts:
        with aws_errors("asking who you are"):
            own = clients.client("sts").get_caller_identity()["Account"]
        if own in accounts:
            raise UsageError(f"{place} `share_with` names your own account {own}, which has the images; take it out.")


def elsewhere(clients: Clients, wanted: Sequence[str]) -> list[str]:
    """The regions of policies without the home region, each once."""
    return [region for region in dict.fromkeys(wanted) if region != clients.target.region]


@contextmanager
def region_errors(region: str) -> Iterator[None]:
    """Say of a region that does not know the credentials that the region is it, and not they.

    Raises:
        PreflightError: in place of that of the credentials.
    """
    try:
        yield
    except GpunodesError as error:
        cause = error.__cause__
        code = cause.response["Error"]["Code"] if isinstance(cause, ClientError) else ""
        if code not in _REGION_IS_OFF:
            raise
        raise PreflightError(
            f"Region {region} does not know this account ({code}), so it is switched off, or is being switched on;"
            f" {_switch_on(region)}."
        ) from error


def _check_regions(clients: Clients, wanted: Sequence[str], place: str) -> None:
    with aws_errors("asking which regions there are"):
        found = clients.ec2.describe_regions(AllRegions=True)["Regions"]
    known = {region["RegionName"]: region.get("OptInStatus", "") for region in found}
    for name in wanted:
        if name == clients.target.region:
            raise UsageError(f"{place} `regions` names {name}, which is the home region; take it out.")
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else "take it out."
            raise UsageError(f"{place} `regions` names {name}, which AWS does not have; {hint}")
        if known[name] == _OFF:
            raise PreflightError(f"Region {name} is switched off in this account; {_switch_on(name)}.")


def _switch_on(region: str) -> str:
    return f"switch it on (`aws account enable-region --region-name {region}`), or take it out of refresh.toml"


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise TypeError(value)
    return value


def _each_once(entries: tuple[str, ...]) -> tuple[str, ...]:
    for entry in entries:
        if entries.count(entry) > 1:
            raise WrongEntryError(f"has `{entry}` twice; take one out")
    return entries


def _share(entry: str) -> Share:
    for kind, form in _KINDS.items():
        if form.fullmatch(entry):
            return Share(kind, entry)
    if entry.replace("-", "").isdecimal():
        raise WrongEntryError(f"has `{entry}`, which is no account; those have twelve digits and nothing else")
    raise WrongEntryError(f"has `{entry}`, which is no account, and no ARN of an organisation or organisational unit")
