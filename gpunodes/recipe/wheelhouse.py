"""gpumon and all that it needs as wheels with hashes: built beforehand, so that the bake installs from no index."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomllib

from gpunodes import commands
from gpunodes.errors import PreflightError
from gpunodes.settings import REPOSITORY

_OLDEST_PYTHON = "3.10"  # Ubuntu 22.04's, the oldest that gpumon supports


@dataclass(frozen=True)
class Wheelhouse:
    """A folder of wheels.

    Attributes:
        folder: the wheels and `requirements.txt` with the hash of each.
        digest: of all that the wheels are made of.
        gpumon_version: of the gpumon wheel in it.
    """

    folder: Path
    digest: str
    gpumon_version: str


def ensure(
    cache: Path, repository: Path = REPOSITORY, run: Callable[[Sequence[str]], object] = commands.run
) -> Wheelhouse:
    """Build the wheelhouse unless the same one is there.

    Args:
        cache: folder for wheelhouses.
        repository: the checkout.
        run: runs a program.

    Raises:
        ToolError: the wheel cannot be built or the package index not be reached.
        PreflightError: a wheel in the cache is not the one that it was.
    """
    digest = _digest(repository)
    version = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["version"]
    folder = cache / f"wheelhouse-{digest[:16]}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        # A folder of its own, so that two bakes at once do not build into each other's.
        with tempfile.TemporaryDirectory(dir=cache, prefix="unfinished-") as scratch:
            unfinished = Path(scratch) / "wheels"
            _build(unfinished, repository, run)
            if not folder.is_dir():
                unfinished.rename(folder)
    _check(folder)
    return Wheelhouse(folder, digest, version)


def _check(folder: Path) -> None:
    """Hold every wheel against the hashes that the instance will hold it against; a bake costs more than a look."""
    wanted = (folder / "requirements.txt").read_text()
    for wheel in sorted(folder.glob("*.whl")):
        if hashlib.sha256(wheel.read_bytes()).hexdigest() not in wanted:
            raise PreflightError(
                f"The wheel {wheel.name} is not the one whose hash is in requirements.txt; delete {folder} and repeat."
            )


def _build(folder: Path, repository: Path, run: Callable[[Sequence[str]], object]) -> None:
    """Build with the locked build backend (no isolation: nothing unlocked is fetched), then fetch what is locked."""
    lock = repository / "requirements" / "gpumon.txt"
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(repository)])
    wheel = next(folder.glob("gpumon-*.whl"))
    run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes",
            "--only-binary=:all:", "--implementation=py", "--abi=none", "--platform=any",
            f"--python-version={_OLDEST_PYTHON}", f"--dest={folder}", f"--requirement={lock}"]
    )  # fmt: skip
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    line = f"gpumon=={wheel.name.split('-')[1]} --hash=sha256:{digest}\n"
    (folder / "requirements.txt").write_text(lock.read_text() + line)


def _digest(repository: Path) -> str:
    sources = [repository / "pyproject.toml", repository / "LICENSE", repository / "requirements" / "gpumon.txt"]
    sources += sorted(path for path in (repository / "gpumon").rglob("*") if path.is_file() and path.suffix != ".pyc")
    digest = hashlib.sha256()
    for path in sources:
        digest.update(f"{path.relative_to(repository)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
