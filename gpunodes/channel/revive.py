"""An image that was on its way out and is wanted again: enabled, no longer deprecated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import AwsError

TAG_DISABLED_AT = "gpunodes:disabled-at"
_DISABLED = "disabled"
_AVAILABLE = "available"


def revive(clients: Clients, image: Mapping[str, Any]) -> bool:
    """Let an image be launched again, and for as long as before it was retired; returns whether it had been disabled.

    Accounts that it was shared with before it was disabled do not get it back by that.

    Args:
        clients: of the target.
        image: as in DescribeImages.

    Raises:
        AwsError: EC2 refused (EnableImage, DisableImageDeprecation, DeleteTags), or it is not available then.
    """
    ami_id, was_disabled = str(image["ImageId"]), str(image["State"]) == _DISABLED
    with aws_errors(f"enabling {ami_id} again"):
        if was_disabled:
            clients.ec2.enable_image(ImageId=ami_id)
        if image.get("DeprecationTime"):
            clients.ec2.disable_image_deprecation(ImageId=ami_id)
        clients.ec2.delete_tags(Resources=[ami_id], Tags=[{"Key": TAG_DISABLED_AT}])
        found = clients.ec2.describe_images(
            Owners=["self"], Filters=[{"Name": "image-id", "Values": [ami_id]}], IncludeDisabled=True
        )["Images"]
    state = found[0]["State"] if found else "gone"
    if state != _AVAILABLE:
        raise AwsError(f"{ami_id} is {state} although it was enabled; look at it and repeat.")
    return was_disabled
