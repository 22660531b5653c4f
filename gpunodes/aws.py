"""boto3 clients for a target, and the one translation of their errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import boto3
import botocore.exceptions
import botocore.parsers
from botocore.config import Config

from gpunodes.errors import AwsError, PreflightError
from gpunodes.target import Target

_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=5, read_timeout=30)
_ASK_ONCE = Config(retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=5, read_timeout=30)
_CREDENTIAL_CODES = frozenset({"AuthFailure", "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId",
    "RequestExpired", "SignatureDoesNotMatch", "UnrecognizedClientException"})  # fmt: skip
_UNUSABLE_CREDENTIALS = (botocore.exceptions.PartialCredentialsError, botocore.exceptions.CredentialRetrievalError,
    botocore.exceptions.LoginError, botocore.exceptions.SSOError, botocore.exceptions.TokenRetrievalError)  # fmt: skip

_THROTTLING_CODES = frozenset({"Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled",
    "RequestLimitExceeded", "TooManyRequestsException", "SlowDown"})  # fmt: skip

# What moto and other emulators say to a call, or to a part of one, that they do not have.
_MISSING_CODES = frozenset({"404", "500", "501", "InternalFailure", "InvalidAction", "NoSuchResourceException",
    "NotImplemented", "NotYetImplemented", "UnknownOperation", "UnknownOperationException",
    "UnsupportedOperation"})  # fmt: skip
_MISSING_STATUSES = frozenset({404, 500, 501})

_ENCODED = "Encoded authorization failure message:"  # EC2 adds a thousand characters that only STS can read

T = TypeVar("T")

_NO_CREDENTIALS = "No AWS credentials were found; set AWS_PROFILE or log in, or run with --offline."


def check_credentials(target: Target) -> None:
    """Whether boto3 finds credentials; no call is made.

    Raises:
        PreflightError: there are none, or the profile that is named does not exist.
    """
    try:
        credentials = boto3.Session(region_name=target.region, **target.credentials).get_credentials()  # type: ignore[arg-type]
    except botocore.exceptions.BotoCoreError as error:
        raise PreflightError(f"AWS credentials cannot be used ({error}); mend them, or run with --offline.") from error
    if credentials is None:
        raise PreflightError(_NO_CREDENTIALS)


class Clients:
    """One lazily made client per service."""

    def __init__(self, target: Target, session: boto3.Session | None = None) -> None:
        self.target = target
        self._session = session or boto3.Session(region_name=target.region, **target.credentials)  # type: ignore[arg-type]
        self._elsewhere: dict[str, Clients] = {}

    def in_region(self, region: str) -> Clients:
        """Clients of the same account in another region; the same ones each time."""
        if region == self.target.region:
            return self
        if region not in self._elsewhere:
            self._elsewhere[region] = self._there(replace(self.target, region=region))
        return self._elsewhere[region]

    def _there(self, target: Target) -> Clients:
        return Clients(target, self._session)  # a session of its own would read all of boto3's data again

    def client(self, service: str) -> Any:
        """A client of any service."""
        return self._client(service, _CONFIG)

    def ask(self, service: str, doing: str, call: Callable[[Any], T], region: str | None = None) -> T | None:
        """What a call answers that an emulator may not have; None where it has not.

        Args:
            service: as boto3 names it.
            doing: what is attempted, as for `aws_errors`.
            call: gets the service's client.
            region: instead of the target's.

        Raises:
            PreflightError: the credentials are no longer valid.
            AwsError: it failed, and the target is one that must have it.
        """
        is_tolerant = self.target.tolerates_missing_calls
        try:
            with aws_errors(doing):  # where a call may be missing, retries would only delay the same answer
                return call(self._client(service, _ASK_ONCE if is_tolerant else _CONFIG, region))
        except AwsError as error:
            if is_tolerant and is_missing_call(error.__cause__):
                return None
            raise

    def _client(self, service: str, config: Config, region: str | None = None) -> Any:
        place = {"region_name": region or self.target.region, "endpoint_url": self.target.endpoint_url}
        return self._session.client(service, config=config, **place)  # type: ignore[call-overload]

    @cached_property
    def ec2(self) -> Any:
        """EC2."""
        return self.client("ec2")

    @cached_property
    def ssm(self) -> Any:
        """Systems Manager, for public parameters."""
        return self.client("ssm")

    @cached_property
    def cloudwatch(self) -> Any:
        """CloudWatch."""
        return self.client("cloudwatch")


def is_missing_call(error: BaseException | None) -> bool:
    """Whether an API refused because it does not have the call, rather than because of what was asked."""
    if isinstance(error, botocore.exceptions.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return error.response["Error"].get("Code") in _MISSING_CODES or status in _MISSING_STATUSES
    # An error page in HTML where EC2's XML was expected.
    return isinstance(error, botocore.parsers.ResponseParserError)


def is_throttled(error: BaseException | None) -> bool:
    """Whether AWS refused because it was asked too often, which boto3's own few tries did not outlast."""
    return isinstance(error, botocore.exceptions.ClientError) and error.response["Error"]["Code"] in _THROTTLING_CODES


@contextmanager
def aws_errors(doing: str) -> Iterator[None]:
    """Turn boto3's errors into one sentence.

    Args:
        doing: what was attempted, e.g. "looking up the image".

    Raises:
        PreflightError: the credentials are missing or no longer valid.
        AwsError: anything else.
    """
    try:
        yield
    except botocore.exceptions.NoCredentialsError as error:
        raise PreflightError(_NO_CREDENTIALS) from error
    except _UNUSABLE_CREDENTIALS as error:
        raise PreflightError(
            f"AWS credentials cannot be used ({error}); log in again, or run with --offline."
        ) from error
    except botocore.exceptions.ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        if code in _CREDENTIAL_CODES:
            raise PreflightError(f"AWS does not accept the credentials ({code}); log in again and repeat.") from error
        message = message.partition(_ENCODED)[0].rstrip(". ")
        raise AwsError(f"AWS refused while {doing} ({code}: {message}); see to that and repeat.") from error
    except (botocore.exceptions.BotoCoreError, botocore.parsers.ResponseParserError) as error:
        hint = "check the network (offline: `invoke offline.status`) and repeat"
        raise AwsError(f"The API did not answer while {doing} ({error}); {hint}.") from error
