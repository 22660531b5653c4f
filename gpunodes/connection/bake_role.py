"""The role that lets the instance that bakes speak to Session Manager, and its instance profile (IAM).

Both carry the run's tags from their first moment and may do nothing but keep the tunnel open.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import AwsError
from gpunodes.operation import runs
from gpunodes.operation.runs import Run

# What the SSM agent calls to be seen and to carry a session; nothing of it reads parameters or runs commands.
SESSION_MANAGER_ACTIONS = (
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)
_TRUST_EC2 = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
_ALLOW = {"Effect": "Allow", "Action": list(SESSION_MANAGER_ACTIONS), "Resource": "*"}
_UNKNOWN_PROFILE_CODES = frozenset({"InvalidParameterValue", "NoSuchEntity"})
_USABLE_SECONDS = 120.0
_LONGEST_PAUSE_SECONDS = 15.0


@dataclass(frozen=True)
class BakeRole:
    """Role, inline policy and instance profile of one bake, all of one name.

    Attributes:
        run: names and tags them.
    """

    run: Run

    @property
    def name(self) -> str:
        """Of the role and of the profile."""
        return f"gpunodes-{self.run.run_id}-bake"

    def create(self, clients: Clients) -> None:
        """Make them (CreateRole, PutRolePolicy, CreateInstanceProfile, AddRoleToInstanceProfile).

        Raises:
            AwsError: IAM refused.
        """
        iam = clients.client("iam")
        wanted = [{"Key": key, "Value": value} for key, value in runs.temporary_tags(self.run).items()]
        with aws_errors("making the role of the instance that bakes"):
            iam.create_role(RoleName=self.name, AssumeRolePolicyDocument=_document(_TRUST_EC2), Tags=wanted)
            iam.put_role_policy(RoleName=self.name, PolicyName="session-manager", PolicyDocument=_document(_ALLOW))
            iam.create_instance_profile(InstanceProfileName=self.name, Tags=wanted)
            iam.get_waiter("instance_profile_exists").wait(InstanceProfileName=self.name)  # IAM may say so late
            iam.add_role_to_instance_profile(InstanceProfileName=self.name, RoleName=self.name)


def wait_until_usable(
    clients: Clients, profile: str, launch: dict[str, Any], wait: Callable[[float], None] = time.sleep
) -> None:
    """Wait until EC2 knows an instance profile: IAM's answers reach it seconds later.

    Asked by a dry run of RunInstances, which launches nothing.

    Args:
        clients: of the target.
        profile: its name.
        launch: other arguments of RunInstances: image, type, and what the account's policies want to see.
        wait: seconds, between two tries.

    Raises:
        AwsError: EC2 does not know it after two minutes.
    """
    waited_seconds, pause_seconds = 0.0, 1.0
    while not _is_known(clients, profile, launch):
        if waited_seconds >= _USABLE_SECONDS:
            raise AwsError(f"EC2 does not know the instance profile {profile} after two minutes; bake again.")
        wait(pause_seconds)
        waited_seconds += pause_seconds
        pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)


def _is_known(clients: Clients, profile: str, launch: dict[str, Any]) -> bool:
    """Whether EC2 gets past the profile; another reason to refuse is met, and said, by Packer's own launch."""
    try:
        with aws_errors(f"looking whether EC2 knows the instance profile {profile}"):
            clients.ec2.run_instances(
                DryRun=True, MinCount=1, MaxCount=1, IamInstanceProfile={"Name": profile}, **launch
            )
    except AwsError as error:
        if not isinstance(error.__cause__, ClientError):
            raise
        refusal = error.__cause__.response["Error"]
        return not (refusal["Code"] in _UNKNOWN_PROFILE_CODES and "profile" in refusal.get("Message", "").lower())
    return True


def _document(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
