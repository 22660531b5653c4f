"""Proofs that come to no verdict: one sentence, the right exit code, and nothing of the run is left."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.offline.api_proxy import ApiProxy, Refusal, before_the_api, quota_of
from tests.offline.conftest import Cloud, left, parse, run_invoke

NO_CAPACITY = Refusal(
    "InsufficientInstanceCapacity",
    "We currently do not have sufficient capacity in the Availability Zone you requested (us-east-1a).",
    500,
)
NO_IMAGE = Refusal("InvalidAMIID.NotFound", "The image id does not exist")
THROTTLED = Refusal("Throttling", "Rate exceeded")
READS = ("GetMetricData", "GetMetricStatistics", "ListMetrics")
ENOUGH_TO_OUTLAST_BOTO3 = 7


@pytest.fixture(scope="module")
def candidate(cloud: Cloud) -> str:
    """An image that `build-ami --offline` made."""
    result = run_invoke("build-ami", "--offline", "--json")
    assert result.returncode == 0, result.stderr
    ami_id = str(parse(result.stdout)["ami_id"])
    assert cloud.ec2.describe_images(ImageIds=[ami_id])["Images"]
    return ami_id


@pytest.fixture
def proxy(cloud: Cloud) -> Iterator[ApiProxy]:
    with before_the_api(cloud.layout) as api:
        yield api


@pytest.fixture
def copy(cloud: Cloud, candidate: str, request: pytest.FixtureRequest) -> str:
    """A copy of the image for one test to deregister, a candidate like the original."""
    copied = cloud.ec2.copy_image(SourceImageId=candidate, SourceRegion="us-east-1", Name=request.node.name)
    tags = cloud.ec2.describe_images(ImageIds=[candidate])["Images"][0]["Tags"]
    cloud.ec2.create_tags(Resources=[copied["ImageId"]], Tags=tags)
    return str(copied["ImageId"])


def nothing_left(cloud: Cloud) -> bool:
    """Whether there is nothing of any run but images."""
    return set(left(cloud, "gpunodes")) <= {"images"}


def error_of(cloud: Cloud, *arguments: str, exit_code: int) -> str:
    """The one sentence with which a proof ends; nothing with its run's id may be left."""
    result = run_invoke("test-instance", "--offline", *arguments)
    assert result.returncode == exit_code, result.stderr
    assert "Traceback" not in result.stderr
    run_ids = re.findall(r"\brun (\d{8}-\d{6}-[0-9a-f]{4})\b", result.stderr)
    assert [left(cloud, run_id) for run_id in run_ids] == [{}] * len(run_ids)
    assert nothing_left(cloud)
    [line] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.stderr.endswith(f"{line}\n")
    return line


def evidence_of(error: str) -> dict[str, Any]:
    """The proof that a sentence names."""
    found = re.search(r"\S+/proof-[0-9a-f-]+\.json", error)
    assert found, error
    return parse(Path(found.group()).read_text())


def not_passed(document: dict[str, Any]) -> dict[str, str]:
    """Id and reason of each check that failed."""
    return {check["check_id"]: check["reason"] for check in document["checks"] if check["passed"] is False}


def times(count: int, refusal: Refusal) -> Callable[[bytes], Refusal | None]:
    """Refuse so often, then no more."""
    remaining = [refusal] * count
    return lambda _body: remaining.pop() if remaining else None


def once(call: str, action: Callable[[], object]) -> Callable[[str], None]:
    """The action, the first time that a call is this one."""
    done: list[str] = []

    def act(name: str) -> None:
        if name == call and not done:
            done.append(name)
            action()

    return act


def test_an_image_of_another_account_is_refused(cloud: Cloud) -> None:
    error = error_of(cloud, "--ami", cloud.facts.base_image_id, exit_code=2)

    assert "belongs to account 136693071363 and you work in 123456789012; log in there" in error


def test_a_type_of_another_architecture_is_refused(cloud: Cloud, candidate: str) -> None:
    error = error_of(cloud, "--ami", candidate, "--type", "g5g.xlarge", exit_code=2)

    assert f"Image {candidate} is for x86_64 and g5g.xlarge runs arm64; name a --type that fits." in error


def test_a_quota_of_zero_is_told_with_its_code(cloud: Cloud, proxy: ApiProxy, candidate: str) -> None:
    proxy.answers["GetServiceQuota"] = quota_of(0)

    error = error_of(cloud, "--ami", candidate, exit_code=2)

    assert "Quota L-DB2E81BA (Running On-Demand G and VT instances) allows 0 vCPUs in us-east-1" in error
    assert "RunInstances" not in proxy.calls


