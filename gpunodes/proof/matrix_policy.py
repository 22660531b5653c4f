"""Which instance types an image is to be proven on, and what that may take: read from options and judged at once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpunodes.aws import Clients
from gpunodes.errors import UsageError
from gpunodes.plan import cost
from gpunodes.plan.cost import HourlyPrice
from gpunodes.proof.before_launch import promised_gpus, require_choice_of_zone
from gpunodes.proof.launch import Wish

DEFAULT_LIMIT = 4
DEFAULT_TIME_CEILING_SECONDS = 3600.0
_ONLY_WITH_TYPES = {
    "limit": "--limit",
    "cost_ceiling_usd": "--cost-ceiling",
    "time_ceiling_seconds": "--time-ceiling",
}
_EXAMPLE = "such as --types g4dn.xlarge,g5.12xlarge"


@dataclass(frozen=True)
class Entry:
    """One line of the matrix: it is proven once one of its types is.

    Attributes:
        types: the first is tried first, the others where AWS has no capacity for it.
    """

    types: tuple[str, ...]

    @property
    def name(self) -> str:
        """As a person wrote it."""
        return "|".join(self.types)


@dataclass(frozen=True)
class Policy:
    """What is proven, and what that may take.

    Attributes:
        entries: in the order in which they are begun.
        limit: how many instances at once.
        spot: on spot instances.
        zone: that is tried first; empty for the one that AWS chooses.
        cost_ceiling_usd: that all entries together may cost if each takes `time_ceiling_seconds`; 0 for none.
        time_ceiling_seconds: for each proof.
    """

    entries: tuple[Entry, ...]
    limit: int = DEFAULT_LIMIT
    spot: bool = False
    zone: str = ""
    cost_ceiling_usd: float = 0.0
    time_ceiling_seconds: float = DEFAULT_TIME_CEILING_SECONDS


def read(
    types: str,
    wish: Wish | None = None,
    *,
    instance_type: str = "",
    limit: str = "",
    cost_ceiling_usd: str = "",
    time_ceiling_seconds: str = "",
) -> Policy:
    """Read a policy from the texts of options; an empty one is the default.

    Args:
        types: entries with commas between, the alternatives of an entry with `|` between.
        wish: how each instance is launched; none is kept, and the image is always tagged.
        instance_type: what `--type` named beside `--types`.
        limit: a whole number from 1.
        cost_ceiling_usd: a number above 0.
        time_ceiling_seconds: a number above 0.

    Raises:
        UsageError: something is empty, named twice, no number, too small, or does not go with several types.
    """
    wish = wish or Wish()
    for option, is_given in (("--type", instance_type), ("--keep", wish.keep), ("--no-tag", not wish.tag)):
        if is_given:
            raise UsageError(f"`{option}` is for one type and does not go with --types; leave one of them out.")
    entries = tuple(Entry(tuple(name.strip() for name in entry.split("|"))) for entry in types.split(","))
    counted = Counter(name for entry in entries for name in entry.types)
    if "" in counted:
        raise UsageError(f"`--types {types}` has an empty entry; name instance types, {_EXAMPLE}.")
    name, times = counted.most_common(1)[0]
    if times > 1:
        raise UsageError(f"`--types {types}` names {name} {times} times; name each type once.")
    return Policy(
        entries=entries,
        limit=_whole_number("--limit", limit, DEFAULT_LIMIT),
        spot=wish.spot,
        zone=wish.zone,
        cost_ceiling_usd=_positive("--cost-ceiling", cost_ceiling_usd, 0.0),
        time_ceiling_seconds=_positive("--time-ceiling", time_ceiling_seconds, DEFAULT_TIME_CEILING_SECONDS),
    )


def read_if_asked(types: str | None, wish: Wish, **options: str) -> Policy | None:
    """As `read`; None where nobody asked for several types.

    Raises:
        UsageError: as `read`, or an option that is for several types was given without them.
    """
    if types is not None:
        return read(types, wish, **options)
    for name, option in _ONLY_WITH_TYPES.items():
        if options.get(name):
            raise UsageError(f"`{option} {options[name]}` goes with --types only; name types, {_EXAMPLE}.")
    return None


def _whole_number(option: str, text: str, default: int) -> int:
    if text and not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise UsageError(f"`{option} {text}` must be a whole number from 1, such as {default}.")
    return int(text) if text else default


def _positive(option: str, text: str, default: float) -> float:
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise UsageError(f"`{option} {text}` must be a number above 0; leave it out for the default.")
    return number


def check_types(clients: Clients, policy: Policy, image: Mapping[str, Any]) -> Mapping[str, list[str]]:
    """The availability zones that offer each type, once an instance of each could be launched.

    Args:
        clients: of the target.
        policy: what to prove.
        image: as in DescribeImages.

    Returns:
        Zones by type (EC2 DescribeInstanceTypeOfferings); empty where the API does not have that call, or a subnet
        decides the zone.

    Raises:
        UsageError: a type does not exist, has no NVIDIA GPU, cannot be had as is wanted, has another processor than the
            image, or is not offered in the region or zone; the image is another account's.
        PreflightError: the vCPU quota does not allow one instance of a type.
        AwsError: EC2 refused.
    """
    require_choice_of_zone(clients.target, policy.zone)
    zones: dict[str, list[str]] = {}
    for name in (name for entry in policy.entries for name in entry.types):
        promised_gpus(clients, image, name, spot=policy.spot)
        zones[name] = [] if clients.target.subnet_id else _zones(clients, name)
        _check_zone(policy, name, zones[name])
    return zones


def _check_zone(policy: Policy, name: str, zones: list[str]) -> None:
    if policy.zone and zones and policy.zone not in zones:
        raise UsageError(f"{name} is not offered in {policy.zone}; choose {' or '.join(zones)}, or another type.")


def _zones(clients: Clients, name: str) -> list[str]:
    filters = [{"Name": "instance-type", "Values": [name]}]
    answer = clients.ask(
        "ec2",
        f"asking where {name} is offered",
        lambda ec2: ec2.describe_instance_type_offerings(LocationType="availability-zone", Filters=filters),
    )
    if answer is None:
        return []
    zones = sorted(str(offering["Location"]) for offering in answer["InstanceTypeOfferings"])
    if not zones:
        raise UsageError(f"{name} is not offered in {clients.target.region}; name another type or region.")
    return zones


def check_cost(
    clients: Clients,
    policy: Policy,
    say: Callable[[str], None],
    hourly_price: Callable[..., HourlyPrice] = cost.hourly_price,
) -> None:
    """Compare what the matrix may cost with its ceiling: of each entry the dearest type, for its whole time.

    Args:
        clients: of the target.
        policy: what to prove.
        say: told that a price is not known, where the target need not know it.
        hourly_price: of a type.

    Raises:
        UsageError: it may cost more, or nobody knows what it costs.
    """
    if not policy.cost_ceiling_usd:
        return
    sums: list[float] = []
    for entry in policy.entries:
        prices = [_price(clients, policy, name, say, hourly_price) for name in entry.types]
        sums.append(max(prices))
    total = sum(sums)
    if total > policy.cost_ceiling_usd:
        each = ", ".join(f"{entry.name} {usd:.2f}" for entry, usd in zip(policy.entries, sums, strict=True))
        raise UsageError(
            f"The matrix may cost {total:.2f} USD ({each}) if each proof takes {policy.time_ceiling_seconds:g} s, more"
            f" than the ceiling of {policy.cost_ceiling_usd:.2f} USD; name fewer types, a lower --time-ceiling or a"
            " higher --cost-ceiling."
        )


def _price(
    clients: Clients, policy: Policy, name: str, say: Callable[[str], None], hourly_price: Callable[..., HourlyPrice]
) -> float:
    price = hourly_price(clients, name, spot=policy.spot)
    usd = price.of(policy.time_ceiling_seconds)
    if usd is not None:
        return usd
    if not clients.target.tolerates_missing_calls:
        raise UsageError(
            f"What {name} costs is not known ({price.reason.rstrip('.')}); mend that, or leave --cost-ceiling out."
        )
    say(f"what {name} costs is not known here ({price.reason.rstrip('.')}), so the cost ceiling does not count it")
    return 0.0
