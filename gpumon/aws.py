"""The only module that knows boto3: makes clients, and says what their errors mean for us.

Importing it takes longer than everything else in gpumon together, which is why it is imported where a client is first
needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ReadTimeoutError,
)
from botocore.parsers import ResponseParserError

from gpumon import __version__
from gpumon.errors import DeliveryError, RefusedError

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 10
ATTEMPTS = 3  # botocore's standard mode waits up to a second, then up to two, between them

# The last: an answer that is none of CloudWatch's, such as a page of a proxy in between.
AWS_ERRORS = (BotoCoreError, ClientError, ResponseParserError)
CREDENTIAL_ERRORS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)

# What CloudWatch answers (always for the whole request) when sending the same again cannot help.
_REFUSED_CODES = frozenset(
    {
        "InvalidParameterCombination",
        "InvalidParameterCombinationException",
        "InvalidParameterValue",
        "InvalidParameterValueException",
        "InvalidQueryParameter",
        "MalformedHttpRequestException",
        "MalformedQueryString",
        "MissingParameter",
        "MissingRequiredParameter",
        "MissingRequiredParameterException",
        "RequestEntityTooLarge",
        "RequestEntityTooLargeException",
        "SerializationException",
        "ValidationError",
        "ValidationException",
    }
)


def make_cloudwatch_client(region: str) -> CloudWatchClient:
    """Return a CloudWatch client whose calls end within seconds, whatever the network does.

    A call that got no answer in time is not repeated by botocore: CloudWatch may have accepted it, and would count the
    repetition a second and third time. It ends in a `DeliveryError`, and the publisher sends it once more later.
    Requests of 10 KiB and more are compressed (botocore's default); less is not worth it.
    """
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        parameter_validation=False,  # a third of a call's time; sinks/cloudwatch.py holds the same rules and more
        user_agent_extra=f"gpumon/{__version__}",
    )
    # A session of its own: boto3's default one would remember for ever that there were no credentials at boot.
    client = boto3.session.Session().client("cloudwatch", region_name=region, config=config)
    client.meta.events.register_first("needs-retry.cloudwatch", _no_retry_after_read_timeout)  # type: ignore[arg-type]  # the stubs know no answers
    return client


def _no_retry_after_read_timeout(*, caught_exception: Exception | None, **_: Any) -> bool | None:
    """Answer botocore's question whether to retry before its own handler does: False: no; None: ask on."""
    return False if isinstance(caught_exception, ReadTimeoutError) else None


def credentials_source() -> str | None:
    """Return where boto3 finds credentials (``iam-role``, ``env``, ...), or None if it finds none.

    Raises:
        DeliveryError: What the host says about credentials is wrong (half of a key, no such profile, for two).
    """
    try:
        credentials = boto3.session.Session().get_credentials()
    except BotoCoreError as error:
        raise DeliveryError(f"Correct the AWS configuration of this host: {error}.") from error
    return None if credentials is None else str(credentials.method)


def delivery_error(error: Exception) -> DeliveryError:
    """Say what an AWS error means: `RefusedError` if sending the same again is useless, else `DeliveryError`."""
    if isinstance(error, ParamValidationError):
        return RefusedError(f"Report this as an error of gpumon: botocore refuses the request ({error}).")
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code in _REFUSED_CODES or status == 413:
            return RefusedError(f"Report this as an error of gpumon: CloudWatch refuses the request ({error}).")
        # Some of the wire formats that botocore chooses from carry this with status 400.
        if status in {401, 403} or code.startswith("AccessDenied"):
            return DeliveryError(f"Allow cloudwatch:PutMetricData in the role of this instance: {error}.")
    if isinstance(error, CREDENTIAL_ERRORS):
        return DeliveryError(f"Give this instance a role that allows cloudwatch:PutMetricData: {error}.")
    return DeliveryError(f"Check the way from this instance to CloudWatch: {error}.")
