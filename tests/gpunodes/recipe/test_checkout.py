from __future__ import annotations

import subprocess
from pathlib import Path

from gpunodes.recipe import checkout


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(folder: Path) -> Path:
    git(folder, "init", "--quiet")
    (folder / "file").write_text("one")
    git(folder, "add", "file")
    git(folder, "commit", "--quiet", "--message", "one")
    return folder


def test_clean_checkout_is_its_commit(tmp_path: Path) -> None:
    found = checkout.read(repository(tmp_path))

    assert found.commit == git(tmp_path, "rev-parse", "HEAD")
    assert found.is_dirty is False
    assert str(found) == found.commit


def test_changed_checkout_says_so(tmp_path: Path) -> None:
    (repository(tmp_path) / "file").write_text("two")

    found = checkout.read(tmp_path)
    assert found.is_dirty is True
    assert str(found).endswith("-dirty")


def test_new_file_counts_as_a_change(tmp_path: Path) -> None:
    (repository(tmp_path) / "more").write_text("")

    assert checkout.read(tmp_path).is_dirty is True


def test_unpacked_archive_has_no_commit(tmp_path: Path) -> None:
    assert checkout.read(tmp_path) == checkout.Checkout(None, None)
    assert str(checkout.read(tmp_path)) == "unknown"


def test_repository_without_a_commit_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")

    assert checkout.read(tmp_path) == checkout.Checkout(None, False)
