"""What a team may choose, in `gpunodes.toml` at the top of the checkout; every key has a default."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from pathlib import Path

import tomllib

from gpunodes.errors import UsageError

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Settings:
    """Settings of one command.

    Attributes:
        region: AWS region; ignored offline.
        source_ami_parameter: public SSM parameter that names the base image on AWS.
        ssh_username: user of the base image that may sudo.
        root_device_name: of the base image.
        root_volume_size_gib: at least that of the base image.
        subnet_id: for bake and test instances; empty for the default VPC's.
        ssh_interface: address at which instances are reached: `public_ip` or `private_ip`; ignored offline.
        ssh_source_cidr: network that may reach SSH on the instance that bakes, such as your address with /32.
        build_instance_type: bakes.
        test_instance_type: proves; its GPUs are what the image is tested with.
        work_folder: runs, caches and evidence.
    """

    region: str = "us-east-1"
    source_ami_parameter: str = (
        "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
    )
    ssh_username: str = "ubuntu"
    root_device_name: str = "/dev/sda1"
    root_volume_size_gib: int = 75
    subnet_id: str = ""
    ssh_interface: str = "public_ip"
    ssh_source_cidr: str = ""
    build_instance_type: str = "g4dn.xlarge"
    test_instance_type: str = "g4dn.xlarge"
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
        expected = str if kinds[key] not in (int, str) else kinds[key]
        if type(value) is not expected:
            raise UsageError(f"{path.name}: `{key}` must be {_NAMES[expected]}, not {value!r}.")
    if document.get("ssh_interface", "public_ip") not in {"public_ip", "private_ip"}:
        raise UsageError(f"{path.name}: `ssh_interface` must be public_ip or private_ip.")
    if "work_folder" in document:
        document["work_folder"] = (path.parent / Path(document["work_folder"]).expanduser()).absolute()
    return Settings(**document)


_NAMES = {str: "a text in quotes", int: "a whole number"}
