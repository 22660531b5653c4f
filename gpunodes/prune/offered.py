"""Whether a call, or a whole service, exists where it is asked for: what does not exist did not fail.

Everything else is a failure, offline as on AWS: nobody knows then who uses an image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import botocore.exceptions

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import AwsError, GpunodesError

T = TypeVar("T")

_UNKNOWN_CALL_CODES = frozenset({"InvalidAction", "UnknownOperation", "UnknownOperationException"})
_NOT_HERE = "not available in this region"  # so EC2 says it, with the code UnsupportedOperation
_PLACE = "/aws/service/global-infrastructure/services/{}/regions/{}"


class MissingSourceError(GpunodesError):
    """The API has no such call here, or the region no such service."""


def ask(clients: Clients, service: str, doing: str, call: Callable[[Any], T]) -> T:
    """What a call answers that not every region has.

    Args:
        clients: of the target.
        service: as boto3 names it.
        doing: what is attempted, as for `aws_errors`.
        call: gets the service's client.

    Raises:
        MissingSourceError: it does not exist here.
        PreflightError: the credentials are no longer valid.
        AwsError: it exists, or may, and failed.
    """
    client = clients.client(service)
    try:
        with aws_errors(doing):
            return call(client)
    except AwsError as error:
        region = client.meta.region_name
        if _is_unknown_call(error.__cause__):
            raise MissingSourceError(f"the API of {service} in {region} does not have this call") from error
        is_unreachable = isinstance(error.__cause__, botocore.exceptions.EndpointConnectionError)
        if is_unreachable and _has_no(clients, service, region):
            raise MissingSourceError(f"region {region} has no {service}") from error
        raise


def _is_unknown_call(error: BaseException | None) -> bool:
    if not isinstance(error, botocore.exceptions.ClientError):
        return False
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    return code in _UNKNOWN_CALL_CODES or (code == "UnsupportedOperation" and _NOT_HERE in message)


def _has_no(clients: Clients, service: str, region: str) -> bool:
    """Whether AWS itself lists the region without the service (SSM's public parameters); EC2 shows that it lists it."""
    ec2, wanted = _PLACE.format("ec2", region), _PLACE.format(service, region)
    try:
        with aws_errors(f"asking whether {region} has {service}"):
            found = clients.ssm.get_parameters(Names=[ec2, wanted])
    except AwsError:
        return False  # nobody knows: then it is a failure
    return [each["Name"] for each in found["Parameters"]] == [ec2] and found["InvalidParameters"] == [wanted]
