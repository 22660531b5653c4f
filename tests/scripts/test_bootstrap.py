"""The branches of scripts/bootstrap, scripts/test and scripts/lock that need neither the network nor apt."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOBODY = 65534
PROMETHEUS = ("prometheus", "promtool")
CHROMIUM = ("chromium", "chromedriver")


def put_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@dataclass(frozen=True)
class Checkout:
    """A copy of the scripts, and a PATH that holds what a test puts there and then the machine's programs."""

    root: Path
    path: Path

    def put(self, name: str, script: str) -> None:
        put_program(self.path / name, script)

    def run(
        self, script: str, *arguments: str, user: int | None = None, only_path: bool = False
    ) -> subprocess.CompletedProcess[str]:
        path = str(self.path) if only_path else f"{self.path}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            [str(self.root / script), *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PATH": path},
            user=user,
        )

    def files(self) -> list[str]:
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*"))


@pytest.fixture
def checkout() -> Iterator[Checkout]:
    # Not tmp_path: another user must be able to read it, and pytest closes its own to them.
    with tempfile.TemporaryDirectory(prefix="gpunodes-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for part in ("scripts", "requirements"):
            shutil.copytree(ROOT / part, folder / "checkout" / part, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "path").mkdir()
        checkout = Checkout(folder / "checkout", folder / "path")
        for program in ("apt-get", "dpkg"):
            checkout.put(program, f'echo "{program} must not run" >&2; exit 77')
        yield checkout


def make_ready(checkout: Checkout) -> None:
    """What an earlier, successful run leaves: a virtual environment with its stamp, the packages, the tools."""
    (checkout.root / "requirements" / "debian.txt").write_text("# none\n")
    lock = (checkout.root / "requirements" / "dev.txt").read_bytes()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", checkout.root / ".venv"], check=True)
    (checkout.root / ".venv" / ".lock-digest").write_text(f"{hashlib.sha256(lock).hexdigest()}  -\n")
    checkout.put("packer", "echo 'Packer v1.6.6'")
    checkout.put("terraform", "echo 'Terraform v1.11.4'")
    for name in PROMETHEUS:
        put_program(checkout.root / ".venv" / "bin" / name, "exit 0")
    for name in CHROMIUM:
        checkout.put(name, "exit 0")


def take_away(checkout: Checkout, name: str) -> None:
    """Leave PATH with all that it has but one program; run with `only_path` then."""
    (checkout.path / name).unlink()
    for folder in os.environ["PATH"].split(os.pathsep):
        for program in Path(folder).glob("*"):
            if program.name != name and not (checkout.path / program.name).exists():
                (checkout.path / program.name).symlink_to(program)


def put_package(checkout: Checkout, *programs: str) -> Path:
    """Let apt-get download a package with `programs`; return the log of its calls."""
    content = checkout.root.parent / "content"
    for program in programs:
        (content / "usr" / "bin").mkdir(parents=True, exist_ok=True)
        put_program(content / "usr" / "bin" / program, f"echo {program} of the package")
    (content / "DEBIAN").mkdir(parents=True, exist_ok=True)
    fields = "Package: prometheus\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: none\n"
    (content / "DEBIAN" / "control").write_text(fields)
    package = checkout.root.parent / "prometheus_1_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", content, package], check=True, capture_output=True)
    log = checkout.root.parent / "apt.log"
    checkout.put("apt-get", f'echo "$*" >>"{log}"; case "$*" in *" download prometheus") cp "{package}" . ;; esac')
    return log


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@needs_root
def test_without_root_and_sudo_nothing_is_done(checkout: Checkout) -> None:
    before = checkout.files()
    for name in ("bash", "dirname", "env"):
        (checkout.path / name).symlink_to(str(shutil.which(name)))

    result = checkout.run("scripts/bootstrap", user=NOBODY, only_path=True)

    assert result.returncode == 2
    assert result.stderr == "bootstrap: Run this as root: packages are to be installed, and sudo is not there.\n"
    assert checkout.files() == before


@needs_root
def test_sudo_that_wants_a_password_is_not_asked_without_a_terminal(checkout: Checkout) -> None:
    checkout.put("sudo", "exit 1")

    result = checkout.run("scripts/bootstrap", user=NOBODY)

    assert result.returncode == 2
    assert "allow sudo without a password" in result.stderr


@needs_root
def test_tests_without_root_say_what_would_work(checkout: Checkout) -> None:
    result = checkout.run("scripts/test", user=NOBODY)

    assert result.returncode == 2
    assert result.stderr.startswith("test: Run this as root")
    assert "scripts/test --fast" in result.stderr


