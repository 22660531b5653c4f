"""Xids, the driver's error codes: what each of them means, and one of them that happened.

The meanings come from ``xids.toml`` and may be changed by a site's own file. ``xid_counts.py`` counts what the two
sources see: the driver's events (NVML) and the kernel log (``readers/kmsg.py``).
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from gpumon.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

XIDS_FILE = Path(__file__).with_name("xids.toml")
XidClass = Literal["application", "driver", "hardware", "informational", "reset", "reboot", "replace", "unknown"]
XID_CLASSES = ("application", "driver", "hardware", "informational", "reset", "reboot", "replace")
UNKNOWN_XID = 999  # what NVML reports for an error that has no Xid (nvml.h, nvmlEventData_t)
OTHER_XIDS = -1  # stands for every code beyond the number that `XidCounts` tells apart
_GREATEST_XID = 65535
_LONGEST_DESCRIPTION = 200

_CODE = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_PCI_ADDRESS = re.compile(
    r"(?:(?P<domain>[0-9a-f]{4,8}):)?(?P<bus>[0-9a-f]{2}):(?P<device>[0-9a-f]{2})(?:\.(?P<function>[0-9a-f]))?",
)


@dataclass(frozen=True)
class XidInfo:
    """What one code means.

    Attributes:
        code: The Xid.
        description: What happened, in a few words.
        xid_class: What it means for who operates the host, explained in ``xids.toml``; ``"unknown"``: not listed.
        critical: The GPU must not be trusted from here on.
    """

    code: int
    description: str
    xid_class: XidClass
    critical: bool = False


class XidTable:
    """What every code means; a code that is not listed has class ``"unknown"`` and is not critical."""

    def __init__(self, listed: Mapping[int, XidInfo]) -> None:
        self._listed = dict(listed)

    def __getitem__(self, code: int) -> XidInfo:
        """Return what a code means, listed or not."""
        known = self._listed.get(code)
        if known is not None:
            return known
        if code == OTHER_XIDS:
            return XidInfo(code, "More different codes than gpumon tells apart", "unknown")
        return XidInfo(code, "Unknown error", "unknown")

    def critical_count(self, counts: Mapping[int, int]) -> int:
        """Return how many of the counted Xids (code -> number) are critical."""
        return sum(count for code, count in counts.items() if self[code].critical)

    def __iter__(self) -> Iterator[XidInfo]:
        """Yield every listed code, ascending."""
        return (self._listed[code] for code in sorted(self._listed))

    def __len__(self) -> int:
        return len(self._listed)

    def __contains__(self, code: object) -> bool:
        return code in self._listed


@dataclass(frozen=True)
class XidEvent:
    """One Xid that happened.

    Attributes:
        gpu_uuid: The GPU, where the source knows it (NVML does).
        pci_bus_id: Its address in the form of `normal_pci_bus_id`, where the source knows it (the kernel log does).
        xid: The code; 999 from NVML: an error without one.
        unix_seconds: When it happened.
        gpu_instance_id: The MIG instance that it hit, or None.
        source: Who saw it.
        text: What the kernel log says after the code; empty from NVML.
    """

    gpu_uuid: str | None
    pci_bus_id: str | None
    xid: int
    unix_seconds: float
    gpu_instance_id: int | None
    source: Literal["nvml", "kmsg"]
    text: str = ""


@dataclass(frozen=True)
class BusLoss:
    """The kernel log says that a GPU has fallen off the bus, in a line other than that of an Xid.

    It is not Xid 79 and not counted as one: often it is the only trace of the loss (a GPU that is gone when the driver
    probes it gets no Xid), often it follows an Xid 79. As a finding of its own it hides nothing and doubles nothing.
    """

    gpu_uuid: str | None
    pci_bus_id: str | None
    unix_seconds: float
    text: str = ""


def normal_pci_bus_id(text: str) -> str | None:
    """Return a PCI address as sysfs writes it (``0000:3b:00.0``), or None if `text` is none.

    Takes what is around: ``PCI:0000:3b:00`` and ``0000:3b:00`` (kernel log), ``00000000:3B:00.0`` (NVML), ``3b:00.0``.
    """
    found = _PCI_ADDRESS.fullmatch(text.strip().lower().removeprefix("pci:"))
    if found is None:
        return None
    domain = int(found["domain"] or "0", 16)
    return f"{domain:04x}:{found['bus']}:{found['device']}.{found['function'] or '0'}"


def load_xids(site_file: Path | None = None, path: Path = XIDS_FILE) -> XidTable:
    """Return the table of codes.

    Args:
        site_file: A file of the same form whose entries replace or add to those of `path` (setting ``xid_table``).
        path: The table that comes with gpumon.

    Raises:
        SettingsError: A file cannot be read, or an entry is wrong; the message names the code.
    """
    listed = _read(path)
    if site_file is not None:
        listed.update(_read(site_file))
    return XidTable(listed)


def _read(path: Path) -> dict[int, XidInfo]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    # ValueError: no UTF-8, no TOML, or a number of thousands of digits; RecursionError: thousands of brackets.
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"Repair the table of Xids {path}: {error}.") from error
    infos = (_info(key, table, path) for key, table in tables.items())
    return {info.code: info for info in infos}


def _info(key: str, table: object, path: Path) -> XidInfo:
    where = f"Xid {key} in {path}"
    if not _CODE.fullmatch(key) or int(key) > _GREATEST_XID:
        raise SettingsError(f"Name each table of {path} after its code, 1 to {_GREATEST_XID}: {key!r} is none.")
    if not isinstance(table, dict):
        raise SettingsError(f"Write {where} as a table: it is {type(table).__name__}.")
    known = sorted({"class" if field.name == "xid_class" else field.name for field in fields(XidInfo)} - {"code"})
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise SettingsError(f"Remove or correct {unknown[0]!r} of {where}: it has {', '.join(known)}.")
    description = table.get("description")
    if not isinstance(description, str) or not description.strip() or not description.isprintable():
        raise SettingsError(f"Give {where} a description of one line.")
    if len(description) > _LONGEST_DESCRIPTION:
        raise SettingsError(f"Shorten the description of {where} to {_LONGEST_DESCRIPTION} characters.")
    xid_class = table.get("class")
    if xid_class not in XID_CLASSES:
        raise SettingsError(f"Give {where} one of the classes {', '.join(XID_CLASSES)}: it has {xid_class!r}.")
    critical = table.get("critical", False)
    if not isinstance(critical, bool):
        raise SettingsError(f"Set critical of {where} to true or false: it is {critical!r}.")
    return XidInfo(int(key), description, cast("XidClass", xid_class), critical)
