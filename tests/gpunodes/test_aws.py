from __future__ import annotations

from typing import Any

import botocore.exceptions
import pytest

from gpunodes.aws import Clients, aws_errors, check_credentials
from gpunodes.errors import AwsError, GpunodesError, PreflightError
from tests.gpunodes import fakes


def client_error(code: str, message: str = "why") -> botocore.exceptions.ClientError:
    return botocore.exceptions.ClientError({"Error": {"Code": code, "Message": message}}, "DescribeImages")


@pytest.mark.parametrize(
    ("error", "kind", "exit_code", "sentence"),
    [
        (
            botocore.exceptions.NoCredentialsError(),
            PreflightError,
            2,
            "No AWS credentials were found; set AWS_PROFILE or log in, or run with --offline.",
        ),
        (
            botocore.exceptions.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
            PreflightError,
            2,
            (
                "AWS credentials cannot be used (Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY);"
                " log in again, or run with --offline."
            ),
        ),
        (
            botocore.exceptions.UnauthorizedSSOTokenError(),
            PreflightError,
            2,
            "AWS credentials cannot be used (",
        ),
        (
            client_error("ExpiredToken"),
            PreflightError,
            2,
            "AWS does not accept the credentials (ExpiredToken); log in again and repeat.",
        ),
        (
            client_error("AuthFailure"),
            PreflightError,
            2,
            "AWS does not accept the credentials (AuthFailure); log in again and repeat.",
        ),
        (
            client_error("UnauthorizedOperation", "you may not"),
            AwsError,
            3,
            "AWS refused while testing (UnauthorizedOperation: you may not); see to that and repeat.",
        ),
        (
            client_error(
                "UnauthorizedOperation", "You may not do this. Encoded authorization failure message: " + "x" * 9
            ),
            AwsError,
            3,
            "AWS refused while testing (UnauthorizedOperation: You may not do this); see to that and repeat.",
        ),
        (
            botocore.exceptions.LoginRefreshRequired(),
            PreflightError,
            2,
            "AWS credentials cannot be used (",
        ),
        (
            botocore.exceptions.EndpointConnectionError(endpoint_url="http://127.0.0.1:1"),
            AwsError,
            3,
            (
                "The API did not answer while testing (Could not connect to the endpoint URL:"
                ' "http://127.0.0.1:1"); check the network (offline: `invoke offline.status`) and repeat.'
            ),
        ),
    ],
)
def test_error_of_boto3_becomes_one_sentence(
    error: Exception, kind: type[GpunodesError], exit_code: int, sentence: str
) -> None:
    with pytest.raises(GpunodesError) as caught, aws_errors("testing"):
        raise error

    assert type(caught.value) is kind
    assert caught.value.exit_code == exit_code
    assert str(caught.value).startswith(sentence)
    assert caught.value.__cause__ is error


def test_cloud_that_does_not_answer_is_not_one_that_lacks_the_call() -> None:
    clients = Clients(fakes.target("http://127.0.0.1:1", tolerates_missing_calls=True))

    with pytest.raises(AwsError, match="The API did not answer while looking around"):
        clients.ask("ec2", "looking around", lambda ec2: ec2.describe_vpcs())


@pytest.mark.parametrize(("code", "answer"), [("InternalFailure", None), ("ExpiredToken", PreflightError)])
def test_call_that_an_emulator_lacks_is_told_from_one_that_it_refuses(code: str, answer: Any) -> None:
    def call(_ec2: Any) -> str:
        raise client_error(code)

    if answer is None:
        assert Clients(fakes.target(tolerates_missing_calls=True)).ask("ec2", "testing", call) is None
    else:
        with pytest.raises(answer):
            Clients(fakes.target(tolerates_missing_calls=True)).ask("ec2", "testing", call)
    with pytest.raises(GpunodesError):
        Clients(fakes.target(tolerates_missing_calls=False)).ask("ec2", "testing", call)


def test_error_without_a_message_is_translated_too() -> None:
    error = botocore.exceptions.ClientError({"Error": {"Code": "Throttling"}}, "DescribeImages")

    with pytest.raises(AwsError, match="Throttling"), aws_errors("testing"):
        raise error


def test_error_of_ours_passes_through() -> None:
    with pytest.raises(ValueError, match="a bug"), aws_errors("testing"):
        raise ValueError("a bug")


@pytest.fixture
def nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.usefixtures("nobody_is_logged_in")
def test_missing_credentials_are_a_preflight_error_that_hints_at_offline() -> None:
    with pytest.raises(PreflightError, match=r"No AWS credentials were found; .* or run with --offline\.$") as caught:
        check_credentials(fakes.target(credentials={}))

    assert caught.value.exit_code == 2


@pytest.mark.usefixtures("nobody_is_logged_in")
def test_profile_that_does_not_exist_is_a_preflight_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    with pytest.raises(PreflightError, match=r"AWS credentials cannot be used \(.*nobody.*\); mend them"):
        check_credentials(fakes.target(credentials={}))


@pytest.mark.usefixtures("nobody_is_logged_in")
def test_credentials_of_the_target_or_of_the_environment_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    check_credentials(fakes.target())

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    check_credentials(fakes.target(credentials={}))
