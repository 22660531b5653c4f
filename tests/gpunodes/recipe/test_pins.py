from __future__ import annotations

from pathlib import Path

import pytest

from gpunodes.errors import UsageError
from gpunodes.recipe import pins
from tests.gpunodes import fakes

FINGERPRINT = "A" * 40
DIGEST = "0" * 64


def read(folder: Path, version: str = "1.2", fingerprint: str = FINGERPRINT, more: str = "") -> pins.Pins:
    path = folder / "pins.toml"
    path.write_text(f'[cloudwatch_agent]\nversion = "{version}"\nkey_fingerprint = "{fingerprint}"\n{more}')
    return pins.read(path)


def test_pins_of_this_checkout_name_the_key_that_aws_publishes() -> None:
    assert pins.read().agent_key_fingerprint == "937616F3450B7D806CBD9725D58167303B789C72"


def test_a_digest_is_kept_for_its_flavor(tmp_path: Path) -> None:
    read_pins = read(tmp_path, more=f'[cloudwatch_agent.sha256]\n"al2023" = "{DIGEST}"\n')

    assert read_pins == pins.Pins("1.2", FINGERPRINT, {"al2023": DIGEST})


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"version": "../../etc"}, "version must be `latest` or a version"),
        ({"version": ""}, "version must be"),
        ({"fingerprint": "3B789C72"}, "must be the full one, 40 hexadecimal digits"),
        ({"fingerprint": "a" * 40}, "must be the full one"),
        ({"more": '[cloudwatch_agent.sha256]\n"al2023" = "12"\n'}, "the sha256 of al2023 must have 64"),
        ({"version": "latest", "more": f'[cloudwatch_agent.sha256]\n"al2023" = "{DIGEST}"\n'}, "needs a version"),
        ({"more": f'[cloudwatch_agent.sha256]\n"ubuntu-2204" = "{DIGEST}"\n'}, "no flavor `ubuntu-2204`; did you mean"),
        ({"more": f'sha256 = "{DIGEST}"\n'}, "is not as it should be"),
        ({"more": "sha256 = 5\n"}, "is not as it should be"),
        ({"more": 'colour = "red"\n'}, "has an unknown pin `colour`"),
        ({"more": '[more]\nversion = "1"\n'}, "is not as it should be"),
        ({"more": "x = "}, "is not as it should be"),
    ],
)
def test_a_wrong_pin_is_a_usage_error(tmp_path: Path, arguments: dict[str, str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        read(tmp_path, **arguments)


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        pins.read(tmp_path / "pins.toml")


def test_a_target_with_a_key_of_its_own_takes_its_newest_package() -> None:
    pinned = pins.Pins("1.2", FINGERPRINT, {"debian-12": DIGEST})

    assert pins.of_target(fakes.target(), pinned) == pinned
    assert pins.of_target(fakes.target(agent_key_fingerprint="B" * 40), pinned) == pins.Pins("latest", "B" * 40, {})
