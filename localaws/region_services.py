"""Which services AWS has in which region, as its public parameters say it (Systems Manager, global infrastructure).

moto knows them, too, but once it was asked for one it lists all of AWS's parameters as if they were the account's own.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.regions import EndpointResolver

from localaws.wsgi import Answer, take_body

_ROOT = "/aws/service/global-infrastructure"
_PLACE = re.compile(_ROOT + r"/services/(?P<service>[a-z0-9-]+)/regions/(?P<region>[a-z0-9-]+)")
_JSON = "application/x-amz-json-1.1"
_LARGEST_BODY_BYTES = 64_000


def answer(environ: dict[str, Any]) -> Answer | None:
    """The answer to GetParameters of such names only; None for any other request.

    Args:
        environ: of the request (PEP 3333); its body stays readable.
    """
    if environ.get("HTTP_X_AMZ_TARGET") != "AmazonSSM.GetParameters":
        return None
    try:
        names = json.loads(take_body(environ, _LARGEST_BODY_BYTES) or b"")["Names"]
    except (ValueError, TypeError, KeyError):
        return None  # moto says what is wrong with it
    places = {name: _PLACE.fullmatch(str(name)) for name in names}
    if not places or not all(places.values()):
        return None
    there = [name for name, place in places.items() if place and place["region"] in _regions()]
    found = [{"Name": name, "Type": "String", "Value": name.rpartition("/")[2], "Version": 1} for name in there]
    document = {"Parameters": found, "InvalidParameters": [name for name in places if name not in there]}
    return Answer("200 OK", [("Content-Type", _JSON)], json.dumps(document).encode())


@cache
def _regions() -> frozenset[str]:
    """Those that have EC2, as botocore's list of endpoints has them: whatever is served here is served in all of them.

    No session is made, which would read a person's profile.
    """
    known = EndpointResolver(Loader().load_data("endpoints"))
    return frozenset(
        region for each in known.get_available_partitions() for region in known.get_available_endpoints("ec2", each)
    )
