"""`resolve:ssm:NAME[:VERSION or LABEL]` in a launch template: which images it may lead to."""

from __future__ import annotations

from functools import cache

from botocore.exceptions import ClientError

from gpunodes.aws import Clients, aws_errors

PREFIX = "resolve:ssm:"
# The parameter, or the version, does not exist: then a launch by it fails, and it leads to no image.
_ABSENT = frozenset({"ParameterNotFound", "ParameterVersionNotFound"})


class Aliases:
    """Looks every name up once.

    Args:
        clients: of the target (SSM GetParameter).
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._value = cache(self._look_up)

    def images_of(self, image_id: str) -> list[str]:
        """The image that an id, or an alias, stands for now; none where an alias leads nowhere.

        What a parameter named before is its history's matter, which is a source of its own.

        Raises:
            AwsError: SSM refused.
        """
        if not image_id.startswith(PREFIX):
            return [image_id]
        value = self._value(image_id.removeprefix(PREFIX))
        return [value] if value.startswith("ami-") else []

    def _look_up(self, name: str) -> str:
        with aws_errors(f"looking up the parameter {name} of a launch template"):
            try:
                return str(self._clients.ssm.get_parameter(Name=name)["Parameter"]["Value"])
            except ClientError as error:
                if error.response["Error"]["Code"] in _ABSENT:
                    return ""
                raise
