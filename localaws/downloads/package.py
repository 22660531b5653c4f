"""Builds amazon-cloudwatch-agent.deb around the stand-in agent, its libraries included."""

import hashlib
import shutil
from collections.abc import Iterator
from importlib.metadata import PackagePath, distribution
from pathlib import Path

from localaws.commands import run
from localaws.downloads.agent import VERSION

_HERE = Path(__file__).parent
_AGENT_DIR = Path("opt/aws/amazon-cloudwatch-agent")
_DISTRIBUTIONS = ("botocore", "jmespath", "python-dateutil", "six", "urllib3")
_BOTOCORE_SERVICE = "cloudwatch"  # of botocore's 28 MB of service descriptions the only one that is needed
_TIMESTAMP = "1735689600"  # any fixed moment, so that the same inputs give the same bytes
_CONTROL = f"""\
Package: amazon-cloudwatch-agent
Version: {VERSION}
Section: utils
Priority: optional
Architecture: all
Depends: python3 (>= 3.10)
Maintainer: localaws <localaws@invalid>
Description: STAND-IN for the Amazon CloudWatch agent, for offline use only
 Reads the agent's JSON and publishes memory, swap and disk metrics as the agent does.
 It is not made by AWS and has no place on an instance that AWS runs.
"""


def inputs_digest() -> str:
    """SHA-256 over everything that goes into the package; the same digest means the same package."""
    digest = hashlib.sha256(_CONTROL.encode())
    for path in sorted([*(_HERE / "agent").glob("*.py"), *(_HERE / "files").iterdir(), Path(__file__)]):
        digest.update(path.name.encode() + path.read_bytes())
    for name in _DISTRIBUTIONS:
        digest.update(f"{name} {distribution(name).version}".encode())
    return digest.hexdigest()


def build_package(target: Path, work: Path) -> None:
    """Write the package to `target`, using the empty directory `work`.

    Raises:
        CommandFailed: dpkg-deb is missing or refused the tree.
        PackageNotFoundError: this environment lacks one of the libraries.
    """
    tree = work / "tree"
    agent_dir = tree / _AGENT_DIR
    for name in ("amazon-cloudwatch-agent", "amazon-cloudwatch-agent-ctl"):
        _install(_HERE / "files" / name, agent_dir / "bin" / name, 0o755)
    _write(agent_dir / "bin/CWAGENT_VERSION", f"{VERSION}\n")
    unit = "amazon-cloudwatch-agent.service"
    _install(_HERE / "files" / unit, tree / "etc/systemd/system" / unit)
    for directory in ("etc/amazon-cloudwatch-agent.d", "logs", "var"):
        (agent_dir / directory).mkdir(parents=True)
    for path in (_HERE / "agent").glob("*.py"):
        _install(path, agent_dir / "lib/agent" / path.name)
    for name in _DISTRIBUTIONS:
        for file in _library_files(name):
            _install(Path(str(file.locate())), agent_dir / "lib" / file)
    _write(tree / "DEBIAN/control", _CONTROL)
    for name in ("postinst", "prerm"):
        _install(_HERE / "files" / name, tree / "DEBIAN" / name, 0o755)
    run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z6", "--build", str(tree), str(target)],
        env={"SOURCE_DATE_EPOCH": _TIMESTAMP},
    )


def _library_files(name: str) -> Iterator[PackagePath]:
    for file in distribution(name).files or ():
        outside = ".." in file.parts or "__pycache__" in file.parts
        if not outside and _is_needed(file) and Path(str(file.locate())).is_file():
            yield file


def _is_needed(file: PackagePath) -> bool:
    """All of a library, its licence included, but of botocore's data only what CloudWatch takes."""
    if file.parts[:2] != ("botocore", "data") or len(file.parts) == 3:
        return True
    return file.parts[2] == _BOTOCORE_SERVICE


def _install(source: Path, target: Path, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _write(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