def test_a_quota_that_allows_one_at_a_time_is_told_with_the_limit_that_fits(
    cloud: Cloud, proxy: ApiProxy, candidate: str
) -> None:
    proxy.answers["GetServiceQuota"] = quota_of(4)

    error = error_of(cloud, "--ami", candidate, "--types", "g4dn.xlarge,g5.xlarge", exit_code=2)

    assert "What may run at once (2 of the entries) needs 8 vCPUs of quota L-DB2E81BA" in error
    assert "allows 4 in us-east-1; use --limit 1, or ask for at least 8 in Service Quotas." in error


@pytest.mark.parametrize("types", ["--type", "--types"])
def test_a_zone_is_not_silently_ignored(cloud: Cloud, candidate: str, types: str) -> None:
    error = error_of(cloud, "--ami", candidate, "--zone", "us-east-1a", types, "g4dn.xlarge", exit_code=2)

    assert f"Subnet {cloud.facts.subnet_id} decides the zone" in error
    assert error.endswith("leave --zone us-east-1a out.")


def test_no_capacity_anywhere_names_all_that_was_tried(cloud: Cloud, proxy: ApiProxy, candidate: str) -> None:
    proxy.answers["RunInstances"] = lambda _body: NO_CAPACITY

    result = run_invoke("test-instance", "--offline", "--json", "--ami", candidate, "--types", "g4dn.xlarge|g5.xlarge")

    assert result.returncode == 3, result.stderr
    assert "Traceback" not in result.stderr
    for name in ("g4dn.xlarge", "g5.xlarge"):  # each a proof of its own, that ended with exit code 3
        error = f"{name}: error: AWS has no capacity for {name} in us-east-1a now (InsufficientInstanceCapacity); take"
        assert error in result.stderr
    [verdict] = parse(result.stdout)["verdicts"]
    assert "AWS has no capacity anywhere (tried g4dn.xlarge, g5.xlarge); try later" in verdict["reason"]
    assert nothing_left(cloud)
    assert 2 < proxy.calls.count("RunInstances") <= 2 * 8  # Terraform by itself tries 25 times, for minutes


def test_an_image_that_goes_before_the_launch_is_named(cloud: Cloud, proxy: ApiProxy, copy: str) -> None:
    # The last call before Terraform.
    proxy.after = once("DescribeSnapshots", lambda: cloud.ec2.deregister_image(ImageId=copy))

    error = error_of(cloud, "--ami", copy, exit_code=3)

    assert f"Image {copy} was taken away (deregistered or disabled) while it was being proven; bake" in error


def test_an_image_that_goes_before_the_second_clone_ends_the_proof(cloud: Cloud, proxy: ApiProxy, copy: str) -> None:
    def take_away() -> None:
        cloud.ec2.deregister_image(ImageId=copy)
        proxy.answers["RunInstances"] = lambda _body: NO_IMAGE  # moto would launch from nothing

    proxy.after = once("RunInstances", take_away)

    error = error_of(cloud, "--ami", copy, exit_code=3)

    assert f"Image {copy} was taken away" in error
    document = evidence_of(error)
    assert list(not_passed(document)) == ["image_is_still_there"]
    assert (document["result"], document["destroyed"]["verified"]) == ("failed", True)


def test_reads_that_are_throttled_for_ever_end_the_proof(cloud: Cloud, proxy: ApiProxy, candidate: str) -> None:
    for call in READS:
        proxy.answers[call] = lambda _body: THROTTLED

    error = error_of(cloud, "--ami", candidate, exit_code=3)

    assert "AWS throttled us for 60 s while reading datapoints from CloudWatch; find out what else asks" in error


def test_throttled_reads_are_outlasted_and_an_image_that_goes_late_is_no_longer_judged(
    cloud: Cloud, proxy: ApiProxy, copy: str
) -> None:
    for call in READS:
        proxy.answers[call] = times(ENOUGH_TO_OUTLAST_BOTO3, THROTTLED)
    proxy.after = once("ListMetrics", lambda: cloud.ec2.deregister_image(ImageId=copy))

    error = error_of(cloud, "--ami", copy, exit_code=3)

    document = evidence_of(error)
    assert not_passed(document) == {
        "image_is_still_there": f"{copy} is deregistered, and was available when this proof began"
    }
    assert len(document["checks"]) == 29
    assert (document["result"], document["destroyed"]["verified"]) == ("failed", True)
