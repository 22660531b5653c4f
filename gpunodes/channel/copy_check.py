"""Whether a copy of an image in another region is what it was copied from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpunodes.recipe import ami

_SAME = (
    "Architecture",
    "BootMode",
    "EnaSupport",
    "SriovNetSupport",
    "TpmSupport",
    "VirtualizationType",
    "RootDeviceType",
    "RootDeviceName",
)
_IMDS = "v2.0"
_COMPLETED = "completed"


def differences(
    source: Mapping[str, Any],
    source_snapshots: Sequence[Mapping[str, Any]],
    copy: Mapping[str, Any],
    copy_snapshots: Sequence[Mapping[str, Any]],
    tags: Mapping[str, str],
) -> list[str]:
    """What is wrong with a copy, each as `is ...` or `has ...`; empty where nothing is.

    Args:
        source: as in DescribeImages.
        source_snapshots: of it, as in DescribeSnapshots.
        copy: as in DescribeImages, in its own region.
        copy_snapshots: of it, as in DescribeSnapshots.
        tags: that it must have.
    """
    found = [] if copy.get("State") == ami.AVAILABLE else [f"is {copy.get('State', 'gone')}"]
    found += [f"has {name} {copy.get(name)}, not {source.get(name)}" for name in _SAME if _differs(name, source, copy)]
    if copy.get("ImdsSupport") != _IMDS:
        found.append(f"has ImdsSupport {copy.get('ImdsSupport')}, not {_IMDS}")
    if copy.get("SourceImageId", source["ImageId"]) != source["ImageId"]:
        found.append(f"is a copy of {copy['SourceImageId']}")
    found += _of_volumes(source, copy)
    found += _of_snapshots(source_snapshots, copy, copy_snapshots)
    has = ami.tags_of(dict(copy))
    found += [
        f"has {has.get(key, 'nothing')} in its tag {key}, not {value}"
        for key, value in tags.items()
        if has.get(key) != value
    ]
    return found


def _differs(name: str, source: Mapping[str, Any], copy: Mapping[str, Any]) -> bool:
    return bool(copy.get(name) != source.get(name))


def _of_volumes(source: Mapping[str, Any], copy: Mapping[str, Any]) -> list[str]:
    expected, found = _sizes_gib(source), _sizes_gib(copy)
    return [] if found == expected else [f"has volumes of {found} GiB, not {expected}"]


def _sizes_gib(image: Mapping[str, Any]) -> dict[str, int]:
    """Device -> size."""
    mappings = image.get("BlockDeviceMappings", [])
    return {each["DeviceName"]: int(each["Ebs"].get("VolumeSize", 0)) for each in mappings if "Ebs" in each}


def _of_snapshots(
    source_snapshots: Sequence[Mapping[str, Any]], copy: Mapping[str, Any], copy_snapshots: Sequence[Mapping[str, Any]]
) -> list[str]:
    there = {snapshot["SnapshotId"]: snapshot for snapshot in copy_snapshots}
    wanted = ami.snapshots_of(dict(copy))
    if not wanted:
        return ["has no snapshot"]
    found = [f"has no snapshot {snapshot_id}" for snapshot_id in wanted if snapshot_id not in there]
    for snapshot_id, snapshot in there.items():
        if snapshot.get("State") != _COMPLETED:
            found.append(f"has the snapshot {snapshot_id}, which is {snapshot.get('State')}")
    if any(snapshot["Encrypted"] for snapshot in source_snapshots):
        plain = [snapshot_id for snapshot_id, snapshot in there.items() if not snapshot["Encrypted"]]
        found += [f"has the snapshot {snapshot_id}, which is not encrypted" for snapshot_id in plain]
    return found
