"""Records of images for tests, and evidence of them on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpunodes.aws import Clients
from gpunodes.evidence import evidence
from gpunodes.evidence.image_record import (
    BaseImage,
    CostEstimate,
    Durations,
    ImageRecord,
    PackageList,
    RecipeRecord,
    Seal,
    Wheel,
)
from gpunodes.evidence.sbom import Distribution, Package, Subject
from gpunodes.operation.steps import Timing
from gpunodes.settings import Settings
from tests.gpunodes import fakes

AMI = "ami-0123456789abcdef0"
OTHER_AMI = "ami-0fedcba9876543210"
BAKED_AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
PACKAGES = (
    Package("deb", "libc6", "2.36-9+deb12u13", "amd64"),
    Package("deb", "openssh-server", "1:9.2p1-2+deb12u7", "amd64"),
    Package("pypi", "gpumon", "0.1.0"),
)
RECORD = ImageRecord(
    ami_id=AMI,
    name="gpunodes-20300102-030405-abcd",
    run_id="20300102-030405-abcd",
    reason="asked for by a person",
    target="test",
    region="us-east-1",
    account="123456789012",
    flavor="debian-12",
    base=BaseImage("ami-0aaaaaaaaaaaaaaaa", "debian-12-gpu", "136693071363", "2030-01-01T00:00:00.000Z"),
    recipe=RecipeRecord("f" * 64, {"source_ami": "ami-0aaaaaaaaaaaaaaaa", "root_volume_size_gib": 8}, "c" * 40, False),
    pins={"agent_version": "1.2.3", "agent_sha256.debian-12": "a" * 64},
    versions={"os_id": "debian", "os_version": "12", "nvidia_driver_version": "580.105.08", "dcgm_version": None},
    held_packages=("linux-image-cloud-amd64",),
    packages=PackageList(3, "sbom.cdx.json", "0" * 64),
    wheels=(Wheel("gpumon-0.1.0-py3-none-any.whl", "b" * 64),),
    seal=Seal(("IMDSv2 only", "encrypted"), ("this API has no deregistration protection",)),
    notes=("the base is deprecated in 30 days",),
    durations=Durations(
        (Timing("check", 1.5), Timing("bake with Packer", 10.0, (Timing("provision", 7.25),))), 10.0, 1.5
    ),
    cost=CostEstimate(None, "nothing costs money offline"),
    baked_at="2030-01-02T03:04:05+00:00",
    tools={"packer": "1.6.6"},
)


def write(
    settings: Settings, record: ImageRecord = RECORD, packages: Sequence[Package] = PACKAGES, **changes: Any
) -> ImageRecord:
    """Evidence as a bake leaves it; return the record that was written."""
    record = replace(record, **changes)
    listed = evidence.write_packages(
        settings, packages, Subject(record.ami_id, record.name, Distribution("debian", "12"), BAKED_AT)
    )
    record = replace(record, packages=listed)
    evidence.write_record(settings, fakes.run(settings.work_folder / "run"), record)
    return record


def write_proof(settings: Settings, ami_id: str = AMI, run_id: str = "proof-1", **failed: bool) -> Path:
    """A proof of an image in which the checks that are named failed."""
    checks = [{"name": "every GPU is there", "passed": True}, *({"name": name, "passed": False} for name in failed)]
    document = {
        "run_id": run_id,
        "result": "failed" if failed else "passed",
        "instance_type": "g4dn.xlarge",
        "proved_at": "2030-01-02T04:00:00+00:00",
        "checks": checks,
    }
    return evidence.write_proof(settings, fakes.run(settings.work_folder / "run", run_id), ami_id, document)


def sealed_image(clients: Clients, name: str, **tags: str) -> str:
    """An image with a snapshot that both carry the tags of a sealed one; keywords have `_` where tags have `-`."""
    instance = clients.ec2.run_instances(ImageId=fakes.base_image(clients), MinCount=1, MaxCount=1)["Instances"][0]
    image_id = str(clients.ec2.create_image(InstanceId=instance["InstanceId"], Name=name)["ImageId"])
    given = {f"gpunodes:{key.replace('_', '-')}": value for key, value in tags.items()}
    tag_image(
        clients, image_id, {"gpunodes": "true", "gpunodes:run-id": "run-1", "gpunodes:state": "candidate"} | given
    )
    return image_id


def tag_image(clients: Clients, image_id: str, tags: dict[str, str]) -> None:
    """Tag an image and its snapshots alike."""
    clients.ec2.create_tags(
        Resources=[image_id, *snapshots_of(clients, image_id)],
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
    )


def snapshots_of(clients: Clients, image_id: str) -> list[str]:
    """Ids of an image's snapshots."""
    image = clients.ec2.describe_images(ImageIds=[image_id])["Images"][0]
    return [mapping["Ebs"]["SnapshotId"] for mapping in image["BlockDeviceMappings"] if "Ebs" in mapping]


def sealed_with_evidence(clients: Clients, settings: Settings, name: str, **changes: Any) -> ImageRecord:
    """An image whose evidence is here and whose tag vouches for it."""
    image_id = sealed_image(clients, name)
    packages = changes.pop("packages", PACKAGES)
    record = write(settings, packages=packages, ami_id=image_id, name=name, **changes)
    tag_image(clients, image_id, dict([evidence.seal_digest(record)]))
    return record
