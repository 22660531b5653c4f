"""`explain`: what an image is, why it exists, what is in it and what its proofs found, from its tags and evidence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import UsageError
from gpunodes.evidence import evidence
from gpunodes.evidence.evidence import TAG_DIGEST, Proof
from gpunodes.evidence.image_record import ImageRecord
from gpunodes.operation.runs import TAG_RUN_ID, TAG_STATE
from gpunodes.recipe import ami
from gpunodes.settings import Settings

_OURS = "gpunodes"
_AMI_ID = re.compile(r"ami-[0-9a-f]+")


@dataclass(frozen=True)
class Snapshot:
    """A snapshot of the image, as in DescribeSnapshots.

    Attributes:
        snapshot_id: its id.
        size_gib: of the volume it is of.
        is_encrypted: whether it is.
        has_tags_of_image: whether it carries the same tags of gpunodes as the image.
    """

    snapshot_id: str
    size_gib: int
    is_encrypted: bool
    has_tags_of_image: bool


@dataclass(frozen=True)
class InAws:
    """What AWS says of the image, as in DescribeImages; None where it says nothing.

    Attributes:
        state: `available`, `disabled`, ...
        owner_id: account.
        creation_date: ISO 8601.
        is_public: whether everybody may launch it.
        requires_imdsv2: whether the image itself makes its instances refuse IMDSv1.
        deprecation_time: ISO 8601.
        deregistration_protection: as AWS words it.
        last_launched_time: ISO 8601, late by a day.
        snapshots: of the image; one that is missing here is gone.
        missing_snapshots: ids that the image names and AWS does not have.
    """

    state: str
    owner_id: str
    creation_date: str
    is_public: bool
    requires_imdsv2: bool
    deprecation_time: str | None
    deregistration_protection: str | None
    last_launched_time: str | None
    snapshots: tuple[Snapshot, ...]
    missing_snapshots: tuple[str, ...]


@dataclass(frozen=True)
class DigestCheck:
    """Whether the record here is the one that the image's tag names.

    Attributes:
        outcome: `matches`, `differs` or `not checked`.
        text: the same for people.
        tagged: hex digest in the tag.
        local: hex digest of the file here.
    """

    outcome: str
    text: str
    tagged: str | None = None
    local: str | None = None


@dataclass(frozen=True)
class Explanation:
    """All that can be said of an image from here.

    Attributes:
        ami_id: the image.
        name: of the AMI.
        is_ours: whether gpunodes made it.
        state: in its life: `candidate`, ...; None for an image that was not sealed.
        reason: why it exists.
        tags: those of gpunodes.
        aws: what AWS says.
        record: of its bake; None where this machine has none that can be read.
        proofs: what this machine knows of them, the oldest first.
        digest: whether the record is the one that was sealed.
        evidence: folder on this machine; None where there is none.
        problems: sentences on what is not as it should be.
        not_known: sentences on what cannot be said from here, and where it can.
    """

    ami_id: str
    name: str
    is_ours: bool
    state: str | None
    reason: str
    tags: Mapping[str, str]
    aws: InAws
    record: ImageRecord | None
    proofs: tuple[Proof, ...]
    digest: DigestCheck
    evidence: Path | None
    problems: tuple[str, ...]
    not_known: tuple[str, ...]


def explain(clients: Clients, settings: Settings, ami_id: str) -> Explanation:
    """Explain an image from its tags and attributes, and from its evidence where this machine has it.

    Raises:
        UsageError: there is no such image here.
        AwsError: DescribeImages or DescribeSnapshots was refused.
    """
    image = look_up(clients, ami_id)
    if image is None:
        raise UsageError(_no_image(settings, ami_id))
    tags = {key: value for key, value in ami.tags_of(image).items() if key.split(":")[0] == _OURS}
    in_aws = _in_aws(clients, image, tags)
    foreign = Explanation(
        ami_id=ami_id,
        name=str(image.get("Name", "")),
        is_ours=tags.get(_OURS) == "true",
        state=tags.get(TAG_STATE),
        reason="",
        tags=tags,
        aws=in_aws,
        record=None,
        proofs=(),
        digest=DigestCheck("not checked", "there is no record of an image that gpunodes did not make"),
        evidence=None,
        problems=(),
        not_known=(),
    )
    return _with_evidence(foreign, settings) if foreign.is_ours else foreign


def look_up(clients: Clients, ami_id: str) -> dict[str, Any] | None:
    """One image in any state, as in DescribeImages; None where this region has none of that id.

    Raises:
        UsageError: that is no AMI id.
        AwsError: DescribeImages was refused.
    """
    if not _AMI_ID.fullmatch(ami_id):
        raise UsageError(f"`{ami_id}` is no AMI id; those look like ami-0123456789abcdef0.")
    with aws_errors(f"looking up {ami_id}"):
        # A filter, not ImageIds: an id that does not exist is then an empty answer, not one of several error codes.
        images = clients.ec2.describe_images(
            Filters=[{"Name": "image-id", "Values": [ami_id]}], IncludeDeprecated=True, IncludeDisabled=True
        )["Images"]
    return images[0] if images else None


def check_digest(settings: Settings, ami_id: str, tagged: str | None) -> DigestCheck:
    """Hold the `image.json` that lies here against the digest in the image's tag."""
    if not (evidence.image_folder(settings, ami_id) / "image.json").exists():
        return DigestCheck("not checked", "image.json is not on this machine", tagged)
    local = evidence.read_digest(settings, ami_id)
    if tagged is None:
        return DigestCheck("not checked", f"the image has no tag {TAG_DIGEST}, so nothing vouches for it", None, local)
    if local == tagged:
        return DigestCheck("matches", "image.json is the file that the image's tag names", tagged, local)
    return DigestCheck("differs", "image.json is not the file that the image's tag names", tagged, local)


