"""The instances' network: a router namespace with a bridge, one namespace for each instance, one link to this machine.

The metadata address 169.254.169.254 exists in the router namespace only. This machine keeps its own (it may be an EC2
instance itself); it reaches the subnet through the link `localaws0` and nothing else. The namespaces are bind mounts in
the daemon's private mount namespace: when the daemon ends, however it ends, the kernel removes them all and the link
with them. A connection whose other end vanished would hold the router namespace for 100 s more, so there the kernel
gives up early.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from localaws.commands import run
from localaws.errors import LocalAwsError
from localaws.layout import HOST_ADDRESS, HOST_LINK, METADATA_ADDRESS, ROUTER_ADDRESS, SUBNET_CIDR

T = TypeVar("T")

ROUTER = "router"
_BRIDGE = "instances"
_BRIDGE_MAC = "02:00:00:00:00:fe"
_CLONE_NEWNET = 0x40000000
_NAMESPACES = Path("/run/netns")
_LIBC = ctypes.CDLL(None, use_errno=True)
_PREFIX_LENGTH = ipaddress.ip_network(SUBNET_CIDR).prefixlen


def create_router() -> None:
    """Make the router namespace, its bridge and the link to this machine.

    Raises:
        CommandFailed: the link exists, or the kernel lacks bridges or namespaces.
    """
    run(["ip", "netns", "add", ROUTER])
    _forget_lost_connections_early()
    _batch(
        [
            "link set lo up",
            # An address of its own: else it takes the least of its ports', which changes as instances come and go, and
            # for seconds the others send what is for the router to nobody.
            f"link add {_BRIDGE} address {_BRIDGE_MAC} type bridge forward_delay 0 stp_state 0",
            f"address add {ROUTER_ADDRESS}/{_PREFIX_LENGTH} dev {_BRIDGE}",
            f"address add {METADATA_ADDRESS}/32 dev {_BRIDGE}",
            f"link set {_BRIDGE} up",
        ],
        namespace=ROUTER,
    )
    _batch([f"link add {HOST_LINK} type veth peer name host netns {ROUTER}"])
    _batch([f"link set host master {_BRIDGE}", "link set host up"], namespace=ROUTER)
    _batch([f"address add {HOST_ADDRESS}/{_PREFIX_LENGTH} dev {HOST_LINK}", f"link set {HOST_LINK} up"])


def delete_router() -> None:
    """Remove what `create_router` made, the link at once: the kernel removes the namespace in its own time."""
    run(["ip", "link", "delete", HOST_LINK])
    run(["ip", "netns", "delete", ROUTER])


def _forget_lost_connections_early() -> None:
    """Let a closed connection whose other end does not answer go after one more try (2 s) instead of eight (103 s)."""
    _in_router(lambda: Path("/proc/sys/net/ipv4/tcp_orphan_retries").write_text("1\n"))


def connect_instance(instance_id: str, address: str, mac_address: str) -> Path:
    """Make an instance's namespace with `eth0` addressed as the API says, connected to the bridge.

    Returns:
        The file that `systemd-nspawn --network-namespace-path` takes.
    """
    run(["ip", "netns", "add", instance_id])
    port = f"v{instance_id[-13:]}"  # interface names end after 15 characters
    _batch([f"link add {port} type veth peer name eth0 netns {instance_id}"], namespace=ROUTER)
    _batch([f"link set {port} master {_BRIDGE}", f"link set {port} up"], namespace=ROUTER)
    _batch(
        [
            "link set lo up",
            f"link set eth0 address {mac_address}",
            f"address add {address}/{_PREFIX_LENGTH} dev eth0",
            "link set eth0 up",
            f"route add default via {ROUTER_ADDRESS}",
        ],
        namespace=instance_id,
    )
    return _NAMESPACES / instance_id


def disconnect_instance(instance_id: str) -> None:
    """Remove the instance's namespace and with it its link."""
    if (_NAMESPACES / instance_id).exists():
        run(["ip", "netns", "delete", instance_id])


def on_subnet(address: str) -> bool:
    """Whether an address is one that an instance here can have."""
    network = ipaddress.ip_network(SUBNET_CIDR)
    # EC2 keeps the first four and the last for itself; here the router and this machine have two of them.
    reserved = {network[0], network[1], network[2], network[3], network[-1]}
    return ipaddress.ip_address(address) in network and ipaddress.ip_address(address) not in reserved


def listen_in_router(address: str, port: int) -> socket.socket:
    """A TCP socket that listens in the router namespace, where only instances and this machine's link reach it."""
    try:
        return _in_router(lambda: socket.create_server((address, port), backlog=128))
    except OSError as error:
        raise LocalAwsError(f"Nothing can listen on {address}:{port} in the router namespace: {error}.") from error


def _in_router(work: Callable[[], T]) -> T:
    """Do something in the router namespace; a thread of its own, since one that cannot come back must not go on."""

    def inside() -> T:
        with _inside(ROUTER):
            return work()

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="router") as pool:
        return pool.submit(inside).result()


@contextmanager
def _inside(namespace: str) -> Iterator[None]:
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(_NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(there)
        yield
        _enter(here)
    finally:
        os.close(there)
        os.close(here)


def _enter(namespace_descriptor: int) -> None:
    if _LIBC.setns(namespace_descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _batch(lines: list[str], *, namespace: str | None = None) -> None:
    inside = ["-netns", namespace] if namespace else []
    run(["ip", *inside, "-batch", "-"], input="\n".join(lines) + "\n")
