"""Which services AWS has in which region, as its public parameters say it (Systems Manager, global infrastructure).

moto knows them, too, but once it was asked for one it lists all of AWS's parameters as if they were the account's own.
"""

from __future__ import annotations

import json
import re
from typing import Any

from localaws.aws import regions_of
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
    there = [name for name, place in places.items() if place and place["region"] in regions_of(place["service"])]
    found = [{"Name": name, "Type": "String", "Value": name.rpartition("/")[2], "Version": 1} for name in there]
    document = {"Parameters": found, "InvalidParameters": [name for name in places if name not in there]}
    return Answer("200 OK", [("Content-Type", _JSON)], json.dumps(document).encode())
