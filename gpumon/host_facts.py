"""What there is on this host, before anybody judges it (``gpumon check``)."""

from __future__ import annotations

import ctypes
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LIBRARY = "libnvidia-ml.so.1"


@dataclass(frozen=True)
class DriverFacts:
    """What there is of a driver on this host, whether it answers or not.

    Attributes:
        module_version: Version of the kernel module that is loaded ("" if it does not say), or None: none is.
        has_library: Whether ``libnvidia-ml.so.1`` can be loaded.
    """

    module_version: str | None
    has_library: bool


@dataclass(frozen=True)
class StateFacts:
    """What there is of the state directory and the spool in it.

    Attributes:
        directory: Where it is; "" if nothing is kept on disk.
        problem: Why it cannot be written; "" if it can.
        waiting_count: Datums that wait to be sent.
        oldest_age_seconds: Age of the oldest of them, or None.
        is_hidden: Whether there may be one that this user may not see.
    """

    directory: str
    problem: str = ""
    waiting_count: int = 0
    oldest_age_seconds: float | None = None
    is_hidden: bool = False


@dataclass(frozen=True)
class HostFacts:
    """What the checks take as given.

    Attributes:
        expected_gpu_count: GPUs that this host should have (PCI bus and inventory); None: cannot be known.
        driver: What there is of a driver.
        region: The Region from the settings, or "".
        state: The state directory, or None if it is not to be looked at.
        is_released: Whether ``gpumon release`` holds; then the driver is not touched.
        publishes_to_cloudwatch: Whether it matters who this host is to AWS.
        xid_critical_counts: Critical Xids since the host booted, by UUID of the GPU.
    """

    expected_gpu_count: int | None
    driver: DriverFacts
    region: str = ""
    state: StateFacts | None = None
    is_released: bool = False
    publishes_to_cloudwatch: bool = True
    xid_critical_counts: Mapping[str, int] = field(default_factory=dict)


def find_driver(module: Path = Path("/sys/module/nvidia"), library: str = LIBRARY) -> DriverFacts:
    """Look for the kernel module and the library; neither touches a GPU."""
    try:
        version: str | None = (module / "version").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        version = "" if module.exists() else None
    try:
        ctypes.CDLL(library)
    except OSError:
        return DriverFacts(version, has_library=False)
    return DriverFacts(version, has_library=True)


def write_problem(directory: Path) -> str:
    """Say why no file can be written in a directory, "" if one can; leaves nothing behind."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(4096))
    except OSError as error:
        return str(error)
    return ""
