"""The verdict on the image itself: tags on AMI and snapshots say to any machine what was proven, and by what."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.operation.runs import TAG_STATE
from gpunodes.recipe import ami

TAG_PROVEN_AT = "gpunodes:proven-at"
TAG_PROOF_RUN = "gpunodes:proof-run"
TAG_PROOF_DIGEST = "gpunodes:proof-sha256"
TAG_FAILED_REASON = "gpunodes:failed-reason"
_MAY_CHANGE = frozenset({ami.STATE_CANDIDATE, ami.STATE_PROVEN, ami.STATE_FAILED})


def tag_image(
    clients: Clients, image: Mapping[str, Any], *, result: str, reason: str, run_id: str, proof: Path, now: datetime
) -> str:
    """Tag an image and its snapshots with the verdict (CreateTags, DeleteTags).

    Args:
        clients: of the target.
        image: as in DescribeImages.
        result: `passed` or `failed`.
        reason: of a failed verdict, one sentence.
        run_id: of the proof.
        proof: the file whose digest is tagged.
        now: UTC.

    Returns:
        The state that the image has now; empty where it is left alone, since a bake of ours did not make it.

    Raises:
        AwsError: a call was refused.
    """
    state = ami.tags_of(dict(image)).get(TAG_STATE, "")
    if state not in _MAY_CHANGE:
        return ""
    new_state = ami.STATE_PROVEN if result == "passed" else ami.STATE_FAILED
    tags = {
        TAG_STATE: new_state,
        TAG_PROOF_RUN: run_id,
        TAG_PROOF_DIGEST: hashlib.sha256(proof.read_bytes()).hexdigest(),
    }
    if new_state == ami.STATE_PROVEN:
        tags[TAG_PROVEN_AT], stale = now.isoformat(timespec="seconds"), TAG_FAILED_REASON
    else:
        tags[TAG_FAILED_REASON], stale = ami.tag_value(reason), TAG_PROVEN_AT
    resources = [str(image["ImageId"]), *ami.snapshots_of(dict(image))]
    with aws_errors(f"tagging {image['ImageId']} as {new_state}"):
        clients.ec2.create_tags(Resources=resources, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
        clients.ec2.delete_tags(Resources=resources, Tags=[{"Key": stale}])
    return new_state
