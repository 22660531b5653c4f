"""Compiles the simulated driver's two libraries against the real nvml.h."""

from __future__ import annotations

import hashlib
import importlib.metadata
import tempfile
from pathlib import Path

from localaws import commands
from localaws.errors import CommandFailed
from localaws.simgpu.errors import BuildError
from localaws.simgpu.gpu_values import SOURCES

_HEADER_PACKAGE = "nvidia-nvml-dev"
_SHARED_SOURCES = ("parse.c", "state.c", "state_lines.c", "processes.c")
_LIBRARIES = {"libnvidia-ml.so.1": "nvml_*.c", "libcuda.so.1": "cuda_*.c"}
# C11: newer dialects bind number parsing to symbols that the C library of an older instance does not have.
_FLAGS = (
    *("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-g0", "-fPIC", "-shared", "-pthread", "-fvisibility=hidden"),
    *("-Wall", "-Wextra", "-Wshadow", "-Wmissing-prototypes", "-Werror", "-Wl,--no-undefined", "-Wl,-z,now"),
)
_TIMEOUT_SECONDS = 120.0


def build(destination: Path, *, compiler: str = "gcc", sources: Path = SOURCES) -> None:
    """Compile libnvidia-ml.so.1 and libcuda.so.1 into a directory, replacing older ones in one step each.

    Args:
        destination: directory for the two files; made if it is not there.
        compiler: a C compiler that takes gcc's options.
        sources: directory of the C sources.

    Raises:
        BuildError: the compiler or nvml.h is missing, or the sources do not compile; ends with the compiler's words.
    """
    include = _header().parent
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".simgpu-", dir=destination) as drafts:
        for library, pattern in _LIBRARIES.items():
            draft = Path(drafts) / library
            files = [*sorted(sources.glob(pattern)), *(sources / name for name in _SHARED_SOURCES)]
            options = (*_FLAGS, f"-Wl,-soname,{library}", "-isystem", str(include), "-o", str(draft))
            try:
                commands.run([compiler, *options, *map(str, files)], timeout_seconds=_TIMEOUT_SECONDS)
            except CommandFailed as error:
                said = error.output.strip()
                raise BuildError(f"Install {compiler}, or mend what it says about {library}:\n{said}") from error
        for library in _LIBRARIES:
            (Path(drafts) / library).replace(destination / library)


def source_digest(*, sources: Path = SOURCES) -> str:
    """Return a SHA-256 over all that the libraries are made of, so that callers can keep them while it is the same.

    Raises:
        BuildError: the package that holds nvml.h is not installed.
    """
    _header()
    digest = hashlib.sha256(importlib.metadata.version(_HEADER_PACKAGE).encode())
    digest.update("\0".join(_FLAGS).encode())
    for path in sorted(sources.glob("*.[ch]")):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _header() -> Path:
    try:
        files = importlib.metadata.files(_HEADER_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise BuildError(f"Install the Python package {_HEADER_PACKAGE}, which holds nvml.h.") from error
    for file in files:
        path = Path(str(file.locate()))
        if path.name == "nvml.h" and path.is_file():
            return path
    raise BuildError(f"Reinstall the Python package {_HEADER_PACKAGE}: it should hold nvml.h and does not.")
