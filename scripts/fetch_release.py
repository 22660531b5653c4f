#!/usr/bin/env python3
"""Put a pinned release of Packer or Terraform where it is missing, its checksum verified before anything is unpacked.

Needs only the standard library (Python >= 3.11): scripts/bootstrap runs it before there is a virtual environment.

    fetch_release.py terraform --into .venv/bin    fetch it, unless PATH or the folder has one that is new enough
    fetch_release.py terraform --into .venv/bin --check    exit 0 if there is one that is new enough, else 1

Exit codes: 0 there now, 1 with --check: missing or too old, 2 usage or preflight, 3 the download failed.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

import tomllib

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 60
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class ReleaseError(Exception):
    """A tool cannot be had; the message is one sentence that says what to do.

    ReleaseError (exit code 3)
    └── UnsupportedError (exit code 2)
    """

    exit_code = 3


class UnsupportedError(ReleaseError):
    """There is no pinned release for this tool or this machine."""

    exit_code = 2


@dataclass(frozen=True)
class Pin:
    """What releases.toml says about one tool; `sha256` is keyed by platform, such as linux_amd64."""

    tool: str
    minimum: str
    version: str
    base_url: str
    sha256: dict[str, str]


@dataclass(frozen=True)
class Release:
    """The file that a pin names for one platform."""

    tool: str
    url: str
    sha256: str


def load_pin(pins: Path, tool: str) -> Pin:
    """Read what the file `pins` says about `tool`.

    Raises:
        UnsupportedError: the file does not name it.
    """
    data = tomllib.loads(pins.read_text(encoding="utf-8"))
    entry = data.get(tool)
    if not isinstance(entry, dict):
        raise UnsupportedError(f"Name one of the tools in {pins.name}; {tool} is not among them.")
    return Pin(tool, entry["minimum"], entry["version"], data["base_url"], entry["sha256"])


def release_for(pin: Pin, target: str, base_url: str | None = None) -> Release:
    """Choose the file for the platform `target`.

    Raises:
        UnsupportedError: no digest is pinned for it.
    """
    if target not in pin.sha256:
        raise UnsupportedError(
            f"Install {pin.tool} {pin.minimum} or newer yourself: no release is pinned for {target}."
        )
    url = f"{base_url or pin.base_url}/{pin.tool}/{pin.version}/{pin.tool}_{pin.version}_{target}.zip"
    return Release(pin.tool, url, pin.sha256[target])


def this_platform() -> str:
    """Name this machine as the vendor does, such as linux_amd64."""
    return f"{platform.system().lower()}_{MACHINES.get(platform.machine(), platform.machine())}"


def version_tuple(version: str) -> tuple[int, ...]:
    """Turn 1.11.4 into (1, 11, 4), so that versions compare as numbers."""
    return tuple(int(part) for part in version.split("."))


def installed_version(program: str) -> str | None:
    """Ask a Packer or Terraform program for its version; None if it gives none."""
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1"}
    try:
        answer = subprocess.run(
            [program, "version"], capture_output=True, text=True, timeout=30, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\bv(\d+\.\d+\.\d+)", answer.stdout)
    return found.group(1) if found else None


def is_satisfied(pin: Pin, folder: Path) -> bool:
    """Say whether `folder` or PATH has the tool, at least at the minimum version."""
    program = shutil.which(pin.tool, path=f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    version = installed_version(program) if program else None
    return version is not None and version_tuple(version) >= version_tuple(pin.minimum)


def download(release: Release, destination: Path) -> None:
    """Fetch the zip of a release to `destination` and compare its SHA-256 with the pin.

    Raises:
        ReleaseError: it could not be fetched, or is not the pinned file.
    """
    digest = hashlib.sha256()
    try:
        # The digest decides what is let in; a scheme or a mirror cannot.
        with (
            urllib.request.urlopen(release.url, timeout=TIMEOUT_SECONDS) as response,  # noqa: S310
            destination.open("wb") as file,
        ):
            while chunk := response.read(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = f"HTTP status {error.code}" if isinstance(error, urllib.error.HTTPError) else str(error)
        raise ReleaseError(
            f"Check the network, or install {release.tool} yourself: {release.url} could not be fetched ({reason})."
        ) from error
    if digest.hexdigest() != release.sha256:
        raise ReleaseError(
            f"Do not trust this network or mirror, and try again: {release.url} has SHA-256 {digest.hexdigest()}, "
            f"not the pinned {release.sha256}."
        )


def unpack(release: Release, archive: Path, destination: Path) -> None:
    """Copy the one member that is named like the tool to `destination`; nothing else in the archive is looked at.

    Raises:
        ReleaseError: the archive is no zip, or has no such member.
    """
    try:
        with zipfile.ZipFile(archive) as bundle, bundle.open(release.tool) as member, destination.open("wb") as file:
            shutil.copyfileobj(member, file)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ReleaseError(f"Correct the pin of {release.tool}: its archive has no program {release.tool}.") from error
    destination.chmod(0o755)


def install(release: Release, folder: Path) -> Path:
    """Fetch, verify and unpack a release, and put its program into `folder` in one step.

    Raises:
        ReleaseError: as `download` and `unpack`; `folder` is as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # In the same folder, so that the rename at the end is atomic.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
        archive = Path(scratch) / "release.zip"
        download(release, archive)
        program = Path(scratch) / release.tool
        unpack(release, archive, program)
        return program.replace(folder / release.tool)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Fetch a pinned release, its checksum verified.")
    parser.add_argument("tool", help="packer or terraform")
    parser.add_argument("--into", type=Path, required=True, metavar="FOLDER", help="where the program goes")
    parser.add_argument("--check", action="store_true", help="only say through the exit code whether it is there")
    parser.add_argument("--pins", type=Path, default=Path(__file__).with_name("releases.toml"), metavar="FILE")
    parser.add_argument("--target", default=this_platform(), help="platform, if not this one; such as linux_arm64")
    parser.add_argument("--base-url", help="where releases are fetched, if not where the pins say")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run the command line; see the module's description for the exit codes."""
    options = parse(arguments)
    try:
        pin = load_pin(options.pins, options.tool)
        if is_satisfied(pin, options.into):
            return 0
        if options.check:
            return 1
        program = install(release_for(pin, options.target, options.base_url), options.into)
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"fetched {pin.tool} {pin.version} into {program.parent}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
