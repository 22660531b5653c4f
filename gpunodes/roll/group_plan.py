"""What is to be done with a group, and what AWS will refuse of it, said before anything is begun.

Auto Scaling refuses a desired configuration and skip matching where a launch template names a parameter instead of an
image, and rolls nothing back without a desired configuration, or where the group uses `$Latest` or `$Default` (User
Guide, "Use AWS Systems Manager parameters instead of AMI IDs in launch templates", "Undo changes with a manual or auto
rollback").
"""

from __future__ import annotations

from dataclasses import dataclass

from gpunodes.errors import PreflightError
from gpunodes.roll.group import Group, Template

_ALIAS = "resolve:ssm:"


@dataclass(frozen=True)
class GroupPlan:
    """What is to be done with a group.

    Attributes:
        is_due: whether something is.
        reason: why, or why not; one sentence without its end.
        renewed: launch templates that get a new version.
        skips_matching: instances that match already stay; where the image is a parameter's AWS compares nothing.
        needs_configuration: whether the group must be pointed at new versions, because it has numbered ones.
        rolls_back: whether AWS undoes an instance refresh that fails.
        why_not: why it cannot; empty where it can.
    """

    is_due: bool
    reason: str
    renewed: tuple[Template, ...] = ()
    skips_matching: bool = True
    needs_configuration: bool = False
    why_not: str = ""

    @property
    def rolls_back(self) -> bool:
        """Whether AWS undoes an instance refresh that fails."""
        return not self.why_not


def plan(group: Group, ami_id: str, parameter: str) -> GroupPlan:
    """Compare a group with the image of a channel.

    Args:
        group: as it is.
        ami_id: that the channel names.
        parameter: of the channel, its name.

    Raises:
        PreflightError: the group launches by something that a roll must not or cannot change.
    """
    renewed, has_alias = [], False
    for template in group.templates:
        if names_parameter(template.image, parameter):
            has_alias = True
        elif template.image != ami_id:
            _require_image_id(group, template, parameter)
            renewed.append(template)
    others = group.others(ami_id)
    if not others and not renewed:
        return GroupPlan(is_due=False, reason=f"all {len(group.images)} instances of group {group.name} have {ami_id}")
    needs_configuration = any(template.is_numbered for template in renewed)
    if needs_configuration and (has_alias or group.selects_by_attributes):
        raise PreflightError(
            f"Group {group.name} {'mixes images and a parameter' if has_alias else 'selects instances by attributes'},"
            " for which AWS takes no new versions with a refresh; let its launch templates name the parameter, or the"
            " group use $Latest."
        )
    return GroupPlan(
        is_due=True,
        reason=_reason(group, others, renewed),
        renewed=tuple(renewed),
        skips_matching=not has_alias and not group.selects_by_attributes,
        needs_configuration=needs_configuration,
        why_not=_why_no_rollback(group, has_alias, needs_configuration),
    )


def names_parameter(image: str, parameter: str) -> bool:
    """Whether an alias leads to the present value of a parameter, by its name or its ARN."""
    if not image.startswith(_ALIAS):
        return False
    name = image.removeprefix(_ALIAS)
    return name == parameter or (name.startswith("arn:") and name.endswith(f":parameter{parameter}"))


def _require_image_id(group: Group, template: Template, parameter: str) -> None:
    if not template.image.startswith("ami-"):
        said = f"launches by {template.image}" if template.image else "has a launch template without an image"
        raise PreflightError(
            f"Group {group.name} {said} ({template.template_id}, version {template.number}); let it name"
            f" {_ALIAS}{parameter} or an image id first."
        )


def _reason(group: Group, others: list[str], renewed: list[Template]) -> str:
    said = []
    if others:
        said.append(f"{len(others)} of {len(group.images)} instances have another image")
    if renewed:
        images = ", ".join(sorted({template.image for template in renewed}))
        said.append(f"launches {images}" if not said else f"new ones would get {images}")
    return f"group {group.name}: {' and '.join(said)}"


def _why_no_rollback(group: Group, has_alias: bool, needs_configuration: bool) -> str:
    if has_alias:
        return "its launch template names a parameter instead of an image"
    if moving := [template.version for template in group.templates if not template.is_numbered]:
        return f"it uses version {moving[0]} of its launch template"
    return "" if needs_configuration else "its configuration does not change"