@needs_root
def test_old_python_is_refused_before_anything_changes(checkout: Checkout) -> None:
    before = checkout.files()
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        checkout.put(name, "exit 1")

    result = checkout.run("scripts/bootstrap")

    assert result.returncode == 2
    assert result.stderr == "bootstrap: Install Python 3.11 or newer: none of the Pythons on PATH is.\n"
    assert checkout.files() == before


@needs_root
def test_full_disk_is_refused_before_anything_changes(checkout: Checkout) -> None:
    before = checkout.files()
    checkout.put("df", "echo Avail; echo 1048576")

    result = checkout.run("scripts/bootstrap")

    assert result.returncode == 2
    assert "has 1024 MiB left and at least 2048 are needed" in result.stderr
    assert checkout.files() == before


@needs_root
def test_ready_checkout_is_left_alone_without_a_word(checkout: Checkout) -> None:
    make_ready(checkout)
    before = checkout.files()

    result = checkout.run("scripts/bootstrap")

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert checkout.files() == before


@needs_root
def test_only_missing_packages_are_installed(checkout: Checkout) -> None:
    make_ready(checkout)
    (checkout.root / "requirements" / "debian.txt").write_text("# comment\nbash\nno-such-package\ncoreutils\n")
    log = checkout.root.parent / "apt.log"
    checkout.put("dpkg", "exit 0")
    checkout.put("apt-get", f'echo "$DEBIAN_FRONTEND $*" >>"{log}"')

    result = checkout.run("scripts/bootstrap")

    assert result.returncode == 0
    assert result.stderr == "bootstrap: installing packages: no-such-package\n"
    update, install = log.read_text().splitlines()
    assert update.startswith("noninteractive ")
    assert update.endswith(" update")
    assert install.endswith(" install --yes --no-install-recommends no-such-package")


@needs_root
def test_failed_package_installation_is_exit_code_3(checkout: Checkout) -> None:
    make_ready(checkout)
    (checkout.root / "requirements" / "debian.txt").write_text("no-such-package\n")
    checkout.put("dpkg", "exit 0")
    checkout.put("apt-get", 'case "$*" in *update*) exit 0 ;; esac; exit 100')

    result = checkout.run("scripts/bootstrap")

    assert result.returncode == 3
    assert result.stderr.endswith("Install these packages yourself and run this again: no-such-package\n")


@needs_root
def test_interrupted_environment_is_made_anew(checkout: Checkout) -> None:
    make_ready(checkout)
    stamp = checkout.root / ".venv" / ".lock-digest"
    stamp.unlink()
    half_written = checkout.root / ".venv" / "lib" / "half-written.py"
    half_written.touch()
    for name in ("dev.txt", "uv.txt"):  # empty, so that the repair needs no index
        (checkout.root / "requirements" / name).write_text("# empty\n")
    put_package(checkout, *PROMETHEUS)

    result = checkout.run("scripts/bootstrap")

    assert result.returncode == 0
    assert stamp.exists()
    assert not half_written.exists()


@needs_root
def test_failed_installation_is_exit_code_3_and_not_taken_for_finished(checkout: Checkout) -> None:
    make_ready(checkout)  # its virtual environment has no pip
    stamp = checkout.root / ".venv" / ".lock-digest"
    stamp.write_text("of another lock file\n")

    result = checkout.run("scripts/bootstrap")

    assert result.returncode == 3
    assert result.stderr.endswith("Python packages could not be installed.\n")
    assert not stamp.exists()


@needs_root
@pytest.mark.parametrize("missing", PROMETHEUS)
def test_prometheus_is_taken_out_of_its_package_and_not_installed(checkout: Checkout, missing: str) -> None:
    make_ready(checkout)
    programs = checkout.root / ".venv" / "bin"
    (programs / missing).unlink()
    log = put_package(checkout, *PROMETHEUS)

    result = checkout.run("scripts/bootstrap")

    assert (result.returncode, result.stderr) == (0, "bootstrap: putting Prometheus into .venv\n")
    outputs = [subprocess.run([programs / name], capture_output=True, text=True, check=True) for name in PROMETHEUS]
    assert [output.stdout for output in outputs] == ["prometheus of the package\n", "promtool of the package\n"]
    assert not list(programs.glob(".prom*"))
    assert [line.rsplit(" ", 2)[-2:] for line in log.read_text().splitlines()] == [["download", "prometheus"]]


