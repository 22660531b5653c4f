"""When Auto Scaling refuses an instance refresh, or does not roll one back.

As in its API reference (StartInstanceRefresh, RefreshPreferences) and its user guide ("Undo changes with a manual or
auto rollback", "Use AWS Systems Manager parameters instead of AMI IDs in launch templates").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localaws.image_aliases import PREFIX
from localaws.instance_replacement import Group, launch_of

_MOVING = frozenset({"$Latest", "$Default"})


def is_on(preferences: Mapping[str, Any], name: str) -> bool:
    """Whether a preference of an instance refresh is true; false where it is not given."""
    return str(preferences.get(name, "")).lower() == "true"


def objection(
    group: Group, preferences: Mapping[str, Any], current: Mapping[str, Any], desired: Mapping[str, Any] | None
) -> str:
    """Why an instance refresh cannot be started; empty where it can."""
    if not current:
        return "A group with a launch configuration is not served here; give it a launch template."
    has_alias = group.image_of(desired or current).startswith(PREFIX) or group.image_of(current).startswith(PREFIX)
    if has_alias and (desired or is_on(preferences, "SkipMatching")):
        return (
            "An instance refresh with a desired configuration or skip matching is not supported where the launch"
            " template specifies a Systems Manager parameter for ImageId."
        )
    if is_on(preferences, "AutoRollback"):
        return rollback_objection(group, current, desired)
    return ""


def rollback_objection(group: Group, current: Mapping[str, Any], desired: Mapping[str, Any] | None) -> str:
    """Why an instance refresh could not be undone; empty where it could."""
    if not desired:
        return (
            "The AutoRollback parameter cannot be set to true when the DesiredConfiguration parameter is empty. Set"
            " AutoRollback to false or specify a desired configuration and try again."
        )
    if launch_of(current)[0].get("Version", "$Default") in _MOVING:
        return "A rollback is not supported where the group uses the $Latest or $Default version."
    if group.image_of(current).startswith(PREFIX):
        return "A rollback is not supported where the launch template specifies a Systems Manager parameter."
    return ""
