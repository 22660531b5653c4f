"""Which groups a roll is about and how gently it goes: the channel's policy, and what the command line says instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.channel.policy import Policy
from gpunodes.errors import PreflightError, UsageError

_MOST_ALARMS = 10
_WIDEST_RANGE = 100
_IN_ALARM = "ALARM"


@dataclass(frozen=True)
class Wish:
    """What is asked of a roll.

    Attributes:
        groups: names, in the order in which they are rolled.
        alarms: names of CloudWatch alarms that end it.
        minimum_healthy_percent: of a group's capacity; None leaves it to the group's own policy, or AWS's 90.
        maximum_healthy_percent: the same, upwards; None for no more than the capacity.
        warmup: of a new instance; None for the group's own.
    """

    groups: tuple[str, ...]
    alarms: tuple[str, ...] = ()
    minimum_healthy_percent: int | None = None
    maximum_healthy_percent: int | None = None
    warmup: timedelta | None = None

    def preferences(self) -> dict[str, Any]:
        """As StartInstanceRefresh takes them, without those that depend on the group."""
        wanted: dict[str, Any] = {
            "MinHealthyPercentage": self.minimum_healthy_percent,
            "MaxHealthyPercentage": self.maximum_healthy_percent,
            "InstanceWarmup": None if self.warmup is None else int(self.warmup.total_seconds()),
            "AlarmSpecification": {"Alarms": list(self.alarms)} if self.alarms else None,
        }
        return {name: value for name, value in wanted.items() if value is not None}


def wish(policy: Policy, options: Mapping[str, str]) -> Wish:
    """Put together what is asked.

    Args:
        policy: of the channel.
        options: of the command line, texts: `group` and `alarm` (names with commas), `min_healthy`, `max_healthy`,
            `warmup`; what is empty is left to the policy.

    Raises:
        UsageError: no group is named, or a number cannot be one.
    """
    groups = _names(options.get("group", "")) or policy.groups
    if not groups:
        raise UsageError("Name the Auto Scaling groups with --group, or as `groups` in refresh.toml.")
    alarms = _names(options.get("alarm", "")) or policy.alarms
    if len(alarms) > _MOST_ALARMS:
        raise UsageError(f"An instance refresh takes at most {_MOST_ALARMS} alarms, not {len(alarms)}; name fewer.")
    least = _number("--min-healthy", options.get("min_healthy", ""), 0, 100, policy.minimum_healthy_percent)
    most = _number("--max-healthy", options.get("max_healthy", ""), 100, 200, policy.maximum_healthy_percent)
    if most is not None and least is None:
        raise UsageError("A greatest healthy percentage needs a least one, too; give --min-healthy as well.")
    if most is not None and least is not None and most - least > _WIDEST_RANGE:
        raise UsageError(f"Between {least} and {most} % healthy there are more than 100; bring them closer together.")
    warmup = _number("--warmup", options.get("warmup", ""), 0, 86_400, None)
    return Wish(groups, alarms, least, most, policy.warmup if warmup is None else timedelta(seconds=warmup))


def require_quiet_alarms(clients: Clients, alarms: Sequence[str]) -> None:
    """Every alarm exists and is not in ALARM, which would end an instance refresh at once (DescribeAlarms).

    Raises:
        PreflightError: one is not there, or is in ALARM.
        AwsError: CloudWatch refused.
    """
    if not alarms:
        return
    with aws_errors("looking for the alarms"):
        kinds = ["MetricAlarm", "CompositeAlarm"]
        found = clients.cloudwatch.describe_alarms(AlarmNames=list(alarms), AlarmTypes=kinds)
    states = {alarm["AlarmName"]: alarm["StateValue"] for kind in kinds for alarm in found.get(f"{kind}s", [])}
    if missing := [name for name in alarms if name not in states]:
        raise PreflightError(f"There is no CloudWatch alarm {', '.join(missing)} in this region; correct the name.")
    if loud := [name for name in alarms if states[name] == _IN_ALARM]:
        raise PreflightError(f"CloudWatch alarm {', '.join(loud)} is in ALARM already; see to that first.")


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _number(option: str, text: str, least: int, most: int, otherwise: int | None) -> int | None:
    if not text:
        return otherwise
    if not text.isdecimal() or not least <= int(text) <= most:
        raise UsageError(f"{option} takes a whole number from {least} to {most}, not {text!r}.")
    return int(text)
