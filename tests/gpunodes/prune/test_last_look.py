"""What only AWS can say, through a stand-in for the calls that no emulator has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gpunodes.aws import Clients
from gpunodes.errors import AwsError
from gpunodes.prune import last_look

IMAGES = [f"ami-{number:017x}" for number in range(23)]


@dataclass
class Ec2:
    """EC2 that pages by one, and writes reports slowly."""

    references: dict[str, list[str]] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)
    states: list[str] = field(default_factory=lambda: ["available"])
    asked: list[dict[str, Any]] = field(default_factory=list)
    is_lacking: bool = False

    def ask(self, _service: str, _doing: str, call: Callable[[Any], Any]) -> Any:
        return None if self.is_lacking else call(self)

    def describe_image_references(self, **arguments: Any) -> dict[str, Any]:
        self.asked.append(arguments)
        found = [(image, arn) for image in arguments["ImageIds"] for arn in self.references.get(image, [])]
        at = int(arguments.get("NextToken", 0))
        page = [{"ImageId": image, "ResourceType": "ec2:Instance", "Arn": arn} for image, arn in found[at : at + 1]]
        return {"ImageReferences": page, **({"NextToken": str(at + 1)} if at + 1 < len(found) else {})}

    def create_image_usage_report(self, **arguments: Any) -> dict[str, Any]:
        self.asked.append(arguments)
        return {"ReportId": "report-1"}

    def describe_image_usage_reports(self, ReportIds: list[str]) -> dict[str, Any]:  # noqa: N803 - boto3's
        assert ReportIds == ["report-1"]
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return {"ImageUsageReports": [{"State": state}]}

    def describe_image_usage_report_entries(self, **arguments: Any) -> dict[str, Any]:
        at = int(arguments.get("NextToken", 0))
        more = {"NextToken": str(at + 1)} if at + 1 < len(self.entries) else {}
        return {"ImageUsageReportEntries": self.entries[at : at + 1], **more}


def clients(ec2: Ec2) -> Clients:
    return cast(Clients, ec2)


def used(account: str, count: int, kind: str = "ec2:Instance") -> dict[str, Any]:
    return {"AccountId": account, "UsageCount": count, "ResourceType": kind}


def test_references_are_asked_ten_images_at_a_time_and_page_by_page() -> None:
    ec2 = Ec2({IMAGES[0]: ["arn:a", "arn:b"], IMAGES[22]: ["arn:c"]})

    found = last_look.references(clients(ec2), IMAGES)

    assert found is not None
    assert [(each.ami_id, each.name) for each in found] == [
        (IMAGES[0], "arn:a"), (IMAGES[0], "arn:b"), (IMAGES[22], "arn:c"),
    ]  # fmt: skip
    assert [len(arguments["ImageIds"]) for arguments in ec2.asked] == [10, 10, 10, 3]


def test_every_version_of_a_launch_template_is_looked_at() -> None:
    ec2 = Ec2()

    last_look.references(clients(ec2), IMAGES[:1])

    [template] = ec2.asked[0]["ResourceTypes"]
    assert ec2.asked[0]["IncludeAllResourceTypes"] is True
    assert (template["ResourceType"], template["ResourceTypeOptions"]) == (
        "ec2:LaunchTemplate", [{"OptionName": "version-depth", "OptionValues": ["10000"]}],
    )  # fmt: skip


def test_api_without_these_calls_says_nothing() -> None:
    ec2 = Ec2(is_lacking=True)

    assert last_look.references(clients(ec2), IMAGES) is None
    assert last_look.usage_by_others(clients(ec2), IMAGES[0]) is None


def test_nobody_to_ask_of_is_no_call() -> None:
    ec2 = Ec2()

    assert last_look.references(clients(ec2), []) == []
    assert ec2.asked == []


def test_report_is_waited_for_and_read_to_its_end() -> None:
    ec2 = Ec2(
        entries=[used("1", 2), used("2", 0), used("3", 1, "ec2:LaunchTemplate")],
        states=["pending", "pending", "available"],
    )
    waits: list[float] = []

    found = last_look.usage_by_others(clients(ec2), IMAGES[0], waits.append)

    assert found is not None
    assert [each.name for each in found] == ["1 (2 x ec2:Instance)", "3 (1 x ec2:LaunchTemplate)"]
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize(("state", "patience"), [("error", 0.0), ("pending", 300.0)])
def test_report_that_does_not_come_is_an_error(state: str, patience: float) -> None:
    waits: list[float] = []

    with pytest.raises(AwsError, match=f"EC2 wrote no report on who uses {IMAGES[0]} in other accounts \\({state}\\)"):
        last_look.usage_by_others(clients(Ec2(states=[state])), IMAGES[0], waits.append)

    assert patience <= sum(waits) <= patience * 1.1
