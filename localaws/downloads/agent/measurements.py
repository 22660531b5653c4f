"""Reads memory, swap and file systems from /proc, with the arithmetic of the agent's telegraf plugins."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .configuration import Collection

PROC = Path("/proc")
_KIB = 1024

Values = Mapping[str, float]


@dataclass(frozen=True)
class FileSystem:
    """One line of /proc/self/mounts."""

    device: str
    path: str
    fstype: str


def read_memory(proc: Path = PROC) -> Values:
    """Main memory in bytes and percent; used = total - free - buffers - cached, as in gopsutil."""
    info = _meminfo(proc)
    cached = info["Cached"] + info.get("SReclaimable", 0)
    used = info["MemTotal"] - info["MemFree"] - info["Buffers"] - cached
    return {
        "total": info["MemTotal"],
        "free": info["MemFree"],
        "available": info["MemAvailable"],
        "available_percent": 100 * info["MemAvailable"] / info["MemTotal"],
        "used": used,
        "used_percent": 100 * used / info["MemTotal"],
    }


def read_swap(proc: Path = PROC) -> Values:
    """Swap in bytes and percent; a machine without swap uses 0 % of it, which is what the real agent publishes."""
    info = _meminfo(proc)
    used = info["SwapTotal"] - info["SwapFree"]
    return {
        "total": info["SwapTotal"],
        "free": info["SwapFree"],
        "used": used,
        "used_percent": 100 * used / info["SwapTotal"] if info["SwapTotal"] else 0.0,
    }


def read_disk(path: str, statvfs: Callable[[str], os.statvfs_result] = os.statvfs) -> Values | None:
    """One file system in bytes and percent, as `df` counts; None for one without blocks, such as /proc."""
    stat = statvfs(path)
    if stat.f_blocks == 0:
        return None
    used = stat.f_blocks - stat.f_bfree
    return {
        "total": stat.f_blocks * stat.f_frsize,
        "free": stat.f_bavail * stat.f_frsize,
        "used": used * stat.f_frsize,
        "used_percent": 100 * used / (used + stat.f_bavail) if used + stat.f_bavail else 0.0,
    }


def read_file_systems(proc: Path = PROC) -> Iterator[FileSystem]:
    """The mounted file systems; of several on one path the last, which is the one that is seen."""
    on_top: dict[str, FileSystem] = {}
    for line in (proc / "self/mounts").read_text().splitlines():
        device, path, fstype = line.split()[:3]
        path = path.replace("\\040", " ")
        on_top[path] = FileSystem(device, path, fstype)
    yield from on_top.values()


def read(collection: Collection, proc: Path = PROC) -> Iterator[tuple[dict[str, str], Values]]:
    """What one section collects: dimensions of its own, and values by field.

    Raises:
        OSError: /proc or a file system cannot be read.
    """
    if collection.section == "mem":
        yield {}, read_memory(proc)
    elif collection.section == "swap":
        yield {}, read_swap(proc)
    else:
        yield from _read_disks(collection, proc)


def _read_disks(collection: Collection, proc: Path) -> Iterator[tuple[dict[str, str], Values]]:
    for mounted in read_file_systems(proc):
        if mounted.fstype in collection.ignore_file_system_types:
            continue
        if "*" not in collection.resources and mounted.path not in collection.resources:
            continue
        values = read_disk(mounted.path)
        if values is None:
            continue
        device = {} if collection.drop_device else {"device": mounted.device.removeprefix("/dev/")}
        yield {"path": mounted.path, "fstype": mounted.fstype, **device}, values


def _meminfo(proc: Path) -> dict[str, int]:
    info = {}
    for line in (proc / "meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        info[name] = int(rest.split()[0]) * _KIB
    return info