def _no_image(settings: Settings, ami_id: str) -> str:
    folder = evidence.image_folder(settings, ami_id)
    if folder.is_dir():
        return f"There is no image {ami_id} in this region any more; read what is kept of it in {folder}."
    return f"There is no image {ami_id} in this region; give the id of one that `build-ami` made."


def _in_aws(clients: Clients, image: dict[str, Any], tags: Mapping[str, str]) -> InAws:
    named = ami.snapshots_of(image)
    found: list[dict[str, Any]] = []
    if named:
        with aws_errors(f"looking up the snapshots of {image['ImageId']}"):
            # Again a filter: a snapshot that is gone must not hide the others.
            found = clients.ec2.describe_snapshots(Filters=[{"Name": "snapshot-id", "Values": named}])["Snapshots"]
    here = {str(snapshot["SnapshotId"]) for snapshot in found}
    return InAws(
        state=str(image["State"]),
        owner_id=str(image.get("OwnerId", "")),
        creation_date=str(image.get("CreationDate", "")),
        is_public=bool(image.get("Public", False)),
        requires_imdsv2=image.get("ImdsSupport") == "v2.0",
        deprecation_time=image.get("DeprecationTime"),
        deregistration_protection=image.get("DeregistrationProtection"),
        last_launched_time=image.get("LastLaunchedTime"),
        snapshots=tuple(_snapshot(snapshot, tags) for snapshot in found),
        missing_snapshots=tuple(snapshot_id for snapshot_id in named if snapshot_id not in here),
    )


def _snapshot(snapshot: dict[str, Any], tags: Mapping[str, str]) -> Snapshot:
    own = ami.tags_of(snapshot)
    return Snapshot(
        snapshot_id=str(snapshot["SnapshotId"]),
        size_gib=int(snapshot["VolumeSize"]),
        is_encrypted=bool(snapshot["Encrypted"]),
        has_tags_of_image=all(own.get(key) == value for key, value in tags.items()),
    )


def _with_evidence(explanation: Explanation, settings: Settings) -> Explanation:
    ami_id = explanation.ami_id
    folder = evidence.image_folder(settings, ami_id)
    problems = _problems_in_aws(explanation)
    record: ImageRecord | None = None
    proofs: tuple[Proof, ...] = ()
    try:
        record = evidence.read_record(settings, ami_id)
        proofs = tuple(evidence.read_proofs(settings, ami_id))
        if record is not None:
            evidence.read_packages(settings, record)
    except UsageError as error:  # said, and then as much as is known all the same
        problems.append(str(error))
    digest = check_digest(settings, ami_id, explanation.tags.get(TAG_DIGEST))
    if digest.outcome == "differs":
        problems.append(f"The image.json here is not the one that {ami_id} was sealed with; restore it from a copy.")
    return replace(
        explanation,
        reason=record.reason if record else _reason_from_tags(explanation.tags),
        record=record,
        proofs=proofs,
        digest=digest,
        evidence=folder if folder.is_dir() else None,
        problems=tuple(problems),
        not_known=_not_known(explanation, record, proofs, folder),
    )


def _problems_in_aws(explanation: Explanation) -> list[str]:
    aws, problems = explanation.aws, []
    if explanation.state is None:
        problems.append("It was not sealed: its bake did not get to its end, and `invoke reap` removes it.")
    if aws.is_public:
        problems.append("It is public: everybody can launch it; make it private.")
    problems += [
        f"Its snapshot {snapshot_id} is gone, so it cannot be launched." for snapshot_id in aws.missing_snapshots
    ]
    untagged = [snapshot.snapshot_id for snapshot in aws.snapshots if not snapshot.has_tags_of_image]
    if untagged:
        problems.append(f"Its snapshot {', '.join(untagged)} does not carry the image's tags: somebody changed them.")
    return problems


def _reason_from_tags(tags: Mapping[str, str]) -> str:
    return tags.get("gpunodes:reason", f"baked by run {tags.get(TAG_RUN_ID, 'of unknown id')}")


def _not_known(
    explanation: Explanation, record: ImageRecord | None, proofs: tuple[Proof, ...], folder: Path
) -> tuple[str, ...]:
    ami_id, run_id = explanation.ami_id, explanation.tags.get(TAG_RUN_ID, "that made it")
    sentences = []
    if record is None:
        sentences.append(
            f"What is in it is not known here: the machine of run {run_id} has its evidence in"
            f" .gpunodes/evidence/{ami_id}; copy that folder to {folder}."
        )
    if not proofs:
        sentences.append(f"No proof of it is known here; `invoke test-instance --ami {ami_id}` makes one.")
    return tuple(sentences)
