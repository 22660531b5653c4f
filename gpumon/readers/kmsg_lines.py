r"""Reads lines of ``/dev/kmsg`` and what NVIDIA's driver says in them. Pure functions; no bytes make them raise.

A record is ``priority,sequence,microseconds,flags;text``; a line that begins with a space belongs to the record before
it. The kernel writes what is not printable as ``\x0a`` (Documentation/ABI/testing/dev-kmsg).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpumon.xids import BusLoss, XidEvent, normal_pci_bus_id

_HEADER = re.compile(rb"\d{1,10},(?P<sequence>\d{1,20}),(?P<microseconds>\d{1,20}),[^;]*;(?P<text>.*)", re.DOTALL)
_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")
_LONGEST_TEXT = 300

# NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
# NVRM: Xid (PCI:0000:01:00 GPU-I:05): 94, pid=7194, Contained: CE User Channel (0x9). RST: No, D-RST: No
# NVRM: Xid (0000:03:00): 14, Channel 00000001
_XID = re.compile(
    # Bounded throughout, lest a hostile line take time quadratic in its length.
    r"NVRM: Xid \((?P<address>[^\s)]{0,32})(?:\s{1,4}GPU-I:(?P<instance>\d{1,5}))?[^)]{0,64}\): (?P<xid>\d{1,9})\b,? ?"
    r"(?P<text>.*)",
    re.DOTALL | re.ASCII,
)
# NVRM: GPU at PCI:0000:03:00: GPU-b850f46d-d5ea-c752-ddf3-c4453e44d3f7
_ADDRESS = re.compile(r"NVRM: GPU at (?P<address>\S{1,32}): (?P<uuid>GPU-[0-9a-f-]{36})\b", re.ASCII)
# NVRM: The NVIDIA GPU 0000:b3:00.0\nNVRM: (PCI ID: 10de:26b5) installed in this system has\nNVRM: fallen off the bus
# NVRM: GPU 0000:01:00.0: GPU has fallen off the bus.
_BUS_LOSS = re.compile(r"\bfallen off the bus\b")
_ANY_ADDRESS = re.compile(r"\b(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}(?:\.[0-9a-f])?\b", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class KmsgRecord:
    """One record of the log: its number, microseconds since boot, and the text as the kernel writes it."""

    sequence: int
    microseconds: int
    text: bytes


@dataclass(frozen=True)
class GpuAddress:
    """The driver says which GPU sits at an address; it does so before a GPU's first Xid."""

    pci_bus_id: str
    uuid: str


def record_of(line: bytes) -> KmsgRecord | None:
    """Return the record that a line begins, or None for a line that continues one or is malformed."""
    found = _HEADER.fullmatch(line)
    if found is None:
        return None
    return KmsgRecord(int(found["sequence"]), int(found["microseconds"]), found["text"])


def finding(text: bytes, unix_seconds: float) -> XidEvent | BusLoss | GpuAddress | None:
    """Return what a record's text says about a GPU, or None."""
    if b"NVRM: " not in text:
        return None
    said = _ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), text).decode(errors="replace")
    xid = _XID.search(said)
    if xid is not None:
        instance = None if xid["instance"] is None else int(xid["instance"])
        pci_bus_id = normal_pci_bus_id(xid["address"])
        return XidEvent(None, pci_bus_id, int(xid["xid"]), unix_seconds, instance, "kmsg", _shown(xid["text"]))
    address = _ADDRESS.search(said)
    if address is not None:
        pci_bus_id = normal_pci_bus_id(address["address"])
        return None if pci_bus_id is None else GpuAddress(pci_bus_id, address["uuid"])
    if _BUS_LOSS.search(said):
        somewhere = _ANY_ADDRESS.search(said)
        return BusLoss(None, normal_pci_bus_id(somewhere[0]) if somewhere else None, unix_seconds, _shown(said))
    return None


def _shown(text: str) -> str:
    """Return one printable line of bounded length."""
    return "".join(c if c.isprintable() else " " for c in text[:_LONGEST_TEXT]).strip()