@needs_root
def test_prometheus_that_does_not_run_is_replaced(checkout: Checkout) -> None:
    make_ready(checkout)
    put_program(checkout.root / ".venv" / "bin" / "promtool", "exit 1")
    put_package(checkout, *PROMETHEUS)

    result = checkout.run("scripts/bootstrap")

    assert result.returncode == 0
    assert "of the package" in (checkout.root / ".venv" / "bin" / "promtool").read_text()


@needs_root
def test_old_lists_of_packages_are_renewed_before_prometheus_is_given_up(checkout: Checkout) -> None:
    make_ready(checkout)
    (checkout.root / ".venv" / "bin" / "promtool").unlink()
    log = checkout.root.parent / "apt.log"
    checkout.put("apt-get", f'echo "$*" >>"{log}"; case "$*" in *update) exit 0 ;; esac; exit 100')

    result = checkout.run("scripts/bootstrap")

    assert result.returncode == 3
    assert result.stderr.endswith(
        "Check the network and apt's sources: the package prometheus could not be downloaded.\n"
    )
    assert [line.split()[3] for line in log.read_text().splitlines()] == ["download", "update", "download"]


@needs_root
def test_package_without_promtool_is_exit_code_3_and_leaves_nothing_half(checkout: Checkout) -> None:
    make_ready(checkout)
    (checkout.root / ".venv" / "bin" / "promtool").unlink()
    put_package(checkout, "prometheus")

    result = checkout.run("scripts/bootstrap")

    assert result.returncode == 3
    assert "has no promtool" in result.stderr
    assert not (checkout.root / ".venv" / "bin" / "promtool").exists()


@needs_root
@pytest.mark.parametrize("missing", CHROMIUM)
def test_browser_is_installed_where_one_can_be(checkout: Checkout, missing: str) -> None:
    make_ready(checkout)
    take_away(checkout, missing)
    log = checkout.root.parent / "apt.log"
    checkout.put("dpkg", "exit 0")
    checkout.put("apt-get", f'echo "$*" >>"{log}"')
    checkout.put("apt-cache", 'case "$*" in *chromium-driver*) echo "chromium-driver - WebDriver" ;; esac')

    result = checkout.run("scripts/bootstrap", only_path=True)

    assert (result.returncode, result.stderr) == (0, "bootstrap: installing packages: chromium chromium-driver\n")
    assert log.read_text().splitlines()[-1].endswith(" install --yes --no-install-recommends chromium chromium-driver")


@needs_root
def test_no_browser_is_looked_for_where_apt_has_none(checkout: Checkout) -> None:
    make_ready(checkout)
    take_away(checkout, "chromedriver")
    checkout.put("apt-cache", "exit 0")

    result = checkout.run("scripts/bootstrap", only_path=True)

    assert (result.returncode, result.stderr) == (0, "")


@needs_root
def test_checkout_is_ready_without_a_browser_that_cannot_be_installed(checkout: Checkout) -> None:
    make_ready(checkout)
    take_away(checkout, "chromium")
    checkout.put("dpkg", "exit 0")
    checkout.put("apt-get", 'case "$*" in *update) exit 0 ;; esac; exit 100')
    checkout.put("apt-cache", "echo found")

    result = checkout.run("scripts/bootstrap", only_path=True)

    assert result.returncode == 0
    assert result.stderr.endswith("bootstrap: going on without Chromium: tests of HTML pages are left out\n")


@pytest.mark.parametrize("script", ["bootstrap", "lock"])
def test_unknown_argument_is_a_usage_error(checkout: Checkout, script: str) -> None:
    result = checkout.run(f"scripts/{script}", "--help-me")

    assert result.returncode == 2
    assert result.stderr == f"{script}: scripts/{script} takes no arguments.\n"


@pytest.mark.parametrize("name", ["dev.txt", "gpumon.txt", "uv.txt"])
def test_lock_files_have_a_digest_for_each_package_and_name_no_index(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()

    packages = [line for line in text.splitlines() if line and line[0].isalpha()]

    assert packages
    assert all("==" in package and package.endswith("\\") for package in packages)
    assert "://" not in text
    assert "\n--" not in text


def test_gpumon_lock_fits_every_python_of_an_image() -> None:
    packages = [
        line for line in (ROOT / "requirements" / "gpumon.txt").read_text().splitlines() if line and line[0].isalpha()
    ]

    assert any(package.startswith("tomli==") for package in packages)  # Python 3.10 has none of its own
    assert not [package for package in packages if ";" in package]


@pytest.mark.parametrize("script", ["scripts/bootstrap", "scripts/lock", "scripts/test", ".ci/run"])
def test_scripts_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
