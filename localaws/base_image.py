"""The base system of the offline cloud: a Debian that boots and meets its metadata service as on EC2."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from localaws.commands import run
from localaws.layout import METADATA_ADDRESS, ROUTER_ADDRESS
from localaws.simgpu import driver

SUITE = "bookworm"
SSH_USER = "debian"
_API_PORT = 4566  # inside the router namespace nothing else can have taken it
PACKAGES = (
    "ca-certificates",
    "cloud-init",
    "curl",
    "dbus",
    "gpg",
    "gpgv",
    "iproute2",
    "libpam-systemd",
    "openssh-server",
    "procps",
    "python3",
    "python3-venv",
    "sudo",
    "systemd",
    "systemd-sysv",
)
_MMDEBSTRAP_OPTIONS = (
    "--variant=apt",
    "--format=directory",
    "--skip=cleanup/apt/cache",  # removed below with the lists, in one go
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
)
# Mounts and processes end with it, however it ends: nobody may ever delete a half made system with /dev mounted in it.
_CONTAINED = (
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--propagation=private",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)
_CLOUD_CONFIG = f"""\
# Debian's own EC2 images ask only the Ec2 data source, too.
datasource_list: [Ec2]
datasource:
  Ec2:
    metadata_urls: ["http://{METADATA_ADDRESS}"]
    strict_id: false
    timeout: 5
    max_wait: 30
# The instance's one interface is addressed from outside, before it boots.
network: {{config: disabled}}
locale: false
ssh_genkeytypes: [ed25519]
manage_etc_hosts: true
"""
# On AWS the name monitoring.REGION.amazonaws.com leads to the API; here these two files do.
_ENDPOINT = f"AWS_ENDPOINT_URL=http://{ROUTER_ADDRESS}:{_API_PORT}"
# cloud-init asks for a session token only where it sees EC2's firmware, and a container has none to show. A view of
# /sys with the one file that it looks for is enough; only cloud-init's own units see it.
_FIRMWARE = "/run/ec2-firmware/sys"
_FIRMWARE_UNIT = f"""\
[Unit]
Description=Firmware identity of an EC2 instance
DefaultDependencies=no
Before=cloud-init-local.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=mkdir -p {_FIRMWARE}
ExecStart=mount -t overlay -o ro,lowerdir=/usr/lib/ec2-firmware/sys:/sys overlay {_FIRMWARE}
"""
_FIRMWARE_SEEN = f"""\
[Unit]
Requires=ec2-firmware.service
After=ec2-firmware.service

