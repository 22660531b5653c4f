from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpunodes.aws import Clients
from gpunodes.proof import verdict_tags
from gpunodes.recipe import ami

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


def make_image(clients: Clients, state: str | None) -> str:
    instance = clients.ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)["Instances"][0]
    image_id: str = clients.ec2.create_image(InstanceId=instance["InstanceId"], Name=f"{state}")["ImageId"]
    if state is not None:
        clients.ec2.create_tags(Resources=[image_id], Tags=[{"Key": "gpunodes:state", "Value": state}])
    return image_id


def tags(clients: Clients, image_id: str) -> list[dict[str, str]]:
    """Of the image, then of each snapshot."""
    image = ami.describe(clients, image_id)
    snapshots = clients.ec2.describe_snapshots(SnapshotIds=ami.snapshots_of(image))["Snapshots"]
    return [ami.tags_of(one) for one in (image, *snapshots)]


def tag(clients: Clients, image_id: str, proof: Path, **verdict: Any) -> str:
    image = ami.describe(clients, image_id)
    return verdict_tags.tag_image(clients, image, run_id="r1", proof=proof, now=NOON, **verdict)


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    path = tmp_path / "proof-r1.json"
    path.write_text("{}")
    return path


def test_an_image_that_passed_is_proven_and_so_are_its_snapshots(clients: Clients, proof: Path) -> None:
    image_id = make_image(clients, "candidate")

    assert tag(clients, image_id, proof, result="passed", reason="") == "proven"

    for found in tags(clients, image_id):
        assert found["gpunodes:state"] == "proven"
        assert found["gpunodes:proof-run"] == "r1"
        assert found["gpunodes:proof-sha256"] == hashlib.sha256(b"{}").hexdigest()
        assert found["gpunodes:proven-at"] == "2030-01-01T12:00:00+00:00"


def test_an_image_that_failed_says_why_and_a_later_pass_takes_that_back(clients: Clients, proof: Path) -> None:
    image_id = make_image(clients, "proven")
    reason = "every GPU is there: 3 of 4 <GPUs>; " + "x" * 300

    assert tag(clients, image_id, proof, result="failed", reason=reason) == "failed"
    for found in tags(clients, image_id):
        assert found["gpunodes:failed-reason"].startswith("every GPU is there: 3 of 4  GPUs   xxx")
        assert len(found["gpunodes:failed-reason"]) == 256
        assert "gpunodes:proven-at" not in found

    assert tag(clients, image_id, proof, result="passed", reason="") == "proven"
    assert all("gpunodes:failed-reason" not in found for found in tags(clients, image_id))


@pytest.mark.parametrize("state", [None, "retired"])
def test_an_image_that_no_bake_sealed_or_that_has_gone_on_is_left_alone(
    clients: Clients, proof: Path, state: str | None
) -> None:
    image_id = make_image(clients, state)
    before = tags(clients, image_id)

    assert tag(clients, image_id, proof, result="passed", reason="") == ""

    assert tags(clients, image_id) == before
