from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.readers.kmsg_lines import GpuAddress, KmsgRecord, finding, record_of
from gpumon.xids import BusLoss, XidEvent

NOW = 1_700_000_000.0
ADDRESS = "0000:3b:00.0"


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (b"6,1530,6127698028,-;NVRM: loading", KmsgRecord(1530, 6127698028, b"NVRM: loading")),
        (b"3,0,0,c,caller=T1;a;b", KmsgRecord(0, 0, b"a;b")),
        (b"6,1,2,-;", KmsgRecord(1, 2, b"")),
        (b" SUBSYSTEM=pci", None),
        (b" DEVICE=+pci:0000:3b:00.0", None),
        (b"", None),
        (b"NVRM: Xid (PCI:0000:3b:00): 79, no header", None),
        (b"6,x,2,-;text", None),
        (b"6,1,2,-", None),
        (b"6," + b"9" * 21 + b",2,-;text", None),
    ],
)
def test_lines(line: bytes, record: KmsgRecord | None) -> None:
    assert record_of(line) == record


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
            (ADDRESS, 79, None, "pid='<unknown>', name=<unknown>, GPU has fallen off the bus."),
        ),
        ("NVRM: Xid (PCI:00000000:3b:00.0): 31, pid=1", (ADDRESS, 31, None, "pid=1")),
        ("NVRM: Xid (0000:3B:00): 14, Channel 00000001", (ADDRESS, 14, None, "Channel 00000001")),
        (
            "NVRM: Xid (PCI:0000:3b:00): 119, pid=2, name=nvc:[driver], Timeout after 6s of waiting for RPC response!",
            (ADDRESS, 119, None, "pid=2, name=nvc:[driver], Timeout after 6s of waiting for RPC response!"),
        ),
        ("NVRM: Xid (PCI:0000:3b:00 GPU-I:05): 94, pid=7194, Contained", (ADDRESS, 94, 5, "pid=7194, Contained")),
        ("NVRM: Xid (PCI:0000:3b:00 GPU-I:05 GPU-CI:00): 43", (ADDRESS, 43, 5, "")),
        ("nvidia: NVRM: Xid (PCI:0000:3b:00): 8", (ADDRESS, 8, None, "")),
        ("NVRM: Xid (0013): 8, x", (None, 8, None, "x")),
        (r"NVRM: Xid (PCI:0000:3b:00): 13, name=\xc3\xa4\x0a\x5cx", (ADDRESS, 13, None, "name=ä \\x")),
        (r"NVRM: Xid (PCI:0000:3b:00): 13, \xff\xfe", (ADDRESS, 13, None, "\ufffd\ufffd")),
        ("NVRM: Xid (PCI:0000:3b:00): 13, " + "a" * 9000, (ADDRESS, 13, None, "a" * 300)),
    ],
)
def test_xids(text: str, expected: tuple[str | None, int, int | None, str]) -> None:
    address, xid, instance, rest = expected

    assert finding(text.encode(), NOW) == XidEvent(None, address, xid, NOW, instance, "kmsg", rest)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.", ADDRESS),
        ("NVRM: GPU at PCI:0000:3b:00.0 has fallen off the bus.", ADDRESS),
        (
            r"NVRM: The NVIDIA GPU 0000:3b:00.0\x0aNVRM: (PCI ID: 10de:26b5) installed\x0aNVRM: fallen off the bus",
            ADDRESS,
        ),
        ("NVRM: fallen off the bus and is not responding to commands.", None),
    ],
)
def test_a_loss_without_an_xid_is_a_finding_of_its_own(text: str, address: str | None) -> None:
    found = finding(text.encode(), NOW)

    assert isinstance(found, BusLoss)
    assert (found.pci_bus_id, found.unix_seconds) == (address, NOW)
    assert "fallen off the bus" in found.text
    assert found.text.isprintable()


def test_the_driver_says_which_gpu_sits_where() -> None:
    uuid = "GPU-b850f46d-d5ea-c752-ddf3-c4453e44d3f7"

    assert finding(f"NVRM: GPU at PCI:0000:3b:00: {uuid}".encode(), NOW) == GpuAddress(ADDRESS, uuid)
    assert finding(f"NVRM: GPU at nowhere: {uuid}".encode(), NOW) is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.163.01",
        b"NVRM: Xid (PCI:0000:3b:00): none",
        b"NVRM: Xid (PCI:0000:3b:00): " + b"9" * 10,
        b"NVRM: Xid PCI:0000:3b:00: 79",
        b"usb 1-1: device has fallen off the bus",
        b"Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus",
    ],
)
def test_other_lines_say_nothing(text: bytes) -> None:
    assert finding(text, NOW) is None


@pytest.mark.parametrize(
    "piece",
    [b"NVRM: Xid (", b"NVRM: Xid (PCI:0000:3b:00 GPU-I:", b"NVRM: GPU at ", b"\\x0a", b"NVRM: ", b"0000:", b" "],
)
def test_a_hostile_line_takes_no_longer_than_a_long_one(piece: bytes) -> None:
    began = time.process_time()

    finding(b"NVRM: Xid (" + piece * (65536 // len(piece)), NOW)
    record_of(b"6,1,2," + piece * (65536 // len(piece)))

    assert time.process_time() - began < 1


@given(st.binary() | st.binary().map(lambda junk: b"NVRM: Xid (PCI:0000:3b:00): 79, " + junk))
def test_any_bytes_are_read_or_left_alone(text: bytes) -> None:
    record_of(text)
    found = finding(text, NOW)

    if text.startswith(b"NVRM: Xid (PCI:0000:3b:00): 79, "):
        assert isinstance(found, XidEvent)
        assert found.xid == 79
        assert found.text.isprintable()
