"""What a team may choose, in `gpunodes.toml` at the top of the checkout; every key has a default."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path

import tomllib

from gpunodes.errors import UsageError

REPOSITORY = Path(__file__).parents[1]
SSH_KEYS = INSTANCE_CONNECT, KEY_PAIR = ("instance_connect", "key_pair")
SSH_INTERFACES = ("session_manager", "public_ip", "private_ip")
_CHANNEL = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True)
class Settings:
    """Settings of one command.

    Attributes:
        region: AWS region; ignored offline.
        channel: what an image is baked for; one bake at a time.
        flavor: kind of base image, a file of packer/flavors/; ignored offline, where there is one.
        root_volume_size_gib: of the image; 0 for the smallest that the base image allows.
        subnet_id: for bake and test instances; empty for the default VPC's.
        ssh_interface: how the instance that bakes is reached: `session_manager`, `public_ip` or `private_ip`; ignored
            offline.
        ssh_source_cidr: network that may reach SSH on it, such as your address with /32; not for session_manager.
        instance_profile: lets the instance that bakes speak to Session Manager; empty for one of the bake's own.
        ssh_key: how a test instance gets to know the run's key: `instance_connect` pushes it whenever it connects;
            `key_pair` imports it into EC2, for images without the package ec2-instance-connect.
        spot: bake on a spot instance.
        build_instance_type: bakes.
        test_instance_type: proves; its GPUs are what the image is tested with.
        boot_budget_seconds: that the test instance's systemd may take to boot.
        allowed_listeners: what may listen on it for more than loopback, as `port/protocol` with spaces between.
        work_folder: runs, caches and evidence.
    """

    region: str = "us-east-1"
    channel: str = "stable"
    flavor: str = "ubuntu-22.04"
    root_volume_size_gib: int = 0
    subnet_id: str = ""
    ssh_interface: str = "session_manager"
    ssh_source_cidr: str = ""
    instance_profile: str = ""
    ssh_key: str = INSTANCE_CONNECT
    spot: bool = False
    build_instance_type: str = "g4dn.xlarge"
    test_instance_type: str = "g4dn.xlarge"
    boot_budget_seconds: int = 180
    allowed_listeners: str = "22/tcp 9400/tcp 68/udp 546/udp"
    work_folder: Path = REPOSITORY / ".gpunodes"

    @property
    def runs_folder(self) -> Path:
        """One folder for each run, named by its id."""
        return self.work_folder / "runs"

    @property
    def cache_folder(self) -> Path:
        """What can be made again: wheelhouses, Terraform's provider folder."""
        return self.work_folder / "cache"


def load(path: Path = REPOSITORY / "gpunodes.toml") -> Settings:
    """Read the settings; a missing file means the defaults.

    Raises:
        UsageError: the file is no TOML, or has an unknown key or a value of another type.
    """
    if not path.exists():
        return Settings()
    try:
        document = tomllib.loads(path.read_text())
    except ValueError as error:  # no TOML, or no UTF-8
        raise UsageError(f"{path.name} is not valid TOML ({error}); correct that line.") from error
    kinds = {field.name: type(getattr(Settings(), field.name)) for field in fields(Settings)}
    for key, value in document.items():
        if key not in kinds:
            nearest = difflib.get_close_matches(key, kinds, n=1)
            hint = f"did you mean `{nearest[0]}`?" if nearest else f"known are: {', '.join(kinds)}."
            raise UsageError(f"{path.name} has an unknown key `{key}`; {hint}")
        expected = kinds[key] if kinds[key] in _NAMES else str
        if type(value) is not expected:
            raise UsageError(f"{path.name}: `{key}` must be {_NAMES[expected]}, not {value!r}.")
    if document.get("ssh_interface", "public_ip") not in SSH_INTERFACES:
        raise UsageError(f"{path.name}: `ssh_interface` must be one of {', '.join(SSH_INTERFACES)}.")
    if document.get("ssh_key", INSTANCE_CONNECT) not in SSH_KEYS:
        raise UsageError(f"{path.name}: `ssh_key` must be one of {', '.join(SSH_KEYS)}.")
    if not _CHANNEL.fullmatch(document.get("channel", "stable")):
        raise UsageError(f"{path.name}: `channel` must have letters, digits and hyphens only, such as stable.")
    if "work_folder" in document:
        document["work_folder"] = (path.parent / Path(document["work_folder"]).expanduser()).absolute()
    return Settings(**document)


def with_options(settings: Settings, *, channel: str = "", spot: bool = False) -> Settings:
    """The settings as the options of a command change them; an option that was not given changes nothing.

    Raises:
        UsageError: the channel cannot be one.
    """
    if channel and not _CHANNEL.fullmatch(channel):
        raise UsageError(f"`{channel}` cannot be a channel; use letters, digits and hyphens only, such as stable.")
    return replace(settings, channel=channel or settings.channel, spot=spot or settings.spot)


_NAMES = {str: "a text in quotes", int: "a whole number", bool: "true or false"}
