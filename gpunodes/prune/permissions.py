"""What whoever prunes must be allowed to do, and which of it was refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import botocore.exceptions

from gpunodes.errors import AwsError, GpunodesError

PLANNING = (
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeLaunchConfigurations",
    "ec2:DescribeImageReferences",
    "ec2:DescribeImages",
    "ec2:DescribeInstances",
    "ec2:DescribeLaunchTemplateVersions",
    "ec2:DescribeLaunchTemplates",
    "imagebuilder:GetContainerRecipe",
    "imagebuilder:GetImageRecipe",
    "imagebuilder:ListContainerRecipes",
    "imagebuilder:ListImageRecipes",
    "ssm:DescribeParameters",
    "ssm:GetParameter",
    "ssm:GetParameterHistory",
    "ssm:GetParameters",
    "ssm:GetParametersByPath",
)
APPLYING = (
    "ec2:CreateImageUsageReport",
    "ec2:CreateTags",
    "ec2:DeleteImageUsageReport",
    "ec2:DeleteSnapshot",
    "ec2:DeregisterImage",
    "ec2:DescribeImageAttribute",
    "ec2:DescribeImageUsageReportEntries",
    "ec2:DescribeImageUsageReports",
    "ec2:DescribeSnapshots",
    "ec2:DisableImage",
    "ec2:DisableImageDeregistrationProtection",
    "ec2:EnableImageDeprecation",
)
_OF_CALL = {permission.partition(":")[2]: permission for permission in (*PLANNING, *APPLYING)}
_NAMED = "The permission "
_DENIED_CODES = frozenset({"AccessDenied", "AccessDeniedException", "ForbiddenException", "UnauthorizedOperation"})


def explained(error: GpunodesError) -> str:
    """The sentence of an error, which names the permission where one is missing."""
    cause: BaseException | None = error
    while isinstance(cause, GpunodesError):  # a step that failed adds what is to be done about it
        cause = cause.__cause__
    if str(error).startswith(_NAMED):
        return str(error)
    if isinstance(cause, botocore.exceptions.ClientError) and cause.response["Error"]["Code"] in _DENIED_CODES:
        call = cause.operation_name
        return f"{_NAMED}{_OF_CALL.get(call, call)} is missing: {error}"
    return str(error)


@contextmanager
def named_permissions() -> Iterator[None]:
    """Let an error of AWS name the permission where one is missing.

    Raises:
        AwsError: a permission is missing, which it names; any other error is left as it is.
    """
    try:
        yield
    except GpunodesError as error:
        if (sentence := explained(error)) == str(error):
            raise
        raise AwsError(sentence) from error
