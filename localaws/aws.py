"""The clients with which localaws asks its own API what should exist, and what it answers of an instance."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import boto3
import botocore.exceptions
from botocore.config import Config

from localaws import metadata
from localaws.layout import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY

_RENEW_SECONDS = 900

# moto knows which zone offers what; this one has every GPU type, where a zone by chance may have none.
_ZONE = "us-east-1c"


class Account:
    """The account that the emulated API serves."""

    def __init__(self, endpoint_url: str) -> None:
        def client(service: str) -> Any:
            return boto3.client(
                service,  # type: ignore[call-overload]
                region_name=REGION,
                endpoint_url=endpoint_url,
                aws_access_key_id=ACCESS_KEY_ID,
                aws_secret_access_key=SECRET_ACCESS_KEY,
                # No proxies: the API is on this machine, whatever the caller's environment says.
                config=Config(retries={"total_max_attempts": 2}, read_timeout=30, proxies={}),
            )

        self.ec2 = client("ec2")
        self._iam = client("iam")
        self._sts = client("sts")
        self._credentials: dict[str, tuple[datetime, str]] = {}
        self._role_names: dict[str, str] = {}

    def create_network(self, cidr: str) -> str:
        """Make a VPC with one subnet of this range and return the subnet's id (CreateVpc, CreateSubnet)."""
        vpc_id = self.ec2.create_vpc(CidrBlock=cidr)["Vpc"]["VpcId"]
        subnet = self.ec2.create_subnet(VpcId=vpc_id, CidrBlock=cidr, AvailabilityZone=_ZONE)["Subnet"]
        return str(subnet["SubnetId"])

    def instances(self) -> list[dict[str, Any]]:
        """Every instance in any state (DescribeInstances)."""
        pages = self.ec2.get_paginator("describe_instances").paginate()
        return [
            {**instance, "OwnerId": reservation["OwnerId"]}
            for page in pages
            for reservation in page["Reservations"]
            for instance in reservation["Instances"]
        ]

    def images(self) -> list[dict[str, Any]]:
        """Every image of the account, disabled ones too, which may be enabled again (DescribeImages)."""
        found = self.ec2.describe_images(Owners=["self"], IncludeDisabled=True)
        images: list[dict[str, Any]] = found["Images"]
        return images

    def report_stopped(self, instance_id: str) -> None:
        """Tell the API that an instance halted from inside (StopInstances); one that ended meanwhile stays ended."""
        try:
            self.ec2.stop_instances(InstanceIds=[instance_id])
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "IncorrectInstanceState":
                raise

    def state_of(self, instance_id: str) -> str | None:
        """State of an instance (DescribeInstances); None where there is none of this id."""
        found = self.ec2.describe_instances(Filters=[{"Name": "instance-id", "Values": [instance_id]}])["Reservations"]
        return str(found[0]["Instances"][0]["State"]["Name"]) if found else None

    def metadata_of(
        self,
        instance: dict[str, Any],
        now: Callable[[], datetime] | None = None,
        pushed_keys: Mapping[str, str] | None = None,
    ) -> metadata.Tree:
        """The metadata tree of an instance, with fresh role credentials.

        Args:
            instance: as in DescribeInstances.
            now: UTC.
            pushed_keys: for each user the SSH keys that were pushed for it.
        """
        return metadata.tree(
            instance,
            region=REGION,
            public_key=self._public_key(instance.get("KeyName")),
            user_data=self._user_data(instance["InstanceId"]),
            role=self._role(instance.get("IamInstanceProfile"), (now or _utc_now)()),
            pushed_keys=pushed_keys or {},
        )

    def role_of(self, access_key_id: str) -> str | None:
        """Name of the role whose credentials an instance got from its metadata; None where they are others."""
        return self._role_names.get(access_key_id)

    def inline_policies(self, role_name: str) -> list[dict[str, Any]]:
        """The documents of a role's inline policies (ListRolePolicies, GetRolePolicy); none of one that is gone."""
        try:
            names = self._iam.list_role_policies(RoleName=role_name)["PolicyNames"]
            return [self._iam.get_role_policy(RoleName=role_name, PolicyName=name)["PolicyDocument"] for name in names]
        except self._iam.exceptions.NoSuchEntityException:
            return []

    def _public_key(self, name: str | None) -> str | None:
        if not name:
            return None
        found = self.ec2.describe_key_pairs(IncludePublicKey=True, Filters=[{"Name": "key-name", "Values": [name]}])
        pairs = found["KeyPairs"]  # the pair may have been deleted since the launch
        return pairs[0].get("PublicKey") if pairs else None

    def _user_data(self, instance_id: str) -> str:
        answer = self.ec2.describe_instance_attribute(InstanceId=instance_id, Attribute="userData")
        encoded = answer.get("UserData", {}).get("Value", "")
        return base64.b64decode(encoded).decode(errors="replace")

    def _role(self, profile: dict[str, str] | None, now: datetime) -> metadata.Tree:
        if not profile:
            return {}
        name = profile["Arn"].rsplit("/", 1)[-1]
        try:
            roles = self._iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]
        except self._iam.exceptions.NoSuchEntityException:
            return {}  # deleted since the launch; the rest of the metadata is still true
        info = {"Code": "Success", "InstanceProfileArn": profile["Arn"], "InstanceProfileId": profile.get("Id", "")}
        if not roles:
            return {"info": json.dumps(info)}
        role = roles[0]
        return {
            "info": json.dumps(info),
            "security-credentials": {role["RoleName"]: self._role_credentials(role["Arn"], now)},
        }

    def _role_credentials(self, role_arn: str, now: datetime) -> str:
        expires, document = self._credentials.get(role_arn, (now, ""))
        if (expires - now).total_seconds() < _RENEW_SECONDS:
            issued = self._sts.assume_role(RoleArn=role_arn, RoleSessionName="instance")["Credentials"]
            document = json.dumps(
                {
                    "Code": "Success",
                    "Type": "AWS-HMAC",
                    "LastUpdated": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "AccessKeyId": issued["AccessKeyId"],
                    "SecretAccessKey": issued["SecretAccessKey"],
                    "Token": issued["SessionToken"],
                    "Expiration": issued["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ"),
                }
            )
            self._credentials[role_arn] = (issued["Expiration"], document)
            self._role_names[issued["AccessKeyId"]] = role_arn.rsplit("/", 1)[-1]
        return document


def _utc_now() -> datetime:
    return datetime.now(UTC)
