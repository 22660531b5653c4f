from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from localaws.simgpu import driver
from localaws.simgpu.errors import BuildError
from localaws.simgpu.gpu_values import SOURCES

# The oldest C library of a base system that the libraries are to run on (Ubuntu 22.04) is 2.35.
OLDEST_GLIBC = (2, 35)


def exported(library: Path) -> set[str]:
    listing = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in listing.stdout.splitlines()}


def test_only_the_public_interfaces_are_exported(libraries: Path) -> None:
    assert {name for name in exported(libraries / "libnvidia-ml.so.1") if not name.startswith("nvml")} == set()
    assert {name for name in exported(libraries / "libcuda.so.1") if not name.startswith("cu")} == set()
    assert "cuMemAlloc_v2" in exported(libraries / "libcuda.so.1")


@pytest.mark.parametrize("name", ["libnvidia-ml.so.1", "libcuda.so.1"])
def test_a_library_carries_its_soname_and_runs_on_older_systems(libraries: Path, name: str) -> None:
    dump = subprocess.run(["objdump", "-p", libraries / name], capture_output=True, text=True, check=True).stdout
    assert re.search(r"SONAME\s+(\S+)", dump).group(1) == name  # type: ignore[union-attr]
    versions = {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([\d.]+)", dump)}
    assert versions
    assert max(versions) <= OLDEST_GLIBC


def test_a_source_that_does_not_match_nvml_h_fails_with_the_compilers_message(tmp_path: Path) -> None:
    sources = tmp_path / "src"
    shutil.copytree(SOURCES, sources)
    with (sources / "nvml_scalars.c").open("a") as source:
        source.write("SCALAR(nvmlDeviceGetBoardId, int, minor_number)\n")

    with pytest.raises(BuildError, match=r"(?s)conflicting types for .nvmlDeviceGetBoardId"):
        driver.build(tmp_path / "libraries", sources=sources)

    assert list((tmp_path / "libraries").iterdir()) == []


def test_a_missing_compiler_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no-such-compiler"):
        driver.build(tmp_path, compiler="no-such-compiler")


def test_the_digest_changes_with_the_sources_and_only_then(tmp_path: Path) -> None:
    before = driver.source_digest()
    sources = tmp_path / "src"
    shutil.copytree(SOURCES, sources)
    assert driver.source_digest(sources=sources) == before

    with (sources / "state.h").open("a") as source:
        source.write("\n")

    assert driver.source_digest(sources=sources) != before
