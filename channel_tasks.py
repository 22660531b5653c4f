"""Tasks of channels, for Invoke: which image a channel names, and the way back; `tasks.py` lists them."""

from __future__ import annotations

from invoke import Collection, Context, Exit, task

from gpunodes import report
from gpunodes.aws import Clients
from gpunodes.channel import channel_report, policy
from gpunodes.channel.promote import promote as promote_image
from gpunodes.channel.rollback import rollback as roll_back
from gpunodes.destination import select
from gpunodes.exit_codes import errors_as_exit_codes
from gpunodes.operation.progress import TerminalProgress
from gpunodes.prune import prune_report
from gpunodes.prune.prune_run import prune_region
from gpunodes.refresh import refresh_report
from gpunodes.refresh.refresh_run import refresh_channel
from gpunodes.roll import roll_report
from gpunodes.roll.roll_run import roll_channel
from gpunodes.status import status_report
from gpunodes.status.status import status as look_at_channels
from gpunodes.task_options import CHANNEL, JSON, OFFLINE

_AMI = {"ami": "Id of the image; without it what the policy's source channel names, or the newest proven one."}
_REASON = {"reason": "Why an image may be used that is not proven, or did not soak; it is recorded."}
_EARLIER = {"ami": "Id of an earlier image of the channel; without it the one before.", "reason": "Kept on the image."}


@task(help={**OFFLINE, **JSON, **CHANNEL})
def refresh_ami(_context: Context, offline: bool = False, json: bool = False, channel: str = "") -> None:
    """Bake, prove and promote a new image where one is due, and say why or why not; for a scheduler."""
    with errors_as_exit_codes():
        progress = TerminalProgress()
        progress.title("refresh-ami")
        chosen, options = select(offline, progress.say, channel=channel)
        refreshed = refresh_channel(chosen, options, progress)
        document = refresh_report.refreshed_document
        report.print_json(document(refreshed)) if json else refresh_report.show_refreshed(refreshed, report.console())
    if refreshed.exit_code:
        raise Exit(code=refreshed.exit_code)


@task(help={**OFFLINE, **JSON, **CHANNEL, **_AMI, **_REASON})
def promote(
    _context: Context, offline: bool = False, json: bool = False, channel: str = "", ami: str = "", reason: str = "",
) -> None:  # fmt: skip
    """Let a channel name a proven image: the SSM parameter /gpunodes/CHANNEL/ami-id; the one before is kept."""
    with errors_as_exit_codes():
        progress = TerminalProgress()
        progress.title("promote")
        chosen, options = select(offline, progress.say, channel=channel)
        rules = policy.load(options.channel)
        done = promote_image(chosen, options, rules, progress, ami_id=ami or None, override=reason)
        document = channel_report.promotion_document
        report.print_json(document(done)) if json else channel_report.show_promotion(done, report.console())


@task(help={**OFFLINE, **JSON, **CHANNEL, **_EARLIER})
def rollback(
    _context: Context, offline: bool = False, json: bool = False, channel: str = "", ami: str = "", reason: str = "",
) -> None:  # fmt: skip
    """Let a channel name the image again that it named before; a disabled one is enabled first."""
    with errors_as_exit_codes():
        progress = TerminalProgress()
        progress.title("rollback")
        chosen, options = select(offline, progress.say, channel=channel)
        rules = policy.load(options.channel)
        done = roll_back(chosen, options, progress, ami_id=ami or None, reason=reason, policy=rules)
        document = channel_report.rollback_document
        report.print_json(document(done)) if json else channel_report.show_rollback(done, report.console())


@task(
    help={
        **OFFLINE,
        **JSON,
        **CHANNEL,
        "group": "Auto Scaling groups, such as web,batch, instead of the policy's.",
        "alarm": "CloudWatch alarms that end it, instead of the policy's.",
        "min_healthy": "Percentage of a group that stays healthy meanwhile, 0 to 100.",
        "max_healthy": "Percentage that it may grow to, 100 to 200.",
        "warmup": "Seconds that a new instance has before the next one.",
    }
)
def roll(  # noqa: PLR0917 - each is an option
    _context: Context, offline: bool = False, json: bool = False, channel: str = "", group: str = "", alarm: str = "",
    min_healthy: str = "", max_healthy: str = "", warmup: str = "",
) -> None:  # fmt: skip
    """Bring Auto Scaling groups to the image that a channel names: their instances are replaced."""
    with errors_as_exit_codes():
        progress = TerminalProgress()
        progress.title("roll")
        chosen, options = select(offline, progress.say, channel=channel)
        healthy = {"min_healthy": min_healthy, "max_healthy": max_healthy}
        rolled = roll_channel(chosen, options, progress, {"group": group, "alarm": alarm, "warmup": warmup, **healthy})
        report.print_json(roll_report.document(rolled)) if json else roll_report.show(rolled, report.console())
    if rolled.exit_code:
        raise Exit(code=rolled.exit_code)


@task(
    help={
        **OFFLINE,
        **JSON,
        "apply": "Carry it out; without this it is only shown.",
        "most": "So many images are deprecated, as many disabled, as many deregistered at most (10).",
    }
)
def prune(_context: Context, offline: bool = False, json: bool = False, apply: bool = False, most: str = "") -> None:
    """Retire old images: deprecated, later disabled, later deregistered, never one in use; --apply carries it out."""
    with errors_as_exit_codes():
        progress = TerminalProgress()
        chosen, options = select(offline, progress.say)
        pruned = prune_region(chosen, options, progress, apply=apply, most=most)
        document = prune_report.document
        report.print_json(document(pruned, options.channel)) if json else prune_report.show(pruned, report.console())
    if pruned.exit_code:
        raise Exit(code=pruned.exit_code)


@task(help={**OFFLINE, **JSON})
def status(_context: Context, offline: bool = False, json: bool = False) -> None:
    """Show what each channel names since when, what waits, what is old or due, and what keeping it costs."""
    with errors_as_exit_codes():
        chosen, options = select(offline, TerminalProgress().say)
        found = look_at_channels(Clients(chosen))
        document = status_report.document
        report.print_json(document(found, options.channel)) if json else status_report.show(found, report.console())


def add_to(namespace: Collection) -> None:
    """Let a collection list these tasks."""
    namespace.add_task(refresh_ami)
    namespace.add_task(promote)
    namespace.add_task(rollback)
    namespace.add_task(roll)
    namespace.add_task(prune)
    namespace.add_task(status)
