from __future__ import annotations

import os
from pathlib import Path

import pytest

from localaws import base_image
from localaws.simgpu import driver


def _layers(cache: Path) -> list[Path]:
    return [
        cache / f"driver-{driver.source_digest()[:16]}",
        cache / f"debian-{base_image._system_digest()[:16]}",
    ]


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("SUITE", "trixie"),
        ("PACKAGES", (*base_image.PACKAGES, "vim")),
        ("_MMDEBSTRAP_OPTIONS", ()),
        ("_FILES", {**base_image._FILES, "etc/motd": "hello"}),
        ("_REMOVED", ()),
        ("_MASKED", ()),
    ],
)
def test_digest_follows_the_recipe(monkeypatch: pytest.MonkeyPatch, name: str, changed: object) -> None:
    before = base_image.digest()
    assert base_image.digest() == before

    monkeypatch.setattr(base_image, name, changed)

    assert base_image.digest() != before


def test_layers_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    layers = _layers(tmp_path)
    for layer in layers:
        layer.mkdir()
    (tmp_path / "debian-0.unfinished/etc").mkdir(parents=True)
    said: list[str] = []

    assert base_image.ensure(tmp_path, said.append) == layers
    assert said == []
    assert sorted(tmp_path.iterdir()) == sorted(layers)


@pytest.mark.parametrize("interruption", [OSError("no space"), KeyboardInterrupt()])
def test_interrupted_build_leaves_nothing(tmp_path: Path, interruption: BaseException) -> None:
    def build(destination: Path) -> None:
        (destination / "usr").mkdir(parents=True)
        raise interruption

    with pytest.raises(type(interruption)):
        base_image._finish(tmp_path / "layer", build)

    assert list(tmp_path.iterdir()) == []


def test_finished_layer_is_readable_by_all_whatever_the_callers_mask(tmp_path: Path) -> None:
    def build(destination: Path) -> None:
        (destination / "usr").mkdir(parents=True)
        (destination / "usr/file").write_text("x")

    before = os.umask(0o077)
    try:
        base_image._finish(tmp_path / "layer", build)
        mask_after = os.umask(0o077)
    finally:
        os.umask(before)

    assert mask_after == 0o077
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "layer", tmp_path / "layer/usr")]
    assert modes == [0o755, 0o755]
    assert (tmp_path / "layer/usr/file").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["layer"]
