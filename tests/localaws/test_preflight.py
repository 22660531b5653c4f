from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from localaws import preflight
from localaws.errors import PreflightError
from localaws.layout import Layout


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which programs are found; it has every one that is needed, each of which prints nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in (*preflight._PACKAGE_OF_TOOL, "stat"):
        write_program(folder / name, "")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_root_may_and_others_are_told_how() -> None:
    preflight.check_root(0)
    with pytest.raises(PreflightError, match="run it with sudo") as caught:
        preflight.check_root(1000)
    assert caught.value.exit_code == 2


def test_missing_tools_are_named_by_package(programs: Path) -> None:
    preflight.check_tools()
    for name in ("systemd-nspawn", "ip"):
        (programs / name).unlink()

    with pytest.raises(PreflightError, match="needs iproute2, systemd-container; run scripts/bootstrap"):
        preflight.check_tools()


def test_disk_must_have_room_where_the_state_folder_will_be(tmp_path: Path, programs: Path) -> None:
    free_bytes = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    write_program(programs / "stat", "echo ext2/ext3")

    preflight.check_disk(tmp_path / "not/yet/made", needed_bytes=1)
    with pytest.raises(PreflightError, match=f"^{tmp_path} has .* GiB free .* set LOCALAWS_STATE") as caught:
        preflight.check_disk(tmp_path / "not/yet/made", needed_bytes=free_bytes * 2 + 2**40)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize("kind", ["overlayfs", "nfs"])
def test_file_system_must_carry_an_overlay(tmp_path: Path, programs: Path, kind: str) -> None:
    write_program(programs / "stat", f"echo {kind}")

    with pytest.raises(PreflightError, match="cannot carry an overlay; set LOCALAWS_STATE"):
        preflight.check_disk(tmp_path, needed_bytes=1)


def test_port_that_is_taken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setenv("LOCALAWS_PORT", str(port))
        with pytest.raises(PreflightError, match=rf"^Port {port} on 127\.0\.0\.1 is taken .* set LOCALAWS_PORT"):
            preflight.check_port()
    preflight.check_port()


def test_port_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALAWS_PORT", "http")

    with pytest.raises(PreflightError, match=r"^LOCALAWS_PORT is no port number: http; set it to one like 4566"):
        preflight.check_port()


def test_interface_that_exists_already_is_named(tmp_path: Path, programs: Path) -> None:
    (tmp_path / "net/localaws0").mkdir(parents=True)

    with pytest.raises(PreflightError, match="interface localaws0 exists already"):
        preflight.check_network(Layout(tmp_path), tmp_path / "net", patience_seconds=0)
    (tmp_path / "net/localaws0").rmdir()
    preflight.check_network(Layout(tmp_path), tmp_path / "net", patience_seconds=0)
    assert programs.is_dir()


@pytest.mark.parametrize("route", ["default via 192.0.2.1 dev eth0", "128.0.0.0/1 via 10.8.0.1 dev tun0", ""])
def test_way_to_everywhere_is_not_in_the_way(tmp_path: Path, programs: Path, route: str) -> None:
    write_program(programs / "ip", f"echo '{route}'")

    preflight.check_network(Layout(tmp_path), tmp_path)


@pytest.mark.parametrize("route", ["198.51.100.0/24 dev lab0 scope link", "198.51.0.0/16 via 10.0.0.1 dev eth0"])
def test_subnet_that_is_routed_elsewhere_is_named(tmp_path: Path, programs: Path, route: str) -> None:
    write_program(programs / "ip", f"echo '{route}'")

    with pytest.raises(PreflightError, match=f"routes 198.51.100.0/24 elsewhere \\({route}\\)"):
        preflight.check_network(Layout(tmp_path), tmp_path)
