from __future__ import annotations

import hashlib
import http.server
import io
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "fetch_release.py"
PATH_ON_SERVER = "/terraform/1.2.3/terraform_1.2.3_linux_amd64.zip"


def program(version: str) -> bytes:
    return f'#!/bin/sh\necho "Terraform v{version}"\n'.encode()


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


GOOD = archive({"terraform": program("1.2.3"), "LICENSE.txt": b"..."})


@dataclass
class ReleaseSite:
    """A web server on loopback; `files` maps a path to its content, `promised_bytes` to a Content-Length that lies."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    promised_bytes: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[ReleaseSite]:
    releases = ReleaseSite()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            releases.requests.append(self.path)
            content = releases.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(releases.promised_bytes.get(self.path, len(content))))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Keep the tests' output quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        releases.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield releases
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class Bench:
    """A folder to fetch into, a file of pins, and a PATH that has no Terraform."""

    folder: Path
    pins: Path
    path: Path
    site: ReleaseSite

    def pin(self, content: bytes, minimum: str = "1.2.0") -> None:
        digest = hashlib.sha256(content).hexdigest()
        self.pins.write_text(
            f'base_url = "{self.site.url}"\n[terraform]\nminimum = "{minimum}"\nversion = "1.2.3"\n'
            f'[terraform.sha256]\nlinux_amd64 = "{digest}"\n'
        )

    def fetch(self, *options: str, tool: str = "terraform") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), tool, "--into", str(self.folder), "--pins", str(self.pins)]
        environment = {**os.environ, "PATH": str(self.path)}
        return subprocess.run(
            [*command, "--target", "linux_amd64", *options],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment,
        )

    def left_behind(self) -> list[str]:
        return sorted(entry.name for entry in self.folder.iterdir()) if self.folder.exists() else []


@pytest.fixture
def bench(tmp_path: Path, site: ReleaseSite) -> Bench:
    path = tmp_path / "path"
    path.mkdir()
    bench = Bench(tmp_path / "checkout" / "bin", tmp_path / "releases.toml", path, site)
    bench.pin(GOOD)
    return bench


def put_program(folder: Path, version: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "terraform").write_bytes(program(version))
    (folder / "terraform").chmod(0o755)


def test_release_with_the_pinned_digest_is_installed_and_runs(bench: Bench) -> None:
    bench.site.files[PATH_ON_SERVER] = GOOD

    result = bench.fetch()

    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr == f"fetched terraform 1.2.3 into {bench.folder}\n"
    assert bench.left_behind() == ["terraform"]
    answer = subprocess.run([bench.folder / "terraform"], capture_output=True, text=True, check=True)
    assert answer.stdout == "Terraform v1.2.3\n"


def test_second_run_asks_nobody_and_says_nothing(bench: Bench) -> None:
    bench.site.files[PATH_ON_SERVER] = GOOD
    bench.fetch()
    bench.site.requests.clear()

    result = bench.fetch()

    assert (result.returncode, result.stderr, bench.site.requests) == (0, "", [])


def test_new_enough_program_on_path_is_used(bench: Bench) -> None:
    put_program(bench.path, "1.10.0")  # as text this would be older than 1.2.0

    result = bench.fetch()

    assert (result.returncode, bench.site.requests, bench.left_behind()) == (0, [], [])


def test_program_on_path_that_is_too_old_is_not_used(bench: Bench) -> None:
    bench.site.files[PATH_ON_SERVER] = GOOD
    put_program(bench.path, "1.1.9")

    assert bench.fetch("--check").returncode == 1
    assert bench.fetch().returncode == 0
    assert bench.left_behind() == ["terraform"]
    assert bench.fetch("--check").returncode == 0


def test_program_that_gives_no_version_is_replaced(bench: Bench) -> None:
    bench.site.files[PATH_ON_SERVER] = GOOD
    bench.folder.mkdir(parents=True)
    (bench.folder / "terraform").write_bytes(b"#!/bin/sh\nexit 1\n")
    (bench.folder / "terraform").chmod(0o755)

    assert bench.fetch().returncode == 0
    assert (bench.folder / "terraform").read_bytes() == program("1.2.3")


def test_check_fetches_nothing(bench: Bench) -> None:
    bench.site.files[PATH_ON_SERVER] = GOOD

    result = bench.fetch("--check")

    assert (result.returncode, bench.site.requests, bench.left_behind()) == (1, [], [])


def test_wrong_digest_leaves_nothing(bench: Bench) -> None:
    bench.site.files[PATH_ON_SERVER] = archive({"terraform": b"#!/bin/sh\nrm -rf /\n"})

    result = bench.fetch()

    assert result.returncode == 3
    assert "not the pinned" in result.stderr
    assert "Traceback" not in result.stderr
    assert bench.left_behind() == []


def test_wrong_digest_keeps_what_was_there(bench: Bench) -> None:
    bench.site.files[PATH_ON_SERVER] = b"no zip"
    put_program(bench.folder, "1.1.9")

    assert bench.fetch().returncode == 3
    assert (bench.folder / "terraform").read_bytes() == program("1.1.9")
    assert bench.left_behind() == ["terraform"]


def test_truncated_download_leaves_nothing(bench: Bench) -> None:
    bench.site.files[PATH_ON_SERVER] = GOOD[: len(GOOD) // 2]
    bench.site.promised_bytes[PATH_ON_SERVER] = len(GOOD)

    result = bench.fetch()

    assert result.returncode == 3
    assert "Traceback" not in result.stderr
    assert bench.left_behind() == []


def test_missing_release_is_one_sentence(bench: Bench) -> None:
    result = bench.fetch()

    assert result.returncode == 3
    assert result.stderr.count("\n") == 1
    assert "HTTP status 404" in result.stderr
    assert bench.left_behind() == []


def test_unreachable_site_is_one_sentence(bench: Bench) -> None:
    result = bench.fetch("--base-url", "http://127.0.0.1:9")

    assert result.returncode == 3
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Check the network, or install terraform yourself")


def test_member_outside_the_folder_is_not_unpacked(bench: Bench) -> None:
    content = archive({"../evil": b"x", "/tmp/evil": b"x", "terraform": program("1.2.3")})
    bench.pin(content)
    bench.site.files[PATH_ON_SERVER] = content

    assert bench.fetch().returncode == 0
    assert bench.left_behind() == ["terraform"]
    assert [path.name for path in bench.folder.parent.iterdir()] == ["bin"]


@pytest.mark.parametrize("content", [archive({"../terraform": b"x"}), b"no zip"], ids=["no such member", "no zip"])
def test_archive_without_the_program_leaves_nothing(bench: Bench, content: bytes) -> None:
    bench.pin(content)
    bench.site.files[PATH_ON_SERVER] = content

    result = bench.fetch()

    assert result.returncode == 3
    assert "has no program terraform" in result.stderr
    assert bench.left_behind() == []


def test_platform_without_a_pin_is_refused_before_the_download(bench: Bench) -> None:
    result = bench.fetch("--target", "plan9_arm")

    assert result.returncode == 2
    assert result.stderr == "Install terraform 1.2.0 or newer yourself: no release is pinned for plan9_arm.\n"
    assert bench.site.requests == []


def test_tool_without_a_pin_is_refused(bench: Bench) -> None:
    result = bench.fetch(tool="vault")

    assert result.returncode == 2
    assert result.stderr == "Name one of the tools in releases.toml; vault is not among them.\n"


def test_pinned_minimum_is_what_the_stacks_ask_for() -> None:
    pins = tomllib.loads((ROOT / "scripts" / "releases.toml").read_text())

    versions = sorted((ROOT / "terraform").glob("*/*/versions.tf"))

    assert versions
    for file in versions:
        assert f'required_version = ">= {pins["terraform"]["minimum"].removesuffix(".0")}"' in file.read_text()


@pytest.mark.parametrize("tool", ["packer", "terraform"])
def test_pins_are_digests_of_both_platforms(tool: str) -> None:
    pins = tomllib.loads((ROOT / "scripts" / "releases.toml").read_text())

    digests = pins[tool]["sha256"]

    assert set(digests) == {"linux_amd64", "linux_arm64"}
    assert {len(bytes.fromhex(digest)) for digest in digests.values()} == {32}
