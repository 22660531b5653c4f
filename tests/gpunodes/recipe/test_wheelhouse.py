from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gpunodes.errors import PreflightError
from gpunodes.recipe import wheelhouse
from tests.gpunodes.fakes import FakeIndex


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, content in {
        "pyproject.toml": '[project]\nname = "gpumon"\nversion = "1.2.3"\n',
        "LICENSE": "license",
        "requirements/gpumon.txt": "boto3==1.0 --hash=sha256:00\n",
        "gpumon/__init__.py": "",
        "gpumon/readers/nvml/reader.py": "import pynvml",
        "gpunodes/bake/bake.py": "",
    }.items():
        path = tmp_path / "checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "checkout"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_wheelhouse_has_the_wheel_and_hashes_of_everything(checkout: Path, cache: Path) -> None:
    made = wheelhouse.ensure(cache, checkout, FakeIndex())

    assert made.gpumon_version == "1.2.3"
    assert made.folder == cache / f"wheelhouse-{made.digest[:16]}"
    assert (made.folder / "gpumon-1.2.3-py3-none-any.whl").is_file()
    assert (made.folder / "requirements.txt").read_text().splitlines() == [
        "boto3==1.0 --hash=sha256:00",
        f"gpumon==1.2.3 --hash=sha256:{hashlib.sha256(b'wheel').hexdigest()}",
    ]


def test_second_call_does_nothing(checkout: Path, cache: Path) -> None:
    index = FakeIndex()
    first = wheelhouse.ensure(cache, checkout, index)

    assert wheelhouse.ensure(cache, checkout, index) == first
    assert index.calls == ["build", "pip"]


def test_wheel_that_changed_in_the_cache_is_found_before_a_bake(checkout: Path, cache: Path) -> None:
    made = wheelhouse.ensure(cache, checkout, FakeIndex())
    (made.folder / "gpumon-1.2.3-py3-none-any.whl").write_bytes(b"another wheel")

    with pytest.raises(PreflightError, match=r"The wheel gpumon-1\.2\.3-py3-none-any\.whl is not the one whose hash"):
        wheelhouse.ensure(cache, checkout, FakeIndex())


def test_wheelhouse_that_was_not_finished_is_built_again(checkout: Path, cache: Path) -> None:
    with pytest.raises(ConnectionError):
        wheelhouse.ensure(cache, checkout, FakeIndex(fails=True))
    index = FakeIndex()

    made = wheelhouse.ensure(cache, checkout, index)

    assert index.calls == ["build", "pip"]
    assert [path.name for path in cache.iterdir()] == [made.folder.name]


@pytest.mark.parametrize(
    "file", ["gpumon/readers/nvml/reader.py", "gpumon/new.toml", "requirements/gpumon.txt", "pyproject.toml", "LICENSE"]
)
def test_digest_follows_what_the_wheels_are_made_of(checkout: Path, cache: Path, file: str) -> None:
    before = wheelhouse.ensure(cache, checkout, FakeIndex())
    (checkout / file).write_text('[project]\nversion = "1.2.4"\n')

    assert wheelhouse.ensure(cache, checkout, FakeIndex()).digest != before.digest


@pytest.mark.parametrize("file", ["gpumon/readers/__pycache__/nvml.cpython-311.pyc", "gpunodes/errors.py", "README.md"])
def test_digest_does_not_follow_anything_else(checkout: Path, cache: Path, file: str) -> None:
    before = wheelhouse.ensure(cache, checkout, FakeIndex())
    (checkout / file).parent.mkdir(exist_ok=True)
    (checkout / file).write_text("changed")

    assert wheelhouse.ensure(cache, checkout, FakeIndex()).digest == before.digest
