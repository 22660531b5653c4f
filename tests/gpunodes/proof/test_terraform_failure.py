"""Errors as Terraform 1.11 and provider 5.100 put them; the AWS parts as the AWS SDK for Go prints what AWS answers."""

from __future__ import annotations

import pytest

from gpunodes.proof.capacity import failed_zone, is_lacking
from gpunodes.proof.terraform_failure import sentence
from gpunodes.proof.terraform_output import Diagnostic

LOG = "/runs/1/terraform/terraform.log"
REQUEST = "RequestID: 8d3c5f8e-1111-2222-3333-444444444444"


def refused(call: str, answer: str, doing: str = "creating EC2 Instance", status: int = 400, attempts: str = "") -> str:
    return f"{doing}: operation error {call}, {attempts}https response error StatusCode: {status}, {REQUEST}, {answer}"


CASES = {
    "no capacity": (
        Diagnostic(
            refused(
                "EC2: RunInstances",
                "api error InsufficientInstanceCapacity: We currently do not have sufficient g5.12xlarge capacity"
                " in the Availability Zone you requested (eu-central-1a). Our system will be working on"
                " provisioning additional capacity.",
                status=500,
                attempts="exceeded maximum number of attempts, 6, ",
            )
        ),
        (
            "creating EC2 Instance: AWS refused RunInstances (InsufficientInstanceCapacity: We currently do not"
            " have sufficient g5.12xlarge capacity in the Availability Zone you requested (eu-central-1a). Our"
            " system will be working on provisioning additional capacity)"
        ),
    ),
    "quota": (
        Diagnostic(
            refused(
                "EC2: RunInstances",
                "api error VcpuLimitExceeded: You have requested more vCPU capacity than your current vCPU limit"
                " of 32 allows for the instance bucket that the specified instance type belongs to. Please visit"
                " http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit.",
            )
        ),
        (
            "creating EC2 Instance: AWS refused RunInstances (VcpuLimitExceeded: You have requested more vCPU"
            " capacity than your current vCPU limit of 32 allows for the instance bucket that the specified"
            " instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request an"
            " adjustment to this limit); ask AWS for a higher quota (Service Quotas), or name a smaller --type"
        ),
    ),
    "image that vanished before the plan": (
        Diagnostic(
            "Your query returned no results. Please change your search criteria and try again.",
            "",
            "module.instance.data.aws_ami.image",
        ),
        (
            "Your query returned no results. Please change your search criteria and try again; the image is gone;"
            " name another with --ami, or bake one"
        ),
    ),
    "image that vanished before the launch": (
        Diagnostic(
            refused(
                "EC2: RunInstances",
                "api error InvalidAMIID.NotFound: The image id '[ami-0000000000000dead]' does not exist",
            )
        ),
        (
            "creating EC2 Instance: AWS refused RunInstances (InvalidAMIID.NotFound: The image id"
            " '[ami-0000000000000dead]' does not exist); the image is gone; name another with --ami, or bake one"
        ),
    ),
    "call that is denied by EC2": (
        Diagnostic(
            refused(
                "EC2: RunInstances",
                "api error UnauthorizedOperation: You are not authorized to perform this operation. User:"
                " arn:aws:iam::123456789012:user/dev is not authorized to perform: iam:PassRole on resource:"
                " arn:aws:iam::123456789012:role/gpunodes-1 because no identity-based policy allows the"
                " iam:PassRole action. Encoded authorization failure message: u2Fs_dGV-kX1",
                status=403,
            )
        ),
        (
            "creating EC2 Instance: AWS refused RunInstances (UnauthorizedOperation: You are not authorized to"
            " perform this operation. User: arn:aws:iam::123456789012:user/dev is not authorized to perform:"
            " iam:PassRole on resource: arn:aws:iam::123456789012:role/gpunodes-1 because no identity-based"
            " policy allows the iam:PassRole action); allow iam:PassRole to your role"
        ),
    ),
    "call that is denied without a word on which": (
        Diagnostic(
            refused(
                "EC2: DescribeImages",
                "api error UnauthorizedOperation: You are not authorized to perform this operation.",
                "reading EC2 AMIs",
                403,
            )
        ),
        (
            "reading EC2 AMIs: AWS refused DescribeImages (UnauthorizedOperation: You are not authorized to"
            " perform this operation); allow ec2:DescribeImages to your role"
        ),
    ),
    "call that is denied by IAM": (
        Diagnostic(
            refused(
                "IAM: CreateRole",
                "api error AccessDenied: User: arn:aws:iam::123456789012:user/dev is not authorized to perform:"
                " iam:CreateRole on resource: arn:aws:iam::123456789012:role/gpunodes-1",
                "creating IAM Role (gpunodes-1)",
                403,
            )
        ),
        (
            "creating IAM Role (gpunodes-1): AWS refused CreateRole (AccessDenied: User:"
            " arn:aws:iam::123456789012:user/dev is not authorized to perform: iam:CreateRole on resource:"
            " arn:aws:iam::123456789012:role/gpunodes-1); allow iam:CreateRole to your role"
        ),
    ),
    "login that ended": (
        Diagnostic(
            refused("EC2: RunInstances", "api error RequestExpired: Request has expired.", "creating EC2 Instance", 400)
        ),
        (
            "creating EC2 Instance: AWS refused RunInstances (RequestExpired: Request has expired); log in again"
            " and repeat"
        ),
    ),
    "login that ended, in a detail of several lines": (
        Diagnostic(
            "Retrieving AWS account details: validating provider credentials: retrieving caller identity from STS",
            "operation error STS: GetCallerIdentity, https response error StatusCode: 403,\n"
            f"{REQUEST}, api error ExpiredToken: The security token included in the request is expired",
        ),
        (
            "Retrieving AWS account details: validating provider credentials: retrieving caller identity from"
            " STS: AWS refused GetCallerIdentity (ExpiredToken: The security token included in the request is"
            " expired); log in again and repeat"
        ),
    ),
    "postcondition": (
        Diagnostic(
            "Resource postcondition failed", "t3.small has no NVIDIA GPU; name a type that has, such as g5.12xlarge."
        ),
        "t3.small has no NVIDIA GPU; name a type that has, such as g5.12xlarge",
    ),
    "variable": (
        Diagnostic(
            "Invalid value for variable",
            "The run_id must be 1 to 28 lower-case letters, digits or hyphens.\n\nThis was checked by the"
            " validation rule at variables.tf:12,3-13.",
        ),
        "The run_id must be 1 to 28 lower-case letters, digits or hyphens",
    ),
    "state that is locked": (
        Diagnostic(
            "Error acquiring the state lock",
            "Error message: resource temporarily unavailable\nLock Info:\n  ID:        53b7efb8-a7a7-a0c3\n "
            " Path:      /runs/1/terraform.tfstate\n  Operation: OperationTypeApply\n  Who:       dev@desk\n "
            " Version:   1.11.4\n  Created:   2026-11-22 10:55:32 +0000 UTC\n  Info:      \n\n\nTerraform"
            " acquires a state lock to protect",
        ),
        "the run's state is locked by dev@desk; another Terraform still works on it; wait until it has ended",
    ),
    "provider that cannot be downloaded": (
        Diagnostic(
            "Failed to query available provider packages",
            "Could not retrieve the list of available versions for provider hashicorp/aws: could not connect to"
            " registry.terraform.io: context deadline exceeded",
        ),
        (
            "Failed to query available provider packages: Could not retrieve the list of available versions for"
            " provider hashicorp/aws: could not connect to registry.terraform.io: context deadline exceeded;"
            " check the network, or put the provider into a filesystem mirror"
        ),
    ),
    "type that the zone does not have": (
        Diagnostic(
            refused(
                "EC2: RunInstances",
                "api error Unsupported: Your requested instance type (p4d.24xlarge) is not supported in your"
                " requested Availability Zone (us-east-1e). Please retry your request by not specifying an"
                " Availability Zone or choosing us-east-1a, us-east-1b.",
            )
        ),
        (
            "creating EC2 Instance: AWS refused RunInstances (Unsupported: Your requested instance type"
            " (p4d.24xlarge) is not supported in your requested Availability Zone (us-east-1e). Please retry your"
            " request by not specifying an Availability Zone or choosing us-east-1a, us-east-1b)"
        ),
    ),
    "type that does not exist": (
        Diagnostic(
            refused(
                "EC2: DescribeInstanceTypes",
                "api error InvalidInstanceType: The following supplied instance types do not exist: [g99.xlarge]",
                "reading EC2 Instance Type",
            )
        ),
        (
            "reading EC2 Instance Type: AWS refused DescribeInstanceTypes (InvalidInstanceType: The following"
            " supplied instance types do not exist: [g99.xlarge]); name a --type that this region has"
        ),
    ),
    "nobody who answers": (
        Diagnostic(
            "creating EC2 Instance: operation error EC2: RunInstances, exceeded maximum number of attempts, 6, https"
            ' response error StatusCode: 0, RequestID: , request send failed, Post "https://ec2.eu-central-1'
            '.amazonaws.com/": dial tcp: lookup ec2.eu-central-1.amazonaws.com: no such host'
        ),
        (
            "creating EC2 Instance: AWS did not answer RunInstances (request send failed, Post"
            ' "https://ec2.eu-central-1.amazonaws.com/": dial tcp: lookup ec2.eu-central-1.amazonaws.com: no'
            " such host); check the network (offline: `invoke offline.status`) and repeat"
        ),
    ),
    "too many calls": (
        Diagnostic(refused("EC2: RunInstances", "api error RequestLimitExceeded: Request limit exceeded.", status=503)),
        (
            "creating EC2 Instance: AWS refused RunInstances (RequestLimitExceeded: Request limit exceeded); repeat"
            " in a minute"
        ),
    ),
    "error that AWS has a type for": (
        Diagnostic(
            refused(
                "IAM: CreateRole",
                "EntityAlreadyExists: Role with name gpunodes-1 already exists.",
                "creating IAM Role (gpunodes-1)",
                409,
            )
        ),
        (
            "creating IAM Role (gpunodes-1): AWS refused CreateRole (EntityAlreadyExists: Role with name"
            " gpunodes-1 already exists)"
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_sentence_has_the_reason_and_what_to_do(case: str) -> None:
    error, expected = CASES[case]

    said = sentence("apply", 1, [error, Diagnostic("a second one")], LOG)

    assert said == f"`terraform apply` failed: {expected}; all that it printed is in {LOG}."
    assert "\n" not in said
    assert "RequestID" not in said


@pytest.mark.parametrize("case", CASES)
def test_matrix_goes_on_elsewhere_where_there_is_no_capacity_alone(case: str) -> None:
    said = sentence("apply", 1, [CASES[case][0]], LOG)

    assert is_lacking(said) is (case in {"no capacity", "type that the zone does not have"})


def test_zone_without_capacity_is_found_in_the_sentence() -> None:
    zones = [failed_zone(sentence("apply", 1, [CASES[case][0]], LOG)) for case in CASES]

    assert set(zones) == {"", "eu-central-1a", "us-east-1e"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (-9, f"`terraform destroy` was ended by SIGKILL before it was done; all that it printed is in {LOG}."),
        (-99, f"`terraform destroy` was ended by signal 99 before it was done; all that it printed is in {LOG}."),
        (5, f"`terraform destroy` failed: exit status 5; all that it printed is in {LOG}."),
    ],
)
def test_terraform_that_says_nothing_is_told_by_its_status(status: int, expected: str) -> None:
    assert sentence("destroy", status, [], LOG) == expected
