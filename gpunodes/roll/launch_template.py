"""A new version of a launch template: that which a group uses, with another image and nothing else changed.

It names the image's id, not the channel's parameter: AWS rolls a group back to numbered versions with ids only, and a
group whose owner wrote an id gets what was rolled to it, at no other time.
"""

from __future__ import annotations

from gpunodes.aws import Clients, aws_errors
from gpunodes.roll.group import DEFAULT, LATEST, Template


def renew(clients: Clients, template: Template, ami_id: str, channel: str) -> tuple[int, bool]:
    """The number of a version with the image, and whether it was made now.

    A version that an earlier roll made of the same one is used again: that roll was stopped, or was rolled back. The
    newest version must be a new one, for a group that uses that.

    Raises:
        AwsError: EC2 refused (DescribeLaunchTemplateVersions, CreateLaunchTemplateVersion, ModifyLaunchTemplate).
    """
    said = f"gpunodes: version {template.number} with {ami_id} of channel {channel}"
    number = None if template.version == LATEST else _made_before(clients, template, ami_id, said)
    is_new = number is None
    if number is None:
        with aws_errors(f"making a version of launch template {template.template_id}"):
            made = clients.ec2.create_launch_template_version(
                LaunchTemplateId=template.template_id,
                SourceVersion=str(template.number),
                VersionDescription=said,
                LaunchTemplateData={"ImageId": ami_id},
            )
        number = int(made["LaunchTemplateVersion"]["VersionNumber"])
    if template.version == DEFAULT:
        with aws_errors(f"making version {number} of launch template {template.template_id} its default"):
            clients.ec2.modify_launch_template(LaunchTemplateId=template.template_id, DefaultVersion=str(number))
    return number, is_new


def _made_before(clients: Clients, template: Template, ami_id: str, said: str) -> int | None:
    with aws_errors(f"looking for versions of launch template {template.template_id}"):
        wanted = {"MinVersion": str(template.number + 1), "Filters": [{"Name": "image-id", "Values": [ami_id]}]}
        pages = clients.ec2.get_paginator("describe_launch_template_versions").paginate(
            LaunchTemplateId=template.template_id, **wanted
        )
        for page in pages:
            for version in page["LaunchTemplateVersions"]:
                is_same_image = version["LaunchTemplateData"].get("ImageId") == ami_id
                if is_same_image and version.get("VersionDescription") == said:
                    return int(version["VersionNumber"])
    return None
