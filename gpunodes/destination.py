"""Where a command works and with what settings, from its options and gpunodes.toml."""

from __future__ import annotations

from collections.abc import Callable

from gpunodes import aws, offline_target, settings, target
from gpunodes.recipe import flavors
from gpunodes.settings import Settings
from gpunodes.target import Target


def select(
    offline: bool, say: Callable[[str], None], *, flavor: str = "", channel: str = "", spot: bool = False
) -> tuple[Target, Settings]:
    """The target and the settings of a command; an option that was not given changes nothing.

    Args:
        offline: the offline cloud of this machine, which is started where it is not up; else AWS.
        say: told what takes longer.
        flavor: kind of base image.
        channel: what an image is baked for.
        spot: bake on a spot instance.

    Raises:
        UsageError: an option or a setting is wrong.
        PreflightError: there are no credentials, or the offline cloud cannot run here.
    """
    options = settings.with_options(settings.load(), channel=channel, spot=spot)
    chosen = offline_target.offline_target(say) if offline else target.aws_target(options)
    chosen = flavors.choose(chosen, flavor)
    aws.check_credentials(chosen)
    return chosen, options
