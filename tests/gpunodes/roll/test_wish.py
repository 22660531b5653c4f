"""What is asked of a roll: by the policy, and by the command line instead."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gpunodes.channel import policy
from gpunodes.channel.policy import Policy
from gpunodes.errors import UsageError
from gpunodes.roll.wish import Wish, wish

POLICY = """\
[stable]
groups = ["web", "batch"]
alarms = ["errors"]
minimum_healthy_percent = 100
maximum_healthy_percent = 110
warmup_seconds = 90
"""


def test_the_policy_says_what_the_command_line_does_not(tmp_path: Path) -> None:
    (tmp_path / "refresh.toml").write_text(POLICY)
    rules = policy.load("stable", tmp_path / "refresh.toml")

    asked = wish(rules, {"group": "", "alarm": "", "min_healthy": "", "max_healthy": "", "warmup": ""})

    assert asked == Wish(("web", "batch"), ("errors",), 100, 110, timedelta(seconds=90))
    assert asked.preferences() == {
        "MinHealthyPercentage": 100,
        "MaxHealthyPercentage": 110,
        "InstanceWarmup": 90,
        "AlarmSpecification": {"Alarms": ["errors"]},
    }


def test_the_command_line_comes_first(tmp_path: Path) -> None:
    (tmp_path / "refresh.toml").write_text(POLICY)
    rules = policy.load("stable", tmp_path / "refresh.toml")
    options = {"group": "api, api,db", "alarm": "slow", "min_healthy": "0", "max_healthy": "100", "warmup": "0"}

    assert wish(rules, options) == Wish(("api", "db"), ("slow",), 0, 100, timedelta(0))


def test_what_nobody_says_is_left_to_the_group() -> None:
    assert wish(Policy(), {"group": "web"}).preferences() == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "Name the Auto Scaling groups with --group, or as `groups` in refresh.toml"),
        ({"min_healthy": "half"}, "--min-healthy takes a whole number from 0 to 100, not 'half'"),
        ({"min_healthy": "101"}, "--min-healthy takes a whole number from 0 to 100"),
        ({"max_healthy": "99"}, "--max-healthy takes a whole number from 100 to 200"),
        ({"max_healthy": "150"}, "give --min-healthy as well"),
        ({"min_healthy": "10", "max_healthy": "200"}, "Between 10 and 200 % healthy there are more than 100"),
        ({"warmup": "-1"}, "--warmup takes a whole number from 0 to 86400, not '-1'"),
        ({"alarm": ",".join(f"alarm-{number}" for number in range(11))}, "at most 10 alarms, not 11"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_sentence(options: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        wish(Policy(), options if not options else {"group": "web", **options})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('groups = "web"', r'`groups` must be a list of Auto Scaling groups, as \["web"\]'),
        ("alarms = [1]", "`alarms` must be a list"),
        ("minimum_healthy_percent = 101", "must be a whole number from 0 to 100"),
        ("maximum_healthy_percent = 90", "must be a whole number from 100 to 200"),
        ("minimum_healthy_percent = true", "must be a whole number from 0 to 100"),
        ("warmup_seconds = 0", "must be a number of seconds above 0"),
    ],
)
def test_a_policy_that_cannot_be_one_is_refused(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "refresh.toml").write_text(f"[stable]\n{line}\n")

    with pytest.raises(UsageError, match=said):
        policy.load("stable", tmp_path / "refresh.toml")
