"""Whether the image itself is what was sealed: asked of AWS, not of the instance."""

from __future__ import annotations

from gpunodes.evidence.explain import DigestCheck, InAws
from gpunodes.proof.check import Check, check
from gpunodes.recipe import ami


def image_is_sealed(aws: InAws, *, tolerates_missing: bool) -> Check:
    """Whether the image is private, its snapshots are encrypted, and its instances refuse IMDSv1 by themselves.

    Args:
        aws: what AWS says of the image.
        tolerates_missing: whether this API may have no encryption and no ImdsSupport of images (the offline cloud).
    """
    wrong = ["it is public"] if aws.is_public else []
    if aws.missing_snapshots:
        wrong.append(f"its snapshot {', '.join(aws.missing_snapshots)} is gone")
    unanswered: list[str] = []
    if not all(snapshot.is_encrypted for snapshot in aws.snapshots):
        (unanswered if tolerates_missing else wrong).append("a snapshot is not encrypted")
    if not aws.requires_imdsv2:
        (unanswered if tolerates_missing else wrong).append("it does not require IMDSv2")
    evidence = {
        "is_public": aws.is_public,
        "requires_imdsv2": aws.requires_imdsv2,
        "snapshots": [vars(snapshot) for snapshot in aws.snapshots],
        "missing_snapshots": list(aws.missing_snapshots),
    }
    if wrong:
        return check("image_is_sealed", False, "; ".join(wrong), evidence)
    if unanswered:
        reason = f"it is private; that {' and '.join(unanswered)} says nothing here: this API does not keep it"
        return check("image_is_sealed", None, reason, evidence)
    return check("image_is_sealed", True, "private, encrypted, ImdsSupport v2.0", evidence)


def image_is_recorded(digest: DigestCheck) -> Check:
    """Whether the `image.json` here is the one that the image's tag names; a machine without it cannot say."""
    passed = {"matches": True, "differs": False}.get(digest.outcome)
    return check("image_is_recorded", passed, digest.text, {"tagged": digest.tagged, "local": digest.local})


def image_is_still_there(ami_id: str, state: str) -> Check:
    """Whether instances can still be launched from the image at the end.

    Args:
        ami_id: the image.
        state: by `ami.state_now`.
    """
    is_there = state == ami.AVAILABLE
    reason = f"{ami_id} is {state}{'' if is_there else ', and was available when this proof began'}"
    return check("image_is_still_there", is_there, reason, {"state": state})
