"""The policy of a refresh allows each call that gpunodes, its Terraform and Packer make, and none that is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import botocore.session

ROOT = Path(__file__).parents[2]
POLICY = (ROOT / "terraform/modules/refresh-permissions/main.tf").read_text(encoding="utf-8")
ALLOWED = set(re.findall(r'"([a-z0-9-]+:[A-Z][A-Za-z0-9]+)"', POLICY)) - {"sts:AssumeRole"}

# boto3's name of a service and IAM's.
SERVICES = {
    "autoscaling": "autoscaling",
    "cloudwatch": "cloudwatch",
    "ec2": "ec2",
    "ec2-instance-connect": "ec2-instance-connect",
    "iam": "iam",
    "imagebuilder": "imagebuilder",
    "pricing": "pricing",
    "service-quotas": "servicequotas",
    "ssm": "ssm",
    "sts": "sts",
}
# Recorded from provider 5.100.0 as it applied and destroyed stacks/test-instance.
OF_TERRAFORM = {
    "ec2:AuthorizeSecurityGroupEgress",
    "ec2:CreateSecurityGroup",
    "ec2:CreateTags",
    "ec2:DeleteSecurityGroup",
    "ec2:DescribeImages",
    "ec2:DescribeInstanceAttribute",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeInstances",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeTags",
    "ec2:DescribeVolumes",
    "ec2:DescribeVpcs",
    "ec2:GetInstanceUefiData",
    "ec2:ModifyInstanceAttribute",
    "ec2:RevokeSecurityGroupEgress",
    "ec2:RunInstances",
    "ec2:TerminateInstances",
    "iam:AddRoleToInstanceProfile",
    "iam:CreateInstanceProfile",
    "iam:CreateRole",
    "iam:DeleteInstanceProfile",
    "iam:DeleteRole",
    "iam:DeleteRolePolicy",
    "iam:GetInstanceProfile",
    "iam:GetRole",
    "iam:GetRolePolicy",
    "iam:ListAttachedRolePolicies",
    "iam:ListInstanceProfilesForRole",
    "iam:ListRolePolicies",
    "iam:PutRolePolicy",
    "iam:RemoveRoleFromInstanceProfile",
    "sts:GetCallerIdentity",
}
# Actions that are no call of that name.
NO_CALLS = {"iam:PassRole", "kms:ReEncryptFrom", "kms:ReEncryptTo", "ssmmessages:OpenDataChannel"}
CONDITIONS = {"ec2:CreateAction", "iam:PassedToService"}
# A name that two services have, of which gpunodes means the other.
OF_OTHERS = {"autoscaling:DeleteTags"}


def operations(service: str) -> dict[str, str]:
    """Names of a service's calls as Python spells them, with their own."""
    model = botocore.session.get_session().get_service_model(service)
    return {botocore.xform_name(name): name for name in model.operation_names}


def calls_of_gpunodes() -> Iterator[str]:
    # A refresh rolls no groups: who does that is in docs/roll.md.
    paths = [path for path in (ROOT / "gpunodes").rglob("*.py") if path.parent.name != "roll"]
    source = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    # `.run_instances(...)`, `get_paginator("list_metrics")`, `lambda ec2: ec2.enable_image(...)`
    words = set(re.findall(r"(?:\.|\")([a-z]+(?:_[a-z0-9]+)+)(?=\(|\")", source))
    for service, prefix in SERVICES.items():
        yield from (f"{prefix}:{name}" for word, name in operations(service).items() if word in words)


def test_every_call_of_gpunodes_is_allowed() -> None:
    calls = set(calls_of_gpunodes())

    assert {"ec2:RunInstances", "ssm:PutParameter", "iam:CreateRole", "cloudwatch:GetMetricData"} <= calls
    assert calls - ALLOWED - OF_OTHERS == set()


def test_every_call_of_terraform_is_allowed() -> None:
    assert set() == OF_TERRAFORM - ALLOWED


def test_every_action_that_the_pages_name_is_allowed() -> None:
    text = "".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("connection.md", "test-instance.md"))
    blocks = re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    named = {
        action
        for block in blocks
        for action in re.findall(r'"([a-z0-9-]+:[A-Z][A-Za-z0-9]+)"', json.dumps(json.loads(block)))
    }

    assert len(named) > 50
    assert named - ALLOWED == set()


def test_every_action_is_a_call_that_exists() -> None:
    known = {
        f"{prefix}:{name}"
        for service, prefix in [*SERVICES.items(), ("kms", "kms")]
        for name in operations(service).values()
    }

    assert ALLOWED - NO_CALLS - CONDITIONS - known == set()
