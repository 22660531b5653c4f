"""With whom an image can be shared: EC2 refuses accounts, organisations and units that do not exist.

moto looks at the form of an account's number only, and at nothing of an organisation's.
"""

from __future__ import annotations

import re
from typing import Any

from localaws.ec2_query import Form, refusal
from localaws.wsgi import Answer

UNKNOWN_ACCOUNT = "999999999999"
"""The account that does not exist; every other number is somebody's."""

_WHO = re.compile(r"LaunchPermission\.Add\.\d+\.(?P<kind>UserId|OrganizationArn|OrganizationalUnitArn)")
_ORGANIZATION = "arn:aws[a-z-]*:organizations::[0-9]{12}:"
_FORMS = {
    "UserId": re.compile("[0-9]{12}"),
    "OrganizationArn": re.compile(rf"{_ORGANIZATION}organization/o-[a-z0-9]{{10,32}}"),
    "OrganizationalUnitArn": re.compile(rf"{_ORGANIZATION}ou/o-[a-z0-9]{{10,32}}/ou-[0-9a-z]{{4,32}}-[0-9a-z]{{8,32}}"),
}


def answer(_environ: dict[str, Any], form: Form) -> Answer | None:
    """The refusal of a share with nobody; None for everything else. All of a call is refused, or nothing.

    Args:
        form: the request's parameters.
    """
    if form.get("Action") != "ModifyImageAttribute":
        return None
    for name, value in form.items():
        found = _WHO.fullmatch(name)
        if found and (value == UNKNOWN_ACCOUNT or not _FORMS[found["kind"]].fullmatch(value)):
            kind = found["kind"][0].lower() + found["kind"][1:]
            said = f'Invalid attribute item value "{value}" for {kind} item type.'
            return refusal("InvalidAMIAttributeItemValue", said)
    return None
