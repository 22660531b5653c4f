"""Instance refreshes of Auto Scaling groups, which moto lacks: instances are replaced for real, one after the other.

An instance refresh goes on whenever a request comes in, for the daemon asks every few seconds what should run. Every
moment of it is that of a clock which is given, and nothing waits.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from localaws.ec2_query import Form
from localaws.instance_replacement import Group, launch_of
from localaws.query_protocol import Calls, RefusedCallError, answered, nested, refused
from localaws.refresh_rules import is_on, objection, rollback_objection
from localaws.wsgi import Answer, WSGIApp

_GOING_ON = frozenset({"Pending", "InProgress", "Cancelling", "RollbackInProgress"})
_ALL = 100


@dataclass
class _Refresh:
    """An instance refresh.

    Attributes:
        group: whose instances are replaced.
        target: configuration of the new instances.
        shown: what DescribeInstanceRefreshes tells of it.
        alarms: names; one of them in ALARM ends it.
        launches_first: a new instance is launched before an old one is terminated.
        warmup: that a new instance has before the next is replaced.
        left: instances to replace, ids.
        made: instances that replaced others.
        retiring: the instance that is being replaced; empty for none.
        arriving: the new instance, which boots; empty for none.
        runs_since: when it was first seen to run.
        total: instances to replace in all.
    """

    group: Group
    target: dict[str, Any]
    shown: dict[str, Any]
    alarms: list[str] = field(default_factory=list)
    launches_first: bool = False
    warmup: timedelta = timedelta(0)
    left: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    retiring: str = ""
    arriving: str = ""
    runs_since: datetime | None = None
    total: int = 0

    @property
    def status(self) -> str:
        return str(self.shown["Status"])

    @property
    def can_roll_back(self) -> bool:
        return is_on(self.shown["Preferences"], "AutoRollback")


class InstanceRefreshes:
    """Answers the calls on instance refreshes, and carries them out.

    Args:
        application: has groups, instances and alarms; it answers RunInstances at once, and looks up aliases of images.
        is_ready: whether instances at these addresses let people in.
        clock: UTC.
    """

    def __init__(
        self,
        application: WSGIApp,
        is_ready: Callable[[list[str]], bool] = lambda _: True,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._application = application
        self._is_ready = is_ready
        self._clock = clock
        self._lock = threading.Lock()
        self._refreshes: list[_Refresh] = []
        self._serves: Mapping[str, Callable[[dict[str, Any], dict[str, Any]], Answer]] = {
            "StartInstanceRefresh": self._start,
            "DescribeInstanceRefreshes": self._describe,
            "CancelInstanceRefresh": self._cancel,
            "RollbackInstanceRefresh": self._roll_back,
        }

    @property
    def is_active(self) -> bool:
        """Whether one goes on."""
        return any(refresh.status in _GOING_ON for refresh in self._refreshes)

    def answer(self, environ: dict[str, Any], form: Form) -> Answer | None:
        """The answer to a call on instance refreshes; None for any other of Auto Scaling.

        Args:
            environ: of the request (PEP 3333).
            form: its parameters.
        """
        serve = self._serves.get(form.get("Action", ""))
        if serve is None:
            return None
        with self._lock:
            return serve(environ, nested(form))

    def advance(self) -> None:
        """Take each instance refresh a step further; nothing while another thread does that."""
        if not self.is_active or not self._lock.acquire(blocking=False):
            return
        try:
            for refresh in self._refreshes:
                if refresh.status in _GOING_ON:
                    self._step(refresh)
        finally:
            self._lock.release()

    def _start(self, environ: dict[str, Any], asked: dict[str, Any]) -> Answer:
        group = self._group(environ, asked["AutoScalingGroupName"])
        if group.described() is None:
            return refused("ValidationError", "AutoScalingGroup name not found - null")
        if self._active(group.name):
            return refused("InstanceRefreshInProgress", "An Instance Refresh is already in progress")
        preferences, desired = asked.get("Preferences", {}), asked.get("DesiredConfiguration")
        current = group.configuration()
        target = desired or current
        if why := objection(group, preferences, current, desired):
            return refused("ValidationError", why)
        matching = _matching(group, target) if is_on(preferences, "SkipMatching") else set()
        left = [found["InstanceId"] for found in group.instances() if found["InstanceId"] not in matching]
        shown = {
            "InstanceRefreshId": str(uuid.uuid4()),
            "AutoScalingGroupName": group.name,
            "Status": "Pending",
            "StartTime": self._clock(),
            "PercentageComplete": 0,
            "InstancesToUpdate": len(left),
            "Preferences": preferences,
            "DesiredConfiguration": desired,
        }
        self._refreshes.append(
            _Refresh(
                group,
                target,
                shown,
                alarms=preferences.get("AlarmSpecification", {}).get("Alarms", []),
                launches_first="MaxHealthyPercentage" in preferences
                or int(preferences.get("MinHealthyPercentage", 0)) == _ALL,
                warmup=timedelta(seconds=int(preferences.get("InstanceWarmup", 0))),
                left=left,
                total=len(left),
            )
        )
        return answered("StartInstanceRefresh", {"InstanceRefreshId": shown["InstanceRefreshId"]})

    def _describe(self, _environ: dict[str, Any], asked: dict[str, Any]) -> Answer:
        wanted = asked.get("InstanceRefreshIds")
        found = [
            refresh.shown
            for refresh in reversed(self._refreshes)
            if refresh.group.name == asked["AutoScalingGroupName"]
            and (not wanted or refresh.shown["InstanceRefreshId"] in wanted)
        ]
        return answered("DescribeInstanceRefreshes", {"InstanceRefreshes": found})

    def _cancel(self, _environ: dict[str, Any], asked: dict[str, Any]) -> Answer:
        refresh = self._active(asked["AutoScalingGroupName"])
        if refresh is None:
            return refused("ActiveInstanceRefreshNotFound", "No in progress or pending Instance Refresh found")
        refresh.shown["Status"] = "Cancelling"
        return answered("CancelInstanceRefresh", {"InstanceRefreshId": refresh.shown["InstanceRefreshId"]})

    def _roll_back(self, _environ: dict[str, Any], asked: dict[str, Any]) -> Answer:
        refresh = self._active(asked["AutoScalingGroupName"])
        if refresh is None:
            return refused("ActiveInstanceRefreshNotFound", "No in progress or pending Instance Refresh found")
        desired = refresh.shown["DesiredConfiguration"]
        if rollback_objection(refresh.group, refresh.group.configuration(), desired):
            return refused("IrreversibleInstanceRefresh", "This Instance Refresh cannot be rolled back")
        self._begin_rollback(refresh, "Manual rollback was requested")
        return answered("RollbackInstanceRefresh", {"InstanceRefreshId": refresh.shown["InstanceRefreshId"]})

    def _step(self, refresh: _Refresh) -> None:
        if refresh.status == "Pending":
            refresh.shown["Status"] = "InProgress"
        if refresh.status == "Cancelling" and not refresh.arriving:
            self._end(refresh, "Cancelled", "Cancelled due to user request.")
            return
        in_alarm = refresh.group.alarms_in_alarm(refresh.alarms) if refresh.status == "InProgress" else []
        if in_alarm:
            self._fail(refresh, f"CloudWatch alarm(s) {in_alarm} are in ALARM state.")
        elif refresh.arriving:
            self._arrive(refresh)
        elif refresh.left:
            try:
                self._replace(refresh)
            except RefusedCallError as error:
                self._fail(refresh, f"An instance could not be launched: {error}")
        elif refresh.status == "RollbackInProgress":
            self._end(refresh, "RollbackSuccessful", refresh.shown["StatusReason"])
        else:
            if desired := refresh.shown["DesiredConfiguration"]:
                refresh.group.configure(desired)
            self._end(refresh, "Successful", "")

    def _replace(self, refresh: _Refresh) -> None:
        """Begin with the next instance; one that somebody else has terminated meanwhile needs no replacement."""
        refresh.retiring = refresh.left.pop(0)
        if refresh.retiring not in {found["InstanceId"] for found in refresh.group.instances()}:
            self._count(refresh)
            return
        if not refresh.launches_first:
            self._retire(refresh)
        refresh.arriving = refresh.group.launch(refresh.target)
        refresh.runs_since = None

    def _arrive(self, refresh: _Refresh) -> None:
        """Let the new instance into the group once it runs, and count it once it is warm."""
        now = self._clock()
        if refresh.runs_since is None:
            if not self._is_ready(refresh.group.addresses_of(refresh.arriving)):
                return
            self._retire(refresh)
            refresh.group.attach(refresh.arriving)
            refresh.runs_since = now
        if now < refresh.runs_since + refresh.warmup:
            return
        refresh.made.append(refresh.arriving)
        refresh.arriving = ""
        self._count(refresh)

    def _retire(self, refresh: _Refresh) -> None:
        if refresh.retiring:
            refresh.group.detach(refresh.retiring)
            refresh.group.terminate(refresh.retiring)
            refresh.retiring = ""

    def _count(self, refresh: _Refresh) -> None:
        share = len(refresh.left) * _ALL // max(refresh.total, 1)
        is_back = refresh.status == "RollbackInProgress"
        refresh.shown["PercentageComplete"] = share if is_back else _ALL - share
        if not is_back:
            refresh.shown["InstancesToUpdate"] = len(refresh.left)

    def _fail(self, refresh: _Refresh, reason: str) -> None:
        if refresh.can_roll_back and refresh.status == "InProgress":
            self._begin_rollback(refresh, reason)
            return
        is_back = refresh.status == "RollbackInProgress"
        self._end(refresh, "RollbackFailed" if is_back else "Failed", reason)

    def _begin_rollback(self, refresh: _Refresh, reason: str) -> None:
        """Replace what was replaced by what the group's own configuration launches, which was never changed."""
        if refresh.arriving and refresh.retiring:
            refresh.group.terminate(refresh.arriving)  # what it was to replace is still there
        elif refresh.arriving:
            if refresh.runs_since is None:
                refresh.group.attach(refresh.arriving)
            refresh.made.append(refresh.arriving)  # it is replaced like the others
        shown = refresh.shown
        shown["RollbackDetails"] = {
            "RollbackReason": reason,
            "RollbackStartTime": self._clock(),
            "PercentageCompleteOnRollback": shown["PercentageComplete"],
            "InstancesToUpdateOnRollback": shown["InstancesToUpdate"],
        }
        shown["Status"], shown["StatusReason"] = "RollbackInProgress", reason
        refresh.target = refresh.group.configuration()
        refresh.left, refresh.made = refresh.made, []
        refresh.arriving = refresh.retiring = ""

    def _end(self, refresh: _Refresh, status: str, reason: str) -> None:
        refresh.shown |= {"Status": status, "StatusReason": reason or None, "EndTime": self._clock()}
        if status == "Successful":
            refresh.shown["PercentageComplete"] = _ALL

    def _active(self, name: str) -> _Refresh | None:
        mine = (refresh for refresh in self._refreshes if refresh.group.name == name)
        return next((refresh for refresh in mine if refresh.status in _GOING_ON), None)

    def _group(self, environ: dict[str, Any], name: str) -> Group:
        return Group(Calls(self._application, environ), name)


def _matching(group: Group, target: Mapping[str, Any]) -> set[str]:
    """Instances that have the image and the type of a configuration; AWS compares versions of launch templates."""
    image_id, (_, instance_type) = group.image_of(target, resolve=True), launch_of(target)
    return {
        found["InstanceId"]
        for found in group.instances()
        if found["ImageId"] == image_id and instance_type in {"", found["InstanceType"]}
    }
