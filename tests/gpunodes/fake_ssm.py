"""Parameter Store as the channel's lock uses it, and locks on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from botocore.exceptions import ClientError

from gpunodes.aws import Clients
from gpunodes.channel.channel_lock import ChannelLock, LockOwner

NOW = datetime(2030, 1, 1, 10, 0, tzinfo=UTC)
FOUR_HOURS = timedelta(hours=4)
NAME = "/gpunodes/stable/lock"


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "PutParameter")


@dataclass
class FakeSsm:
    """Parameter Store: every write gets the next version. `before` and `after` each call may interfere or raise."""

    values: list[str] = field(default_factory=list)
    tags: list[Any] = field(default_factory=list)
    before: Callable[[str], None] = lambda _call: None
    after: Callable[[str], None] = lambda _call: None

    @property
    def ssm(self) -> FakeSsm:
        return self

    def get_parameter(self, Name: str) -> dict[str, Any]:  # noqa: N803 - as boto3 names it
        self.before("get")
        name, _, number = Name.partition(":")
        assert name == NAME
        if not self.values:
            raise refused("ParameterNotFound")
        version = int(number or len(self.values))
        found = {"Parameter": {"Value": self.values[version - 1], "Version": version}}
        self.after("get")
        return found

    def put_parameter(self, *, Name: str, Value: str, Type: str, Overwrite: bool, **more: Any) -> dict[str, Any]:  # noqa: N803
        self.before("put")
        assert (Name, Type) == (NAME, "String")
        if self.values and not Overwrite:
            raise refused("ParameterAlreadyExists")
        self.values.append(Value)
        self.tags += more.get("Tags", [])
        version = len(self.values)
        self.after("put")
        return {"Version": version}


def lock(
    ssm: object,
    run_id: str = "one",
    *,
    now: datetime = NOW,
    who: str = "ann",
    said: list[str] | None = None,
    **more: Any,
) -> ChannelLock:
    return ChannelLock(
        cast("Clients", ssm),
        more.pop("channel", "stable"),
        LockOwner(run_id, who, f"host-{run_id}"),
        now + FOUR_HOURS,
        (said if said is not None else []).append,
        clock=lambda: now,
        **more,
    )
