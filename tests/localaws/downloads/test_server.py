"""The tree is signed, complete and served; the private key is not."""

import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from localaws.downloads.agent import VERSION
from localaws.downloads.server import Downloads, build_tree, prepare, serve
from tests.localaws.downloads.fakes import serving

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("gpg", "gpgv", "dpkg-deb"))), reason="needs gpg, gpgv and dpkg-deb"
)
LATEST = "debian/amd64/latest/amazon-cloudwatch-agent.deb"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("downloads")
    build_tree(path)
    return path


@pytest.fixture
def downloads(directory: Path) -> Iterator[Downloads]:
    sock = socket.create_server(("127.0.0.1", 0))
    prepared = prepare(directory, sock)
    with serving(serve(directory, sock)):
        yield prepared


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        content: bytes = answer.read()
    return content


def test_package_is_served_with_a_signature_of_the_key_that_is_named(downloads: Downloads, tmp_path: Path) -> None:
    for name, path in {"deb": LATEST, "sig": f"{LATEST}.sig", "key": "assets/amazon-cloudwatch-agent.gpg"}.items():
        (tmp_path / name).write_bytes(fetch(f"{downloads.base_url}/{path}"))
    subprocess.run(["gpg", "--dearmor", "--output", tmp_path / "ring", tmp_path / "key"], check=True)
    verify = ["gpgv", "--status-fd", "1", "--keyring", "./ring", "sig", "deb"]
    done = subprocess.run(verify, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert len(downloads.key_fingerprint) == 40
    assert f"VALIDSIG {downloads.key_fingerprint}" in done.stdout


def test_version_of_the_latest_package_is_told(downloads: Downloads) -> None:
    assert fetch(f"{downloads.base_url}/info/latest/CWAGENT_VERSION").decode() == f"{VERSION}\n"


def test_private_key_is_not_served(downloads: Downloads) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetch(f"{downloads.base_url}/gnupg/pubring.kbx")


def test_second_build_changes_nothing(directory: Path) -> None:
    package = directory / "www" / LATEST
    before = package.stat().st_mtime_ns

    assert build_tree(directory) == build_tree(directory)
    assert package.stat().st_mtime_ns == before


def test_no_gpg_agent_stays(directory: Path) -> None:
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]

    assert [command for command in commands if str(directory).encode() in command] == []


def test_package_says_that_it_is_a_stand_in_and_stays_small(directory: Path) -> None:
    package = directory / "www" / LATEST
    shown = subprocess.run(["dpkg-deb", "--field", package], capture_output=True, text=True, check=True).stdout

    assert "STAND-IN" in shown
    assert "+standin" in shown
    assert package.stat().st_size < 4_000_000


def test_package_holds_the_agent_and_of_botocore_only_cloudwatch(directory: Path) -> None:
    listing = subprocess.run(
        ["dpkg-deb", "--contents", directory / "www" / LATEST], capture_output=True, text=True, check=True
    ).stdout

    root = "./opt/aws/amazon-cloudwatch-agent"
    for path in ("bin/amazon-cloudwatch-agent", "bin/amazon-cloudwatch-agent-ctl", "lib/agent/__main__.py"):
        assert f" {root}/{path}\n" in listing
    assert f"{root}/lib/botocore/data/cloudwatch/" in listing
    assert f"{root}/lib/botocore/data/endpoints.json" in listing
    assert "/data/ec2/" not in listing
    assert "root/root" in listing
    assert "./etc/systemd/system/amazon-cloudwatch-agent.service" in listing
