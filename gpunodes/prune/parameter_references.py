"""SSM parameters that name an image, or named one: whoever is pinned to a version launches what stood there then.

The parameters of our own channels get a new version with each promotion: of them, earlier versions count where they
have a label. How far back a rollback must lead is for the plan to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpunodes.aws import Clients, aws_errors
from gpunodes.prune.references import Reference, Source

_IMAGE = re.compile(r"\bami-[0-9a-f]{8,17}\b")
_IMAGES_TYPE = "aws:ec2:image"
_OWN_CHANNEL = re.compile(r"/gpunodes/[A-Za-z0-9-]+/ami-id")


def of_parameters(clients: Clients) -> Iterator[Reference]:
    """Of the present value of every parameter that is text, and of every version of those of images.

    Raises:
        AwsError: SSM refused (GetParametersByPath, DescribeParameters, GetParameterHistory).
    """
    with aws_errors("reading the parameters of SSM"):
        for page in clients.ssm.get_paginator("get_parameters_by_path").paginate(Path="/", Recursive=True):
            for parameter in page["Parameters"]:
                for ami_id in _IMAGE.findall(parameter["Value"]):
                    yield Reference(ami_id, "parameter", parameter["Name"])
    for name in _with_history(clients):
        with aws_errors(f"reading the history of the parameter {name}"):
            for page in clients.ssm.get_paginator("get_parameter_history").paginate(Name=name):
                for entry in page["Parameters"]:
                    if _OWN_CHANNEL.fullmatch(name) and not entry.get("Labels"):
                        continue
                    for ami_id in _IMAGE.findall(entry["Value"]):
                        yield Reference(ami_id, "parameter", f"{name} version {entry['Version']}")


def _with_history(clients: Clients) -> list[str]:
    """Names of the parameters whose earlier versions count; a list, for it must be whole."""
    with aws_errors("listing the parameters of SSM"):
        pages = clients.ssm.get_paginator("describe_parameters").paginate()
        return [
            entry["Name"]
            for page in pages
            for entry in page["Parameters"]
            if entry.get("DataType") == _IMAGES_TYPE or _OWN_CHANNEL.fullmatch(entry["Name"])
        ]


SOURCES = (Source("parameters", of_parameters),)
