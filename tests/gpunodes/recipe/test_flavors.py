from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from gpunodes.errors import UsageError
from gpunodes.recipe import flavors

TODAY = date(2026, 11, 22)
FLAVOR = (flavors.FOLDER / "al2023.toml").read_text()


def written(folder: Path, text: str) -> Path:
    (folder / "mine.toml").write_text(text)
    return folder


def test_every_flavor_of_this_checkout_can_be_read() -> None:
    names = [flavor.name for flavor in flavors.every()]

    assert {"al2023", "ubuntu-22.04", "ubuntu-24.04", "debian-12"} <= set(names)
    assert [flavor.name for flavor in flavors.every() if flavor.package_family not in {"apt", "dnf"}] == []


def test_a_flavor_is_what_its_file_says() -> None:
    flavor = flavors.load("al2023")

    assert (flavor.ssh_username, flavor.root_device_name, flavor.package_family) == ("ec2-user", "/dev/xvda", "dnf")
    assert flavor.ssm_parameter.endswith("base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id")
    assert flavor.minimum_root_gib == 75


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ubuntu-22", r"did you mean `ubuntu-22\.04`\?"),
        ("al2032", "did you mean `al2023`"),
        ("", "known are: al2023, "),
    ],
)
def test_unknown_flavor_suggests_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"There is no flavor `{name}`; .*{hint}") as caught:
        flavors.load(name)

    assert caught.value.exit_code == 2


def test_only_what_is_published_and_maintained_is_offered() -> None:
    assert flavors.usable(TODAY) == ["al2023", "ubuntu-22.04", "ubuntu-24.04"]
    assert flavors.usable(date(2027, 6, 2)) == ["al2023", "ubuntu-24.04"]


@pytest.mark.parametrize(("day", "ended"), [(date(2026, 6, 30), False), (date(2026, 7, 1), True)])
def test_a_flavor_ends_after_its_last_day(day: date, ended: bool) -> None:
    assert flavors.load("amazon-linux-2").has_ended(day) is ended


@pytest.mark.parametrize(
    ("name", "image", "fits"),
    [
        ("al2023", "Deep Learning Base OSS Nvidia Driver GPU AMI (Amazon Linux 2023) 20260806", True),
        ("al2023", "Deep Learning Base OSS Nvidia Driver GPU AMI (Amazon Linux 2) Version 70.3", False),
        ("amazon-linux-2", "Deep Learning Base OSS Nvidia Driver GPU AMI (Amazon Linux 2) Version 70.3", True),
        ("amazon-linux-2", "amzn2-ami-hvm-2.0.20260601.0-x86_64-gp2", True),
        ("amazon-linux-2", "Deep Learning Base OSS Nvidia Driver GPU AMI (Amazon Linux 2023) 20260806", False),
        ("debian-12", "debian-12-gpu-offline-20261122", True),
    ],
)
def test_an_image_fits_a_flavor_by_its_name(name: str, image: str, fits: bool) -> None:
    assert flavors.load(name).fits(image) is fits


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("description = ", "mine.toml is not valid TOML"),
        (FLAVOR.replace("package_family", "package_familly"), "mine.toml: `package_famil.*` is (missing|unknown)"),
        (FLAVOR + 'more = "x"\n', "mine.toml: `more` is unknown"),
        (FLAVOR.replace("minimum_root_gib = 75", 'minimum_root_gib = "75"'), "`minimum_root_gib` must not be '75'"),
        (FLAVOR.replace('["898082745236"]', '"898082745236"'), "`owners` must not be"),
        (FLAVOR.replace('["898082745236"]', "[898082745236]"), "`owners` must not be"),
    ],
)
def test_a_flavor_file_with_a_fault_is_a_usage_error(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        flavors.load("mine", written(tmp_path, text))


def test_a_flavor_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").mkdir()

    with pytest.raises(UsageError, match=r"mine\.toml cannot be read"):
        flavors.load("mine", tmp_path)
