"""Who else may launch an image: accounts, organisations and organisational units, given to and read back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from gpunodes.aws import Clients, aws_errors
from gpunodes.channel.reach import Share
from gpunodes.errors import AwsError, PreflightError, UsageError

_UNKNOWN = frozenset({"InvalidAMIAttributeItemValue", "InvalidUserID.Malformed", "InvalidParameterValue"})
_AWS_KEY = "alias/aws/ebs"
_READ_BACK_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 8.0


def share(
    clients: Clients,
    ami_id: str,
    share_with: Sequence[Share],
    channel: str,
    wait: Callable[[float], None] = time.sleep,
) -> list[Share]:
    """Let others launch an image, and read that back; returns who could not before.

    Whoever has it beside them keeps it: somebody gave it by hand.

    Args:
        clients: of the image's region (DescribeImageAttribute, ModifyImageAttribute).
        ami_id: the image.
        share_with: of the policy.
        channel: whose policy it is, for the message.
        wait: sleeps for so many seconds, while EC2 answers from before the change.

    Raises:
        UsageError: EC2 knows no such account, organisation or unit.
        AwsError: EC2 refused, or did not take it.
    """
    missing = _missing(clients, ami_id, share_with)
    if not missing:
        return []
    with aws_errors(f"sharing {ami_id} in {clients.target.region}"):
        try:
            added = [one.permission for one in missing]
            clients.ec2.modify_image_attribute(ImageId=ami_id, LaunchPermission={"Add": added})
        except ClientError as error:
            if error.response["Error"]["Code"] not in _UNKNOWN:
                raise
            said = error.response["Error"].get("Message", "").rstrip(".")
            raise UsageError(
                f"refresh.toml: [{channel}] `share_with` names somebody whom EC2 does not know ({said}); correct it,"
                " nothing was promoted."
            ) from error
    waited_seconds, pause_seconds = 0.0, _FIRST_PAUSE_SECONDS
    while left := _missing(clients, ami_id, share_with):
        if waited_seconds >= _READ_BACK_SECONDS:
            names = ", ".join(one.value for one in left)
            raise AwsError(f"{ami_id} in {clients.target.region} is not shared with {names} although EC2 was told.")
        wait(pause_seconds)
        waited_seconds += pause_seconds
        pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
    return missing


def require_shareable(clients: Clients, ami_id: str, snapshots: Sequence[Mapping[str, Any]]) -> None:
    """Whether others could decrypt an image's snapshots (KMS DescribeKey).

    Args:
        clients: of its region.
        ami_id: the image.
        snapshots: of it, as in DescribeSnapshots.

    Raises:
        PreflightError: they are encrypted with the key that AWS made for EBS, which belongs to one account.
        AwsError: KMS refused.
    """
    keys = {str(snapshot["KmsKeyId"]) for snapshot in snapshots if snapshot.get("KmsKeyId")}
    if keys and _key_of_aws(clients) in keys:
        raise PreflightError(
            f"{ami_id} in {clients.target.region} is encrypted with the default key {_AWS_KEY}, so it cannot be shared;"
            " make a key of your own the default (`aws ec2 modify-ebs-default-kms-key-id`), and bake again."
        )


def _key_of_aws(clients: Clients) -> str:
    """ARN of the key that AWS made for EBS in this region; empty where nobody needed it yet."""
    answer = clients.ask("kms", f"asking for the default key of {clients.target.region}", _described_key)
    return str(answer["KeyMetadata"]["Arn"]) if answer else ""


def _described_key(kms: Any) -> dict[str, Any]:
    try:
        return dict(kms.describe_key(KeyId=_AWS_KEY))
    except ClientError as error:
        if error.response["Error"]["Code"] == "NotFoundException":
            return {}
        raise


def _missing(clients: Clients, ami_id: str, share_with: Sequence[Share]) -> list[Share]:
    with aws_errors(f"asking who may launch {ami_id} in {clients.target.region}"):
        answer = clients.ec2.describe_image_attribute(ImageId=ami_id, Attribute="launchPermission")
    has = answer["LaunchPermissions"]
    return [one for one in share_with if one.permission not in has]
