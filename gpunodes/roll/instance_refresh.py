"""An instance refresh of an Auto Scaling group: found, started, followed to its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import AwsError

SUCCESSFUL, ROLLED_BACK, CANCELLED = "Successful", "RollbackSuccessful", "Cancelled"
_ENDED = frozenset({SUCCESSFUL, ROLLED_BACK, CANCELLED, "Failed", "RollbackFailed"})
_ALREADY = "InstanceRefreshInProgress"
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True)
class InstanceRefresh:
    """An instance refresh, as AWS tells of it now.

    Attributes:
        refresh_id: of it.
        status: as in DescribeInstanceRefreshes, e.g. `InProgress`.
        percent: of the instances that are replaced; it goes down while a refresh is rolled back.
        reason: for the status; empty without one.
    """

    refresh_id: str
    status: str
    percent: int
    reason: str

    @property
    def has_ended(self) -> bool:
        """Whether nothing happens any more."""
        return self.status in _ENDED


@dataclass(frozen=True)
class Refreshes:
    """The instance refreshes of a group.

    Attributes:
        clients: of the target.
        group: its name.
        wait: sleeps for so many seconds.
    """

    clients: Clients
    group: str
    wait: Callable[[float], None]

    def going_on(self) -> InstanceRefresh | None:
        """The one that goes on; a group has no more than one (DescribeInstanceRefreshes, newest first).

        Raises:
            AwsError: Auto Scaling refused.
        """
        return next((found for found in self._described() if not found.has_ended), None)

    def start(self, preferences: dict[str, Any], configuration: dict[str, Any] | None) -> str:
        """Start one and return its id; where somebody else was first, theirs (StartInstanceRefresh).

        Args:
            preferences: as the call takes them.
            configuration: the desired one; None for that which the group has.

        Raises:
            AwsError: Auto Scaling refused.
        """
        wanted: dict[str, Any] = {"AutoScalingGroupName": self.group, "Strategy": "Rolling", "Preferences": preferences}
        if configuration is not None:
            wanted["DesiredConfiguration"] = configuration
        with aws_errors(f"starting an instance refresh of group {self.group}"):
            try:
                return str(self.clients.client("autoscaling").start_instance_refresh(**wanted)["InstanceRefreshId"])
            except ClientError as error:
                if error.response["Error"]["Code"] != _ALREADY or (found := self.going_on()) is None:
                    raise
                return found.refresh_id

    def follow(self, refresh_id: str, tell: Callable[[InstanceRefresh], None]) -> InstanceRefresh:
        """Wait until it has ended, however long that takes: AWS itself gives up after an hour without progress.

        Args:
            refresh_id: which.
            tell: told of every look.

        Raises:
            AwsError: Auto Scaling refused, or does not know it any more.
        """
        pause_seconds = _FIRST_PAUSE_SECONDS
        while True:
            [*found] = self._described([refresh_id])
            if not found:
                raise AwsError(f"AWS knows no instance refresh {refresh_id} of group {self.group}; repeat the roll.")
            tell(found[0])
            if found[0].has_ended:
                return found[0]
            self.wait(pause_seconds)
            pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)

    def _described(self, refresh_ids: list[str] | None = None) -> list[InstanceRefresh]:
        which = {"InstanceRefreshIds": refresh_ids} if refresh_ids else {}
        with aws_errors(f"looking at the instance refreshes of group {self.group}"):
            found = self.clients.client("autoscaling").describe_instance_refreshes(
                AutoScalingGroupName=self.group, **which
            )["InstanceRefreshes"]
        return [
            InstanceRefresh(
                entry["InstanceRefreshId"],
                entry["Status"],
                int(entry.get("PercentageComplete", 0)),
                entry.get("StatusReason", "").strip(),
            )
            for entry in found
        ]
