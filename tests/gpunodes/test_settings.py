from __future__ import annotations

from pathlib import Path

import pytest

from gpunodes import settings
from gpunodes.errors import UsageError
from gpunodes.settings import REPOSITORY, Settings


def load(folder: Path, text: str) -> Settings:
    path = folder / "gpunodes.toml"
    path.write_text(text)
    return settings.load(path)


def test_missing_file_means_the_defaults(tmp_path: Path) -> None:
    loaded = settings.load(tmp_path / "gpunodes.toml")

    assert loaded == Settings()
    assert loaded.work_folder == REPOSITORY / ".gpunodes"


def test_values_replace_defaults_one_by_one(tmp_path: Path) -> None:
    loaded = load(tmp_path, 'region = "eu-central-1"\nroot_volume_size_gib = 100\n')

    assert loaded == Settings(region="eu-central-1", root_volume_size_gib=100)


def test_work_folder_is_relative_to_the_file(tmp_path: Path) -> None:
    loaded = load(tmp_path, 'work_folder = "work"\n')

    assert loaded.work_folder == tmp_path / "work"
    assert loaded.runs_folder == tmp_path / "work" / "runs"
    assert loaded.cache_folder == tmp_path / "work" / "cache"


def test_work_folder_may_be_absolute_or_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")

    assert load(tmp_path, 'work_folder = "/srv/work"\n').work_folder == Path("/srv/work")
    assert load(tmp_path, 'work_folder = "~/work"\n').work_folder == Path("/home/somebody/work")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('regoin = "x"', r"unknown key `regoin`; did you mean `region`\?"),
        ("zzz = 1", r"unknown key `zzz`; known are: region, .*work_folder\."),
        ("region = 5", r"`region` must be a text in quotes, not 5\."),
        ('root_volume_size_gib = "75"', r"`root_volume_size_gib` must be a whole number, not '75'\."),
        ("root_volume_size_gib = true", r"`root_volume_size_gib` must be a whole number, not True\."),
        ("root_volume_size_gib = 7.5", r"`root_volume_size_gib` must be a whole number, not 7\.5\."),
        ("work_folder = 1", r"`work_folder` must be a text in quotes, not 1\."),
        ("spot = 1", r"`spot` must be true or false, not 1\."),
        ('ssh_interface = "public"', r"`ssh_interface` must be one of session_manager, public_ip, private_ip\."),
        ('ssh_key = "mine"', r"`ssh_key` must be one of instance_connect, key_pair\."),
        ('channel = "a/b"', r"`channel` must have letters, digits and hyphens only"),
        ("region = \n", r"gpunodes\.toml is not valid TOML \(.*line 1.*\); correct that line\."),
    ],
)
def test_bad_file_is_a_usage_error_in_one_sentence(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        load(tmp_path, text)

    assert caught.value.exit_code == 2


def test_file_that_is_no_utf8_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "gpunodes.toml").write_bytes(b'region = "\xff"')

    with pytest.raises(UsageError, match="not valid TOML"):
        settings.load(tmp_path / "gpunodes.toml")
