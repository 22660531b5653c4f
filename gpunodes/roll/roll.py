"""`roll`: bring Auto Scaling groups to the image that a channel names, and prove that each instance has it.

Groups are rolled one after the other, and the first one that fails ends it: an image that does not work must not get
everywhere. A roll takes no lock of the channel, for it may take days; AWS lets a group have one instance refresh.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gpunodes.aws import Clients
from gpunodes.channel.parameter import ChannelParameter
from gpunodes.channel.rollback import images_by_id
from gpunodes.errors import InterruptedRunError, PreflightError
from gpunodes.operation.steps import Progress
from gpunodes.roll import group_plan
from gpunodes.roll.group import DEFAULT, LATEST, Group, read
from gpunodes.roll.group_plan import GroupPlan
from gpunodes.roll.instance_refresh import CANCELLED, ROLLED_BACK, SUCCESSFUL, InstanceRefresh, Refreshes
from gpunodes.roll.launch_template import renew
from gpunodes.roll.wish import Wish, require_quiet_alarms

ROLLED, NOTHING, FAILED, NOT_BEGUN = "rolled", "nothing", "failed", "not begun"
WENT_BACK, STOPPED = "rolled back", "cancelled"
_DECISIONS = {ROLLED_BACK: WENT_BACK, CANCELLED: STOPPED}
_GOOD = frozenset({ROLLED, NOTHING})
_LOOKS_AT_END = 5
_PAUSE_SECONDS = 2.0
_MOST_NAMED = 3
_CHECK_FAILED = 1


@dataclass
class GroupOutcome:
    """What became of a group.

    Attributes:
        group: its name.
        decision: `rolled`, `nothing`, `failed`, `rolled back`, `cancelled` or `not begun`.
        reason: why, one sentence without its end.
        refresh_id: of the instance refresh; empty without one.
        done: what was done, in words, in its order.
    """

    group: str
    decision: str = NOT_BEGUN
    reason: str = "a group before it failed"
    refresh_id: str = ""
    done: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rolled:
    """What a roll did.

    Attributes:
        channel: whose image it is.
        ami_id: that the channel names.
        groups: in their order.
    """

    channel: str
    ami_id: str
    groups: list[GroupOutcome]

    @property
    def decision(self) -> str:
        """That of the group which failed; else `rolled` where one was, else `nothing`."""
        return self._decisive.decision

    @property
    def reason(self) -> str:
        """Of that group, or what holds for all."""
        if self.decision != NOTHING:
            return self._decisive.reason
        return f"every instance of {', '.join(outcome.group for outcome in self.groups)} has {self.ami_id}"

    @property
    def done(self) -> list[str]:
        """What was done in all groups."""
        return [done for outcome in self.groups for done in outcome.done]

    @property
    def way_back(self) -> str:
        """Commands that bring the groups to the image before; empty where all have the new one.

        A roll that fails leaves the channel alone: others launch by it, too, and what set off the alarm of one group
        need not be the image.
        """
        if self.exit_code == 0:
            return ""
        names = ",".join(outcome.group for outcome in self.groups)
        return f"invoke rollback --channel {self.channel} && invoke roll --channel {self.channel} --group {names}"

    @property
    def exit_code(self) -> int:
        """0 done or nothing to do, 1 where a group has not got the image."""
        return 0 if self.decision in _GOOD else _CHECK_FAILED

    @property
    def _decisive(self) -> GroupOutcome:
        bad = [outcome for outcome in self.groups if outcome.decision not in _GOOD]
        rolled = [outcome for outcome in self.groups if outcome.decision == ROLLED]
        return (bad or rolled or self.groups)[0]


@dataclass
class Roll:
    """A roll while it goes on.

    Attributes:
        clients: of the target.
        channel: whose image the groups get.
        wish: which groups, and how gently.
        progress: told what happens.
        wait: sleeps for so many seconds.
        clock: seconds, monotonic.
    """

    clients: Clients
    channel: str
    wish: Wish
    progress: Progress
    wait: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def run(self) -> Rolled:
        """Look at everything first, then roll group by group.

        Raises:
            UsageError: there is no such group.
            PreflightError: the channel names no image that can be launched, a group cannot be rolled, or an alarm is
                missing or in ALARM.
            AwsError: AWS refused.
            InterruptedRunError: somebody asked it to stop; the instance refresh goes on.
        """
        ami_id = self._image()
        for name in self.wish.groups:
            self._plan(name, ami_id)
        outcomes = [GroupOutcome(name) for name in self.wish.groups]
        for outcome in outcomes:
            try:
                self._roll(outcome, ami_id)
            except PreflightError as error:
                if not any(rolled.done for rolled in outcomes):
                    raise
                outcome.decision, outcome.reason = FAILED, str(error).rstrip(".")
            if outcome.decision not in _GOOD:
                break
        return Rolled(self.channel, ami_id, outcomes)

    def _image(self) -> str:
        pointer = ChannelParameter(self.clients, self.channel).read()
        if pointer is None:
            raise PreflightError(f"Channel `{self.channel}` names no image yet; promote one with `invoke promote`.")
        image = images_by_id(self.clients, [pointer.ami_id]).get(pointer.ami_id)
        if image is None or image["State"] != "available":
            raise PreflightError(
                f"Channel `{self.channel}` names {pointer.ami_id}, which is no available image of this account; promote"
                " another one, or `invoke rollback`."
            )
        return pointer.ami_id

    def _plan(self, name: str, ami_id: str) -> tuple[Group, GroupPlan]:
        group = read(self.clients, name)
        parameter = ChannelParameter(self.clients, self.channel).name
        return group, group_plan.plan(group, ami_id, parameter)

    def _roll(self, outcome: GroupOutcome, ami_id: str) -> None:
        """Follow what goes on already, then do what is left."""
        refreshes = Refreshes(self.clients, outcome.group, self.wait)
        earlier = refreshes.going_on()
        if earlier is not None:
            outcome.done.append(f"followed instance refresh {earlier.refresh_id} of group {outcome.group}")
            if not self._follow(outcome, refreshes, earlier.refresh_id):
                return
        group, plan = self._plan(outcome.group, ami_id)
        if not plan.is_due:
            outcome.decision, outcome.reason = (ROLLED if earlier else NOTHING), plan.reason
            return
        require_quiet_alarms(self.clients, self.wish.alarms)
        refresh_id = self._begin(outcome, refreshes, group, plan, ami_id)
        if self._follow(outcome, refreshes, refresh_id):
            self._prove(outcome, ami_id, plan)

    def _begin(self, outcome: GroupOutcome, refreshes: Refreshes, group: Group, plan: GroupPlan, ami_id: str) -> str:
        """Make what the group shall launch by, and start; what AWS will not do is said before."""
        self.progress.say(plan.reason)
        if not plan.rolls_back:
            at_alarm = "an alarm only stops it" if self.wish.alarms else "one that fails stops half way"
            self.progress.say(f"AWS cannot roll group {group.name} back, for {plan.why_not}: {at_alarm}")
        numbers = {}
        for template in plan.renewed:
            number, is_new = renew(self.clients, template, ami_id, self.channel)
            numbers[template.template_id, template.version] = number
            version = f"version {number} of launch template {template.template_id} with {ami_id}"
            default = ", now its default" if template.version == DEFAULT else ""
            outcome.done.append(f"{'made' if is_new else 'used'} {version}{default}")
        numbered = {key: number for key, number in numbers.items() if key[1] not in {LATEST, DEFAULT}}
        preferences = self.wish.preferences()
        preferences |= {"SkipMatching": True} if plan.skips_matching else {}
        preferences |= {"AutoRollback": True} if plan.rolls_back else {}
        configuration = group.configuration(numbered) if plan.needs_configuration else None
        refresh_id = refreshes.start(preferences, configuration)
        outcome.done.append(f"started instance refresh {refresh_id} of group {group.name}")
        return refresh_id

    def _follow(self, outcome: GroupOutcome, refreshes: Refreshes, refresh_id: str) -> bool:
        """Wait for its end; whether it was a good one."""
        outcome.refresh_id = refresh_id
        name, begin = f"replace the instances of {outcome.group}", self.clock()
        self.progress.begin(name)
        good = False
        try:
            ended = refreshes.follow(refresh_id, self._tell)
            good = ended.status == SUCCESSFUL
        except KeyboardInterrupt as error:
            command = f"aws autoscaling cancel-instance-refresh --auto-scaling-group-name {outcome.group}"
            raise InterruptedRunError(
                f"Stopped as asked; instance refresh {refresh_id} goes on: the same command follows it, `{command}`"
                " cancels it."
            ) from error
        finally:
            self.progress.end(name, self.clock() - begin, "done" if good else "failed")
        if not good:
            outcome.decision = _DECISIONS.get(ended.status, FAILED)
            said = f": {ended.reason.rstrip('.')}" if ended.reason else ""
            outcome.reason = f"instance refresh {refresh_id} of group {outcome.group} is {ended.status}{said}"
        return good

    def _tell(self, refresh: InstanceRefresh) -> None:
        said = f", {refresh.reason}" if refresh.reason else ""
        self.progress.detail(f"{refresh.status}, {refresh.percent} %{said}")

    def _prove(self, outcome: GroupOutcome, ami_id: str, plan: GroupPlan) -> None:
        """Ask EC2 for the image of each instance; AWS's lists may be some seconds old."""
        for _ in range(_LOOKS_AT_END):
            group, left = self._plan(outcome.group, ami_id)
            if not left.is_due:
                outcome.decision, outcome.reason = ROLLED, plan.reason
                outcome.done.append(f"found {ami_id} on all {len(group.images)} instances of group {group.name}")
                return
            self.wait(_PAUSE_SECONDS)
        others = group.others(ami_id)
        now_named = ChannelParameter(self.clients, self.channel).read()
        outcome.decision = FAILED
        outcome.reason = left.reason + (f" ({', '.join(others[:_MOST_NAMED])})" if others else "")
        if now_named is not None and now_named.ami_id != ami_id:
            outcome.reason += f"; channel {self.channel} names {now_named.ami_id} meanwhile"
