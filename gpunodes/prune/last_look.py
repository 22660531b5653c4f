"""Asked of each image just before it goes, and of no other: what AWS itself knows of references, and other accounts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gpunodes.aws import Clients
from gpunodes.errors import AwsError
from gpunodes.prune.references import Reference

_IDS_PER_CALL = 10  # limit of DescribeImageReferences
_EVERY_VERSION = "10000"  # by default it looks at the ten newest of a launch template
_REPORT_SECONDS = 300.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 15.0


def references(clients: Clients, ami_ids: Sequence[str]) -> list[Reference] | None:
    """What DescribeImageReferences finds in this account; None where the API does not have it, as an emulator may.

    Args:
        clients: of the target.
        ami_ids: images that are about to go.

    Raises:
        AwsError: EC2 refused.
    """
    found: list[Reference] = []
    for begin in range(0, len(ami_ids), _IDS_PER_CALL):
        some = list(ami_ids[begin : begin + _IDS_PER_CALL])
        answered = clients.ask("ec2", "asking EC2 what refers to images", partial(_described, some))
        if answered is None:
            return None
        found += answered
    return found


def _described(ami_ids: list[str], ec2: Any) -> list[Reference]:
    depth = {"OptionName": "version-depth", "OptionValues": [_EVERY_VERSION]}
    types = [{"ResourceType": "ec2:LaunchTemplate", "ResourceTypeOptions": [depth]}]
    arguments: dict[str, Any] = {"ImageIds": ami_ids, "IncludeAllResourceTypes": True, "ResourceTypes": types}
    found: list[Reference] = []
    while True:
        page = ec2.describe_image_references(**arguments)
        found += [Reference(each["ImageId"], each["ResourceType"], each["Arn"]) for each in page["ImageReferences"]]
        if not page.get("NextToken"):
            return found
        arguments["NextToken"] = page["NextToken"]


def accounts(clients: Clients, ami_id: str) -> list[str]:
    """With whom an image is shared: accounts, organisations, or `all` (DescribeImageAttribute, launchPermission).

    Raises:
        AwsError: EC2 refused.
    """
    answer = clients.ask(
        "ec2",
        f"looking with whom {ami_id} is shared",
        lambda ec2: ec2.describe_image_attribute(ImageId=ami_id, Attribute="launchPermission"),
    )
    shared = answer["LaunchPermissions"] if answer else []
    return [str(value) for permission in shared for value in permission.values()]


def usage_by_others(
    clients: Clients,
    ami_id: str,
    wait: Callable[[float], None] = time.sleep,
) -> list[Reference] | None:
    """Who uses a shared image in other accounts (CreateImageUsageReport); None where the API does not have it.

    Args:
        clients: of the target.
        ami_id: the image.
        wait: sleeps for so many seconds, while EC2 writes the report.

    Raises:
        AwsError: EC2 refused, or wrote no report within five minutes.
    """
    types = ("ec2:Instance", "ec2:LaunchTemplate", "imagebuilder:ImageRecipe", "imagebuilder:ContainerRecipe")
    wanted = [{"ResourceType": name} for name in types]
    begun = clients.ask(
        "ec2",
        f"asking who uses {ami_id} in other accounts",
        lambda ec2: ec2.create_image_usage_report(ImageId=ami_id, ResourceTypes=wanted),
    )
    if begun is None:
        return None
    _wait_for_report(clients, begun["ReportId"], ami_id, wait)
    entries = clients.ask(
        "ec2", f"reading who uses {ami_id} in other accounts", lambda ec2: _entries(ec2, begun["ReportId"])
    )
    return [
        Reference(ami_id, "account", f"{each['AccountId']} ({each['UsageCount']} x {each['ResourceType']})")
        for each in entries or []
        if each["UsageCount"]
    ]


def _wait_for_report(clients: Clients, report_id: str, ami_id: str, wait: Callable[[float], None]) -> None:
    waited_seconds, pause_seconds = 0.0, _FIRST_PAUSE_SECONDS
    while True:
        answer = clients.ask(
            "ec2",
            f"waiting for the report on {ami_id}",
            lambda ec2: ec2.describe_image_usage_reports(ReportIds=[report_id]),
        )
        reports = answer["ImageUsageReports"] if answer else []
        state = reports[0]["State"] if reports else "missing"
        if state == "available":
            return
        if state == "error" or waited_seconds >= _REPORT_SECONDS:
            raise AwsError(f"EC2 wrote no report on who uses {ami_id} in other accounts ({state}); repeat later.")
        wait(pause_seconds)
        waited_seconds += pause_seconds
        pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)


def _entries(ec2: Any, report_id: str) -> list[dict[str, Any]]:
    arguments: dict[str, Any] = {"ReportIds": [report_id]}
    found: list[dict[str, Any]] = []
    while True:
        page = ec2.describe_image_usage_report_entries(**arguments)
        found += page["ImageUsageReportEntries"]
        if not page.get("NextToken"):
            return found
        arguments["NextToken"] = page["NextToken"]
