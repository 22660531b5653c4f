"""What a person reads when the real Terraform and provider fail: moto answers, or a proxy before it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gpunodes.errors import ToolError
from gpunodes.proof import capacity
from gpunodes.proof.launch import STACK_FOLDER
from gpunodes.proof.terraform import Stack
from tests.offline import api_proxy
from tests.offline.api_proxy import ApiProxy, Refusal
from tests.terraform import moto_process
from tests.terraform.moto_process import AMI_ID, REGION

NO_CAPACITY = (
    "We currently do not have sufficient g5.12xlarge capacity in the Availability Zone you requested (eu-central-1a)."
)
NOT_ALLOWED = (
    "You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/dev is not authorized to"
    " perform: ec2:DescribeInstanceTypes because no identity-based policy allows it. Encoded authorization failure"
    " message: u2Fs-dGV_kX1"
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApiProxy, str]]:
    with moto_process.serve(tmp_path_factory.mktemp("moto")) as url, api_proxy.before(url) as proxied:
        yield proxied


@pytest.fixture
def proxy(api: tuple[ApiProxy, str]) -> Iterator[ApiProxy]:
    proxy, _ = api
    yield proxy
    proxy.is_expired = False
    proxy.answers.clear()


@pytest.fixture
def stack(api: tuple[ApiProxy, str], terraform_environment: Mapping[str, str], tmp_path: Path) -> Iterator[Stack]:
    environment = {
        **terraform_environment,
        "AWS_ENDPOINT_URL": api[1],
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    made = Stack(STACK_FOLDER, tmp_path, environment, lambda _step: None)
    yield made
    made.destroy()


def failure(stack: Stack, **variables: Any) -> str:
    """The sentence, without where the log lies."""
    wanted = {"region": REGION, "run_id": "run-1", "ami_id": AMI_ID, "instance_type": "g5.12xlarge", **variables}
    with pytest.raises(ToolError) as caught:
        stack.apply(wanted)
    reason, _, log = str(caught.value).partition("; all that it printed is in ")
    assert Path(log.rstrip(".")).read_text()
    return reason


@pytest.mark.usefixtures("proxy")
def test_an_image_that_is_gone(stack: Stack) -> None:
    assert failure(stack, ami_id="ami-0000000000000dead") == (
        "`terraform apply` failed: Your query returned no results. Please change your search criteria and try again;"
        " the image is gone; name another with --ami, or bake one"
    )


@pytest.mark.usefixtures("proxy")
def test_a_type_that_does_not_exist(stack: Stack) -> None:
    assert failure(stack, instance_type="g99.xlarge") == (
        "`terraform apply` failed: reading EC2 Instance Type: AWS refused DescribeInstanceTypes (InvalidInstanceType:"
        " The following supplied instance types do not exist: [g99.xlarge]); name a --type that this region has"
    )


@pytest.mark.usefixtures("proxy")
def test_a_type_that_does_not_fit(stack: Stack) -> None:
    assert failure(stack, instance_type="t3.small") == (
        "`terraform apply` failed: t3.small has no NVIDIA GPU; name a type that has, such as g5.12xlarge"
    )


def test_a_call_that_is_not_allowed(proxy: ApiProxy, stack: Stack) -> None:
    proxy.answers["DescribeInstanceTypes"] = lambda _body: Refusal("UnauthorizedOperation", NOT_ALLOWED, 403)

    reason = failure(stack)

    assert "AWS refused DescribeInstanceTypes (UnauthorizedOperation: You are not authorized" in reason
    assert reason.endswith("); allow ec2:DescribeInstanceTypes to your role")
    assert "u2Fs" not in reason


def test_a_login_that_has_ended(proxy: ApiProxy, stack: Stack) -> None:
    proxy.is_expired = True

    reason = failure(stack)

    assert "ExpiredToken: The token is expired" in reason
    assert reason.endswith("; log in again and repeat")


def test_no_capacity_is_told_soon_and_what_was_made_is_destroyed(proxy: ApiProxy, stack: Stack) -> None:
    proxy.answers["RunInstances"] = lambda _body: Refusal("InsufficientInstanceCapacity", NO_CAPACITY, 500)

    reason = failure(stack)

    assert capacity.is_lacking(reason)
    assert capacity.failed_zone(reason) == "eu-central-1a"
    assert proxy.calls.count("RunInstances") == 8
    stack.destroy()
    assert json.loads(stack.state.read_text())["resources"] == []
    stack.forget()