[Service]
BindReadOnlyPaths={_FIRMWARE}:/sys
"""
_CLOUD_INIT_UNITS = ("cloud-init-local", "cloud-init", "cloud-config", "cloud-final")
# What the package ec2-instance-connect does on AWS's own images and on Ubuntu's: sshd asks the metadata service for the
# keys that were pushed for a user. Debian's archive does not have it; the real one also checks AWS's signature.
_PUSHED_KEYS = "usr/share/ec2-instance-connect/eic_run_authorized_keys"
_PUSHED_KEYS_PROGRAM = f"""\
#!/bin/sh
metadata=http://{METADATA_ADDRESS}/latest
token=$(curl -sf -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 5' "$metadata/api/token") || exit 0
curl -sf -m 5 -H "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/managed-ssh-keys/active-keys/$1/" || exit 0
"""
_FILES = {
    "usr/lib/ec2-firmware/sys/hypervisor/uuid": "ec2e1916-9099-7caf-fd21-012345abcdef\n",
    "usr/lib/systemd/system/ec2-firmware.service": _FIRMWARE_UNIT,
    **{f"usr/lib/systemd/system/{unit}.service.d/10-ec2.conf": _FIRMWARE_SEEN for unit in _CLOUD_INIT_UNITS},
    "etc/cloud/cloud.cfg.d/90_ec2.cfg": _CLOUD_CONFIG,
    "etc/systemd/system.conf.d/10-aws-endpoint.conf": f"[Manager]\nDefaultEnvironment={_ENDPOINT}\n",
    "etc/ssh/sshd_config.d/10-aws-endpoint.conf": f"SetEnv {_ENDPOINT}\n",
    _PUSHED_KEYS: _PUSHED_KEYS_PROGRAM,
    "etc/ssh/sshd_config.d/60-ec2-instance-connect.conf": f"AuthorizedKeysCommand /{_PUSHED_KEYS} %u\n"
    "AuthorizedKeysCommandUser nobody\n",
    # With a resolver that nobody answers for, cloud-init and sudo wait half a minute for every name.
    "etc/nsswitch.conf": "passwd: files systemd\ngroup: files systemd\nshadow: files\nhosts: files\n"
    "networks: files\nprotocols: files\nservices: files\nethers: files\nrpc: files\n",
    # Empty, not absent: systemd then makes an id at first boot and keeps it.
    "etc/machine-id": "",
    "etc/hostname": "",
}
_REMOVED = (
    "etc/ssh/ssh_host_*",
    "var/lib/dbus/machine-id",
    "var/lib/apt/lists/*",
    "var/cache/apt/*.bin",
    "var/log/*.log",
)
_MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "console-getty.service", "getty@.service")


def ensure(cache: Path, say: Callable[[str], None]) -> list[Path]:
    """Make the base system and the driver where they are not cached yet.

    Args:
        cache: folder of finished layers.
        say: told in a sentence what is made, since the first time takes about a minute.

    Returns:
        The layers of the base image, uppermost first: simulated NVIDIA driver, Debian.

    Raises:
        CommandFailed: mmdebstrap reached no Debian mirror, or the compiler refused the driver.
    """
    cache.mkdir(parents=True, exist_ok=True)
    system = cache / f"debian-{_system_digest()[:16]}"
    gpu_driver = cache / f"driver-{driver.source_digest()[:16]}"
    _remove_unfinished(cache)
    if not gpu_driver.is_dir():
        say("compiling the simulated NVIDIA driver")
        _finish(gpu_driver, _build_driver)
    if not system.is_dir():
        say("making the Debian base system with mmdebstrap (once, about a minute)")
        _finish(system, _build_system)
    return [gpu_driver, system]


def digest() -> str:
    """Identifies the base image's content recipe: same digest, same layers."""
    return hashlib.sha256((_system_digest() + driver.source_digest()).encode()).hexdigest()


def _system_digest() -> str:
    recipe = [SUITE, PACKAGES, _MMDEBSTRAP_OPTIONS, sorted(_FILES.items()), _REMOVED, _MASKED]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()


def _finish(folder: Path, build: Callable[[Path], None]) -> None:
    """Build beside the final place and move there: a folder that exists under its name is complete."""
    unfinished = folder.with_name(folder.name + ".unfinished")
    callers_mask = os.umask(0o022)  # the layer's modes are the instance's: /usr must be readable by all there
    try:
        build(unfinished)
        unfinished.rename(folder)
    finally:
        os.umask(callers_mask)
        shutil.rmtree(unfinished, ignore_errors=True)


def _remove_unfinished(cache: Path) -> None:
    for leftover in cache.glob("*.unfinished"):
        shutil.rmtree(leftover)


def _build_driver(destination: Path) -> None:
    libraries = destination / "usr/lib" / run(["gcc", "-print-multiarch"]).strip()
    libraries.mkdir(parents=True)
    driver.build(libraries)


def _build_system(destination: Path) -> None:
    run(
        [
            *_CONTAINED,
            "mmdebstrap",
            "--quiet",
            *_MMDEBSTRAP_OPTIONS,
            f"--include={','.join(PACKAGES)}",
            SUITE,
            str(destination),
        ]
    )
    for pattern in _REMOVED:
        for path in destination.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, content in _FILES.items():
        path = destination / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o755 if content.startswith("#!") else 0o644)
    for unit in _MASKED:
        (destination / "etc/systemd/system" / unit).symlink_to("/dev/null")
