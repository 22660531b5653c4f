"""What this machine must offer before anything is started; each check says in a sentence what to do."""

from __future__ import annotations

import os
import shutil
import socket
import time
from pathlib import Path

from localaws.commands import run
from localaws.errors import PreflightError
from localaws.layout import (
    HOST_ADDRESS,
    HOST_LINK,
    PORT_VARIABLE,
    STATE_FOLDER_VARIABLE,
    SUBNET_CIDR,
    Layout,
    port_from_environment,
)

_PACKAGE_OF_TOOL = {
    "dpkg-deb": "dpkg",
    "gcc": "gcc",
    "gpg": "gpg",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
}
_EVERYWHERE = ("default", "0.0.0.0/1", "128.0.0.0/1")  # the halves are how a VPN says default
_LINK_GOES_SECONDS = 3.0
_NEEDED_BYTES = 2 * 2**30


def check_root(user_id: int | None = None) -> None:
    """Namespaces, mounts and control groups are root's.

    Args:
        user_id: whom to check; without it the effective user of this process.

    Raises:
        PreflightError: this is not root.
    """
    if (os.geteuid() if user_id is None else user_id) != 0:
        raise PreflightError("The offline cloud boots instances, which needs root; run it with sudo.")


def check(layout: Layout) -> None:
    """Every check, in the order in which a person would want to mend them.

    Raises:
        PreflightError: with the first thing that is missing.
    """
    check_tools()
    check_disk(layout.state)
    check_port()
    check_network(layout)


def check_tools() -> None:
    """Every program that will be started is installed."""
    missing = sorted({package for tool, package in _PACKAGE_OF_TOOL.items() if shutil.which(tool) is None})
    if missing:
        raise PreflightError(f"The offline cloud needs {', '.join(missing)}; run scripts/bootstrap, which installs it.")


def check_disk(state: Path, needed_bytes: int = _NEEDED_BYTES) -> None:
    """The state folder's file system has room and can carry an overlay."""
    existing = next(path for path in (state, *state.parents) if path.exists())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes:
        raise PreflightError(
            f"{existing} has {free_bytes / 2**30:.1f} GiB free and the offline cloud needs"
            f" {needed_bytes / 2**30:.0f} GiB; make room, or set {STATE_FOLDER_VARIABLE} to a folder on a larger disk."
        )
    if run(["stat", "--file-system", "--format=%T", str(existing)]).strip() in {"overlayfs", "nfs"}:
        raise PreflightError(
            f"{existing} lies on a file system that cannot carry an overlay; set {STATE_FOLDER_VARIABLE} to a folder on"
            " a local disk (ext4, xfs)."
        )


def check_port() -> None:
    """The API's loopback port is free."""
    try:
        port = port_from_environment()
    except ValueError as error:
        raise PreflightError(f"{PORT_VARIABLE} is no port number: {error}; set it to one like 4566.") from error
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise PreflightError(
            f"Port {port} on 127.0.0.1 is taken by another program; end it, or set {PORT_VARIABLE} to a free port."
        ) from error


def check_network(
    layout: Layout, network_folder: Path = Path("/sys/class/net"), patience_seconds: float = _LINK_GOES_SECONDS
) -> None:
    """Neither the link's name nor the subnet is in use."""
    deadline = time.monotonic() + patience_seconds
    while (network_folder / HOST_LINK).exists():
        if time.monotonic() > deadline:
            raise PreflightError(
                f"The network interface {HOST_LINK} exists already: the offline cloud of another state folder than"
                f" {layout.state} is up (take it down), or something else made it (`ip link delete {HOST_LINK}`)."
            )
        time.sleep(0.05)
    routes = run(["ip", "route", "show", "to", "root", SUBNET_CIDR])
    routes += run(["ip", "route", "show", "to", "match", HOST_ADDRESS])
    taken = [line for line in routes.splitlines() if line.strip() and not line.startswith(_EVERYWHERE)]
    if taken:
        raise PreflightError(f"This machine routes {SUBNET_CIDR} elsewhere ({taken[0].strip()}); remove that route.")
