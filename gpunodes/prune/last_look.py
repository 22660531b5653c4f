"""Asked of images that are about to go, and of no others: what EC2 itself knows of references, and other accounts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import AwsError
from gpunodes.prune.offered import ask
from gpunodes.prune.references import Reference, Source

REFERENCES = "EC2's own references"
_IDS_PER_CALL = 10  # limit of DescribeImageReferences
_KINDS_OF_USE = ("ec2:Instance", "ec2:LaunchTemplate", "imagebuilder:ImageRecipe", "imagebuilder:ContainerRecipe")
# By default ten, or in a report twenty, of the newest versions of a launch template are looked at.
_EVERY_VERSION = [{"OptionName": "version-depth", "OptionValues": ["10000"]}]
_DEEP_TEMPLATES = {"ResourceType": "ec2:LaunchTemplate", "ResourceTypeOptions": _EVERY_VERSION}
_REPORT_SECONDS = 300.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 15.0


def source_of(ami_ids: Sequence[str]) -> Source:
    """EC2's own references to these images, as a source (DescribeImageReferences)."""
    return Source(REFERENCES, partial(_references, ami_ids=ami_ids))


def _references(clients: Clients, ami_ids: Sequence[str]) -> Iterator[Reference]:
    for begin in range(0, len(ami_ids), _IDS_PER_CALL):
        some = list(ami_ids[begin : begin + _IDS_PER_CALL])
        yield from ask(clients, "ec2", "asking EC2 what refers to images", partial(_described, some))


def _described(ami_ids: list[str], ec2: Any) -> list[Reference]:
    arguments = {"ImageIds": ami_ids, "IncludeAllResourceTypes": True, "ResourceTypes": [_DEEP_TEMPLATES]}
    pages = ec2.get_paginator("describe_image_references").paginate(**arguments)
    found = [each for page in pages for each in page["ImageReferences"]]
    return [Reference(each["ImageId"], each["ResourceType"], each["Arn"]) for each in found]


def accounts(clients: Clients, ami_id: str) -> list[str]:
    """With whom an image is shared: accounts, organisations, or `all` (DescribeImageAttribute, launchPermission).

    Raises:
        AwsError: EC2 refused.
    """
    with aws_errors(f"looking with whom {ami_id} is shared"):
        answer = clients.ec2.describe_image_attribute(ImageId=ami_id, Attribute="launchPermission")
    return [str(value) for permission in answer["LaunchPermissions"] for value in permission.values()]


def usage_by_others(
    clients: Clients,
    ami_id: str,
    wait: Callable[[float], None] = time.sleep,
) -> list[Reference]:
    """Who uses an image in other accounts (CreateImageUsageReport, which is deleted again).

    Args:
        clients: of the target.
        ami_id: the image.
        wait: sleeps for so many seconds, while EC2 writes the report.

    Raises:
        MissingSourceError: the API does not have it here.
        AwsError: EC2 refused, or wrote no report within five minutes.
    """
    wanted = [_DEEP_TEMPLATES if kind == "ec2:LaunchTemplate" else {"ResourceType": kind} for kind in _KINDS_OF_USE]
    report_id: str = ask(
        clients,
        "ec2",
        f"asking who uses {ami_id} in other accounts",
        lambda ec2: ec2.create_image_usage_report(ImageId=ami_id, ResourceTypes=wanted)["ReportId"],
    )
    with aws_errors(f"reading who uses {ami_id} in other accounts"):
        _wait_for_report(clients.ec2, report_id, ami_id, wait)
        pages = clients.ec2.get_paginator("describe_image_usage_report_entries").paginate(ReportIds=[report_id])
        entries = [each for page in pages for each in page["ImageUsageReportEntries"] if each["UsageCount"]]
        clients.ec2.delete_image_usage_report(ReportId=report_id)
    return [
        Reference(ami_id, "account", f"{each['AccountId']} ({each['UsageCount']} x {each['ResourceType']})")
        for each in entries
    ]


def _wait_for_report(ec2: Any, report_id: str, ami_id: str, wait: Callable[[float], None]) -> None:
    waited_seconds, pause_seconds = 0.0, _FIRST_PAUSE_SECONDS
    while True:
        reports = ec2.describe_image_usage_reports(ReportIds=[report_id])["ImageUsageReports"]
        state = reports[0]["State"] if reports else "missing"
        if state == "available":
            return
        if state == "error" or waited_seconds >= _REPORT_SECONDS:
            raise AwsError(f"EC2 wrote no report on who uses {ami_id} in other accounts ({state}); repeat later.")
        wait(pause_seconds)
        waited_seconds += pause_seconds
        pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
