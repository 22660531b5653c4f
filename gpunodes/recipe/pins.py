"""The pins of a bake: packer/pins.toml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomllib

from gpunodes.errors import UsageError
from gpunodes.recipe import flavors
from gpunodes.settings import REPOSITORY
from gpunodes.target import Target

PINS_FILE = REPOSITORY / "packer" / "pins.toml"
_FINGERPRINT = re.compile(r"[0-9A-F]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"latest|[0-9][0-9A-Za-z.]*")


@dataclass(frozen=True)
class Pins:
    """What a bake takes from elsewhere.

    Attributes:
        agent_version: of the CloudWatch agent, or `latest`.
        agent_key_fingerprint: 40 hexadecimal digits: the key that must have signed the agent.
        agent_sha256: flavor -> hex digest of the agent's package; empty for a flavor that is held by signature alone.
    """

    agent_version: str
    agent_key_fingerprint: str
    agent_sha256: Mapping[str, str] = field(default_factory=dict)


def read(path: Path = PINS_FILE) -> Pins:
    """The pins of this checkout.

    Raises:
        UsageError: the file is missing or a pin in it is wrong.
    """
    try:
        document = tomllib.loads(path.read_text())
        [(section, agent)] = document.items()
        pins = Pins(agent["version"], agent["key_fingerprint"], dict(agent.get("sha256", {})))
        extra = agent.keys() - {"version", "key_fingerprint", "sha256"}
    except OSError as error:
        raise UsageError(f"{path.name} cannot be read ({error.strerror}); take it from the repository.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path.name} is not as it should be ({error}); compare it with the repository's.") from error
    if section != "cloudwatch_agent" or extra:
        raise UsageError(f"{path.name} has an unknown pin `{min(extra, default=section)}`; take it out.")
    _check(path.name, pins)
    return pins


def of_target(target: Target, pins: Pins) -> Pins:
    """The pins as they hold on a target: an offline cloud signs its stand-in of the agent with a key of its own."""
    if not target.agent_key_fingerprint:
        return pins
    return replace(pins, agent_version="latest", agent_sha256={}, agent_key_fingerprint=target.agent_key_fingerprint)


def _check(name: str, pins: Pins) -> None:
    if not _matches(_VERSION, pins.agent_version):
        raise UsageError(f"{name}: version must be `latest` or a version of the agent, not {pins.agent_version!r}.")
    if not _matches(_FINGERPRINT, pins.agent_key_fingerprint):
        raise UsageError(
            f"{name}: key_fingerprint must be the full one, 40 hexadecimal digits: short ids can be forged."
        )
    for flavor, digest in pins.agent_sha256.items():
        flavors.load(flavor)  # a digest for a flavor that does not exist would hold nothing
        if not _matches(_SHA256, digest):
            raise UsageError(f"{name}: the sha256 of {flavor} must have 64 hexadecimal digits.")
        if pins.agent_version == "latest":
            raise UsageError(f"{name}: a sha256 needs a version: `latest` is another package tomorrow.")


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
