from __future__ import annotations

import os
from pathlib import Path

import pytest

from localaws.errors import CommandFailed, LocalAwsError
from localaws.images import Image, ImageStore

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can own files as another and make devices")


@pytest.fixture
def base(tmp_path: Path) -> Image:
    return Image("ami-base", (tmp_path / "cache/driver", tmp_path / "cache/debian"))


@pytest.fixture
def store(tmp_path: Path, base: Image) -> ImageStore:
    return ImageStore(tmp_path / "images", [base])


def _writes(folder: Path, content: str = "x") -> Path:
    folder.mkdir()
    (folder / "file").write_text(content)
    return folder


def test_base_image_is_there_from_the_start(store: ImageStore, base: Image) -> None:
    assert "ami-base" in store
    assert store.get("ami-base") == base


def test_unknown_image_is_named(store: ImageStore) -> None:
    assert "ami-1" not in store
    with pytest.raises(LocalAwsError, match=r"ami-1; launch from one that `DescribeImages` lists\.$"):
        store.get("ami-1")


def test_captured_disk_is_a_copy_on_top_of_the_image_below(tmp_path: Path, store: ImageStore, base: Image) -> None:
    writes = _writes(tmp_path / "writes", "baked")
    (writes / "link").symlink_to("/etc/passwd")
    (writes / "file").chmod(0o4711)

    image = store.capture("ami-1", writes, base)
    (writes / "file").write_text("later")

    assert store.get("ami-1") == image
    assert image.layers == (tmp_path / "images/ami-1", *base.layers)
    assert (image.layers[0] / "file").read_text() == "baked"
    assert (image.layers[0] / "file").stat().st_mode & 0o7777 == 0o4711
    assert (image.layers[0] / "link").readlink() == Path("/etc/passwd")


def test_capture_keeps_hard_links_and_times(tmp_path: Path, store: ImageStore, base: Image) -> None:
    writes = _writes(tmp_path / "writes")
    os.link(writes / "file", writes / "same")
    os.utime(writes / "file", ns=(10**18, 10**18))

    layer = store.capture("ami-1", writes, base).layers[0]

    assert (layer / "file").stat().st_ino == (layer / "same").stat().st_ino
    assert (layer / "file").stat().st_mtime_ns == 10**18


@needs_root
def test_capture_keeps_owners_and_deletions(tmp_path: Path, store: ImageStore, base: Image) -> None:
    writes = _writes(tmp_path / "writes")
    os.chown(writes / "file", 1234, 5678)
    os.mknod(writes / "deleted", 0o020000, os.makedev(0, 0))
    (writes / "replaced").mkdir()
    os.setxattr(writes / "replaced", "trusted.overlay.opaque", b"y")

    layer = store.capture("ami-1", writes, base).layers[0]

    assert ((layer / "file").stat().st_uid, (layer / "file").stat().st_gid) == (1234, 5678)
    assert (layer / "deleted").is_char_device()
    assert (layer / "deleted").stat().st_rdev == 0
    assert os.getxattr(layer / "replaced", "trusted.overlay.opaque") == b"y"


def test_image_of_an_instance_of_an_image_has_every_layer(tmp_path: Path, store: ImageStore, base: Image) -> None:
    first = store.capture("ami-1", _writes(tmp_path / "one"), base)
    second = store.capture("ami-2", _writes(tmp_path / "two"), first)

    assert second.layers == (tmp_path / "images/ami-2", tmp_path / "images/ami-1", *base.layers)


def test_capture_that_fails_halfway_leaves_nothing(
    tmp_path: Path, store: ImageStore, base: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/cp").write_text(
        '#!/bin/sh\nfor last; do :; done\n/bin/mkdir "$last"\necho disk full >&2\nexit 1\n'
    )
    (tmp_path / "bin/cp").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    with pytest.raises(CommandFailed, match="disk full"):
        store.capture("ami-1", _writes(tmp_path / "writes"), base)

    assert "ami-1" not in store
    assert list((tmp_path / "images").iterdir()) == []


def test_alias_shares_the_disk(tmp_path: Path, store: ImageStore, base: Image) -> None:
    original = store.capture("ami-1", _writes(tmp_path / "one"), base)

    store.alias("ami-copy", "ami-1")

    assert store.get("ami-copy") == Image("ami-copy", original.layers)


def test_alias_of_an_unknown_image_is_refused(store: ImageStore) -> None:
    with pytest.raises(LocalAwsError, match="ami-1"):
        store.alias("ami-copy", "ami-1")
    assert "ami-copy" not in store


def test_forgotten_image_loses_its_layer_and_known_ones_keep_theirs(
    tmp_path: Path, store: ImageStore, base: Image
) -> None:
    store.capture("ami-1", _writes(tmp_path / "one"), base)
    store.capture("ami-2", _writes(tmp_path / "two"), base)

    store.keep_only({"ami-2"}, set())

    assert "ami-1" not in store
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["ami-2"]


def test_layer_stays_while_a_machine_an_image_above_or_a_copy_needs_it(
    tmp_path: Path, store: ImageStore, base: Image
) -> None:
    for name in ("ami-used", "ami-below", "ami-copied"):
        store.capture(name, _writes(tmp_path / name), base)
    store.capture("ami-above", _writes(tmp_path / "above"), store.get("ami-below"))
    store.alias("ami-copy", "ami-copied")

    store.keep_only({"ami-above", "ami-copy"}, {tmp_path / "images/ami-used", *base.layers})

    assert "ami-used" not in store
    assert {path.name for path in (tmp_path / "images").iterdir()} == {
        "ami-used",
        "ami-below",
        "ami-above",
        "ami-copied",
    }


def test_base_image_stays_whatever_the_api_lists(tmp_path: Path, store: ImageStore, base: Image) -> None:
    (tmp_path / "cache/driver").mkdir(parents=True)

    store.keep_only(set(), set())

    assert store.get("ami-base") == base
    assert (tmp_path / "cache/driver").is_dir()
