from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.errors import SettingsError
from gpumon.xids import OTHER_XIDS, UNKNOWN_XID, XID_CLASSES, XidInfo, load_xids, normal_pci_bus_id

if TYPE_CHECKING:
    from pathlib import Path

# aws/eks-node-monitoring-agent, without 63, which NVIDIA says to ignore.
EKS_FATAL = (46, 48, 54, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 142, 143, 151, 155, 156, 158)


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    return tmp_path / "site.toml"


def test_the_table_covers_the_catalog() -> None:
    table = load_xids()

    codes = [info.code for info in table]
    assert len(table) == len(codes) == 157
    assert codes == sorted(codes)
    assert {info.xid_class for info in table} == set(XID_CLASSES)


def test_a_gpu_that_needs_a_reset_or_more_is_critical_and_no_other() -> None:
    assert all(info.critical == (info.xid_class in {"reset", "reboot", "replace"}) for info in load_xids())


@pytest.mark.parametrize("code", EKS_FATAL)
def test_what_others_call_fatal_is_critical(code: int) -> None:
    assert load_xids()[code].critical


@pytest.mark.parametrize("code", [13, 31, 43, 45, 68])
def test_faults_of_applications_are_not_critical(code: int) -> None:
    assert load_xids()[code].xid_class == "application"


@pytest.mark.parametrize("code", [0, 5, UNKNOWN_XID, 10**6])
def test_an_unlisted_code_is_unknown_and_not_critical(code: int) -> None:
    table = load_xids()

    assert table[code] == XidInfo(code, "Unknown error", "unknown")
    assert code not in table
    assert table[OTHER_XIDS].xid_class == "unknown"


def test_a_site_replaces_entries_and_adds_others(site_file: Path) -> None:
    site_file.write_text(
        '[63]\ndescription = "Row remapped"\nclass = "replace"\ncritical = true\n'
        '[400]\ndescription = "New"\nclass = "driver"\n'
    )

    table = load_xids(site_file)

    assert table[63] == XidInfo(63, "Row remapped", "replace", critical=True)
    assert table[400] == XidInfo(400, "New", "driver")
    assert table[79] == load_xids()[79]
    assert len(table) == len(load_xids()) + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[48", "Repair the table of Xids"),
        ("x = " + "[" * 100_000, "Repair the table of Xids"),
        ('[abc]\ndescription = "a"\nclass = "driver"', "1 to 65535: 'abc' is none"),
        ('[0]\ndescription = "a"\nclass = "driver"', "'0' is none"),
        ('[048]\ndescription = "a"\nclass = "driver"', "'048' is none"),
        ('[65536]\ndescription = "a"\nclass = "driver"', "'65536' is none"),
        ('["\u0664"]\ndescription = "a"\nclass = "driver"', "is none"),
        ("48 = 1", "Write Xid 48 in .* as a table: it is int"),
        ('[48]\ndescription = "a"\nclass = "driver"\nseverity = 1', "'severity' of Xid 48"),
        ('[48]\nclass = "driver"', "Give Xid 48 in .* a description"),
        ('[48]\ndescription = " "\nclass = "driver"', "Give Xid 48 in .* a description"),
        ('[48]\ndescription = "a\\nb"\nclass = "driver"', "a description of one line"),
        (f'[48]\ndescription = "{"a" * 201}"\nclass = "driver"', "Shorten the description of Xid 48"),
        ('[48]\ndescription = "a"', "Give Xid 48 in .* one of the classes application, .*: it has None"),
        ('[48]\ndescription = "a"\nclass = "unknown"', "it has 'unknown'"),
        ('[48]\ndescription = "a"\nclass = []', r"it has \[\]"),
        ('[48]\ndescription = "a"\nclass = "reset"\ncritical = 1', "Set critical of Xid 48 in .* it is 1"),
    ],
)
def test_a_wrong_table_names_the_code(site_file: Path, text: str, message: str) -> None:
    site_file.write_text(text)

    with pytest.raises(SettingsError, match=message):
        load_xids(site_file)


def test_a_table_that_cannot_be_read_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "latin1").write_bytes(b'[48]\ndescription = "\xe4"')

    for name in ("absent", "latin1", "."):
        with pytest.raises(SettingsError, match=re.escape(f"Repair the table of Xids {tmp_path / name}")):
            load_xids(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("PCI:0000:3b:00", "0000:3b:00.0"),
        ("PCI:0000:00:1e.0", "0000:00:1e.0"),
        ("0000:00:1e", "0000:00:1e.0"),
        ("00000000:3B:00.0", "0000:3b:00.0"),
        ("00010000:3B:00.1", "10000:3b:00.1"),
        ("3b:00.0", "0000:3b:00.0"),
        (" pci:0000:3b:00 ", "0000:3b:00.0"),
        ("", None),
        ("PCI:", None),
        ("0013", None),
        ("0000:3b:0g", None),
        ("0000:3b:00.0x", None),
        ("\u0660000:3b:00.0", None),  # a digit, but no ASCII one
    ],
)
def test_addresses_have_one_form(text: str, normal: str | None) -> None:
    assert normal_pci_bus_id(text) == normal


@given(st.text())
def test_any_text_is_an_address_in_normal_form_or_none(text: str) -> None:
    normal = normal_pci_bus_id(text)

    assert normal is None or normal_pci_bus_id(normal) == normal
