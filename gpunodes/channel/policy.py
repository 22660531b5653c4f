"""When a channel gets a new image: `refresh.toml` at the top of the checkout, a table for each channel."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import tomllib

from gpunodes.channel import reach
from gpunodes.channel.reach import Share
from gpunodes.errors import UsageError
from gpunodes.settings import REPOSITORY

POLICY_FILE = REPOSITORY / "refresh.toml"
NOW, WINDOW = "now", "window"
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WINDOW = re.compile(r"(?P<day>[a-z]+) (?P<begin>\d\d:\d\d)-(?P<end>\d\d:\d\d)", re.IGNORECASE)
_CHANNEL = re.compile(r"[A-Za-z0-9-]{1,64}")
_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Window:
    """Hours of a week in which what is not urgent may be baked.

    Attributes:
        weekday: 0 for Monday.
        begin: UTC.
        length: of it, at most a day.
    """

    weekday: int
    begin: time
    length: timedelta

    def contains(self, moment: datetime) -> bool:
        """Whether a moment (UTC) lies in it."""
        return self._last_begin(moment) + self.length > moment

    def next_begin(self, moment: datetime) -> datetime:
        """When it opens next after a moment, UTC."""
        return self._last_begin(moment) + _WEEK

    def _last_begin(self, moment: datetime) -> datetime:
        begin = datetime.combine(moment.date(), self.begin, UTC)
        begin -= timedelta(days=(begin.weekday() - self.weekday) % 7)
        return begin if begin <= moment else begin - _WEEK


@dataclass(frozen=True)
class Policy:
    """When a channel gets a new image, and what becomes of the old ones.

    Attributes:
        security: what is urgent is baked `now`, or in the `window` as all else.
        window: for what is not urgent; None for any time.
        minimum_gap: between two bakes.
        maximum_age: of the promoted image; then it is baked anew even if nothing has changed.
        test_types: instance types that a refresh proves on, as `test-instance --types` takes them; empty for the one of
            the settings.
        promotes_from: channel whose images this one gets, such as `canary`; empty for one that gets its own.
        soak: how long that channel must have named an image.
        keep_previous: so many images that the channel named before stay, for the way back.
        disable_after: an image that was deprecated; afterwards nothing new is launched from it.
        delete_after: one that was disabled; afterwards it and its snapshots are gone.
        unproven_after: a candidate, or one that failed its proof, is retired.
        groups: Auto Scaling groups that `roll` brings to the image of the channel.
        alarms: CloudWatch alarms that end such a roll, and undo it where that can be.
        minimum_healthy_percent: of a group's capacity, while it is rolled; None leaves that to the group.
        maximum_healthy_percent: the same, upwards.
        warmup: that a new instance has before the next is replaced; None leaves that to the group.
        regions: beside the home region, where the channel names a copy of its image.
        share_with: who else may launch its images.
    """

    security: str = NOW
    window: Window | None = field(default_factory=lambda: Window(6, time(2), timedelta(hours=4)))
    minimum_gap: timedelta = timedelta(hours=20)
    maximum_age: timedelta = timedelta(days=30)
    test_types: str = ""
    promotes_from: str = ""
    soak: timedelta = timedelta(hours=24)
    keep_previous: int = 2
    disable_after: timedelta = timedelta(days=14)
    delete_after: timedelta = timedelta(days=30)
    unproven_after: timedelta = timedelta(days=7)
    groups: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()
    minimum_healthy_percent: int | None = None
    maximum_healthy_percent: int | None = None
    warmup: timedelta | None = None
    regions: tuple[str, ...] = ()
    share_with: tuple[Share, ...] = ()


def load(channel: str, path: Path = POLICY_FILE) -> Policy:
    """The policy of a channel; without a file, or without a table of the channel, the default one.

    Args:
        channel: such as `stable`.
        path: TOML, a table for each channel.

    Raises:
        UsageError: the file is no TOML, or has an unknown key or a value that cannot be one.
    """
    # All tables are read: a mistake in another channel's is better known now than by its own refresh at night.
    return load_all(path).get(channel, Policy())


def load_all(path: Path = POLICY_FILE) -> dict[str, Policy]:
    """The policy of every channel that has a table in the file; none without a file.

    Args:
        path: TOML, a table for each channel.

    Raises:
        UsageError: the file is no TOML, or has an unknown key or a value that cannot be one.
    """
    if not path.exists():
        return {}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no TOML, or no UTF-8
        raise UsageError(f"{path.name} is not valid TOML ({error}); correct that line.") from error
    return {name: _policy(path.name, name, table) for name, table in document.items()}


def _policy(file: str, channel: str, table: Any) -> Policy:
    if not isinstance(table, Mapping):
        raise UsageError(f"{file}: `{channel}` stands in no table; put it under the name of a channel, as [stable].")
    chosen: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _READERS:
            nearest = difflib.get_close_matches(key, _READERS, n=1)
            hint = f"did you mean `{nearest[0]}`?" if nearest else f"known are: {', '.join(_READERS)}."
            raise UsageError(f"{file}: [{channel}] has an unknown key `{key}`; {hint}")
        name, read, expected = _READERS[key]
        try:
            chosen[name] = read(value)
        except reach.WrongEntryError as error:
            raise UsageError(f"{file}: [{channel}] `{key}` {error}.") from error
        except (ValueError, TypeError, OverflowError) as error:
            raise UsageError(f"{file}: [{channel}] `{key}` must be {expected}, not {value!r}.") from error
    policy = Policy(**chosen)
    if policy.minimum_gap > policy.maximum_age:
        raise UsageError(f"{file}: [{channel}] demands a gap longer than the greatest age; lower minimum_gap_hours.")
    if policy.promotes_from == channel:
        raise UsageError(f"{file}: [{channel}] promotes from itself; name another channel in promotes_from.")
    return policy


def _security(value: Any) -> str:
    if value not in {NOW, WINDOW}:
        raise ValueError(value)
    return str(value)


def _window(value: Any) -> Window | None:
    if value == "always":
        return None
    found = _WINDOW.fullmatch(value)
    if found is None:
        raise ValueError(value)
    begin, end = time.fromisoformat(found["begin"]), time.fromisoformat(found["end"])
    length = timedelta(hours=end.hour - begin.hour, minutes=end.minute - begin.minute)
    if length <= timedelta(0):  # it ends on the next day
        length += timedelta(days=1)
    return Window(WEEKDAYS.index(found["day"].lower()), begin, length)


def _number_of(unit: timedelta) -> Callable[[Any], timedelta]:
    def read(value: Any) -> timedelta:
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ValueError(value)
        return value * unit

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(value)
    return value


def _count(value: Any) -> int:
    """From 1: without any image before there is no way back."""
    if type(value) is not int or value < 1:
        raise ValueError(value)
    return int(value)


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(value)
    return tuple(_text(name) for name in value)


def _percent(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(value)
        return int(value)

    return read


def _channel(value: Any) -> str:
    if not _CHANNEL.fullmatch(value):
        raise ValueError(value)
    return str(value)


# Key of the file -> field, reader, and what a person is told it must be.
_READERS: Mapping[str, tuple[str, Callable[[Any], Any], str]] = {
    "security": ("security", _security, '"now" or "window"'),
    "window": ("window", _window, 'a weekday and hours in UTC, as "sunday 02:00-06:00", or "always"'),
    "minimum_gap_hours": ("minimum_gap", _number_of(timedelta(hours=1)), "a number of hours above 0"),
    "test_types": ("test_types", _text, 'instance types, as "g4dn.xlarge,g5.xlarge"'),
    "promotes_from": ("promotes_from", _channel, 'a channel, as "canary"'),
    "keep_previous": ("keep_previous", _count, "a whole number from 1"),
    "disable_after_days": ("disable_after", _number_of(timedelta(days=1)), "a number of days above 0"),
    "delete_after_days": ("delete_after", _number_of(timedelta(days=1)), "a number of days above 0"),
    "unproven_after_days": ("unproven_after", _number_of(timedelta(days=1)), "a number of days above 0"),
    "soak_hours": ("soak", _number_of(timedelta(hours=1)), "a number of hours above 0"),
    "groups": ("groups", _names, 'a list of Auto Scaling groups, as ["web"]'),
    "alarms": ("alarms", _names, 'a list of CloudWatch alarms, as ["web-errors"]'),
    "minimum_healthy_percent": ("minimum_healthy_percent", _percent(0, 100), "a whole number from 0 to 100"),
    "maximum_healthy_percent": ("maximum_healthy_percent", _percent(100, 200), "a whole number from 100 to 200"),
    "warmup_seconds": ("warmup", _number_of(timedelta(seconds=1)), "a number of seconds above 0"),
    "regions": ("regions", reach.regions, 'a list of regions, as ["us-west-2"]'),
    "share_with": ("share_with", reach.shares, 'a list of accounts and organisations, as ["123456789012"]'),
    "maximum_age_days": ("maximum_age", _number_of(timedelta(days=1)), "a number of days above 0"),
}
assert {name for name, _, _ in _READERS.values()} == {entry.name for entry in fields(Policy)}  # noqa: S101 - a table
