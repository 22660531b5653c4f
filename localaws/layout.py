"""Where the offline cloud keeps things, and the names and addresses that it uses on this machine."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_STATE_FOLDER = Path("/var/lib/localaws")
STATE_FOLDER_VARIABLE = "LOCALAWS_STATE"
PORT_VARIABLE = "LOCALAWS_PORT"
DEFAULT_PORT = 4566

REGION = "us-east-1"
ACCESS_KEY_ID = "localaws"
SECRET_ACCESS_KEY = "localaws"  # noqa: S105 - moto accepts any; a real account refuses this one

SUBNET_CIDR = "198.51.100.0/24"
"""TEST-NET-2 (RFC 5737): never routed on the Internet, so instances can collide with nothing."""
ROUTER_ADDRESS = "198.51.100.1"
"""The instances' gateway, and the address at which they find the API and the downloads."""
HOST_ADDRESS = "198.51.100.2"
"""This machine's own address on the subnet: EC2 reserves .1 to .3, so no instance ever gets it."""
METADATA_ADDRESS = "169.254.169.254"
DOWNLOADS_PORT = 8080

HOST_LINK = "localaws0"
"""The only network interface that the offline cloud adds to this machine."""


@dataclass(frozen=True)
class Layout:
    """Paths below one state folder.

    Attributes:
        state: the folder; `cache/` in it survives `down`, `run/` does not.
    """

    state: Path

    @classmethod
    def from_environment(cls) -> Layout:
        """The state folder named by $LOCALAWS_STATE, else /var/lib/localaws."""
        return cls(Path(os.environ.get(STATE_FOLDER_VARIABLE) or DEFAULT_STATE_FOLDER).absolute())

    @property
    def lock(self) -> Path:
        """Held (flock) by the daemon for as long as it lives."""
        return self.state / "lock"

    @property
    def control_group(self) -> str:
        """Name of the control group of all machines; the state folder is part of it, so that no two clouds mix."""
        return f"localaws-{hashlib.sha256(str(self.state).encode()).hexdigest()[:8]}"

    @property
    def cache(self) -> Path:
        """What is expensive to make again: the base system, the driver, the downloads."""
        return self.state / "cache"

    @property
    def run(self) -> Path:
        """What belongs to one `up`; gone after `down`."""
        return self.state / "run"

    @property
    def images(self) -> Path:
        """One folder for each image that was made from an instance."""
        return self.run / "images"

    @property
    def second_base(self) -> Path:
        """What the second release of the base image adds to the first."""
        return self.run / "base-2"

    @property
    def machines(self) -> Path:
        """One folder for each instance that has a machine."""
        return self.run / "machines"

    @property
    def daemon_log(self) -> Path:
        """What the daemon printed."""
        return self.run / "daemon.log"

    @property
    def daemon_process_id(self) -> Path:
        """Written by the daemon before anything else."""
        return self.run / "daemon.pid"

    @property
    def daemon_facts(self) -> Path:
        """Written by the daemon once every part answers: JSON of `cloud.Facts`."""
        return self.run / "daemon.json"


def port_from_environment() -> int:
    """The loopback port of the API: $LOCALAWS_PORT, else 4566.

    Raises:
        ValueError: the variable holds something else than a port number.
    """
    text = os.environ.get(PORT_VARIABLE) or str(DEFAULT_PORT)
    if not text.isdecimal() or not 0 < int(text[:6]) < 65536:
        raise ValueError(text)
    return int(text)
