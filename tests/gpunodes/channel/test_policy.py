from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunodes.channel import policy
from gpunodes.channel.policy import Policy, Window
from gpunodes.errors import UsageError

SUNDAY_NIGHT = Window(6, time(2), timedelta(hours=4))
ACROSS_MIDNIGHT = Window(5, time(23), timedelta(hours=2))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "refresh.toml"
    path.write_text(text)
    return path


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_without_a_file_the_default_holds(tmp_path: Path) -> None:
    assert policy.load("stable", tmp_path / "refresh.toml") == Policy()


def test_each_channel_has_its_own(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[stable]\nsecurity = "window"\nwindow = "Saturday 23:00-01:00"\n'
        "minimum_gap_hours = 48\nmaximum_age_days = 14\n"
        '[canary]\nwindow = "always"\n',
    )

    assert policy.load("stable", path) == Policy("window", ACROSS_MIDNIGHT, timedelta(hours=48), timedelta(days=14))
    assert policy.load("canary", path) == Policy(window=None)
    assert policy.load("other", path) == Policy()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[stable", "refresh.toml is not valid TOML"),
        ('security = "now"', "`security` stands in no table; put it under the name of a channel, as [stable]."),
        ('[stable]\nsecurty = "now"', "[stable] has an unknown key `securty`; did you mean `security`?"),
        ("[stable]\nx = 1", "[stable] has an unknown key `x`; known are: security, window,"),
        ('[stable]\nsecurity = "soon"', '[stable] `security` must be "now" or "window", not \'soon\'.'),
        ('[stable]\nwindow = "someday 02:00-03:00"', "[stable] `window` must be a weekday and hours in UTC"),
        ('[stable]\nwindow = "sunday 25:00-03:00"', "[stable] `window` must be"),
        ("[stable]\nwindow = 3", "[stable] `window` must be"),
        ("[stable]\nminimum_gap_hours = 0", "[stable] `minimum_gap_hours` must be a number of hours above 0, not 0."),
        ("[stable]\nmaximum_age_days = true", "[stable] `maximum_age_days` must be"),
        ("[stable]\nmaximum_age_days = nan", "[stable] `maximum_age_days` must be"),
        ("[stable]\nmaximum_age_days = inf", "[stable] `maximum_age_days` must be"),
        ("[stable]\nmaximum_age_days = 1\nminimum_gap_hours = 25", "[stable] demands a gap longer than the greatest"),
        ("[canary]\nx = 1", "[canary] has an unknown key `x`"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_place(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        policy.load("stable", write(tmp_path, text))

    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("window", "moment", "is_open"),
    [
        (SUNDAY_NIGHT, "2026-11-22 01:59", False),
        (SUNDAY_NIGHT, "2026-11-22 02:00", True),
        (SUNDAY_NIGHT, "2026-11-22 05:59", True),
        (SUNDAY_NIGHT, "2026-11-22 06:00", False),
        (SUNDAY_NIGHT, "2026-11-23 03:00", False),
        (ACROSS_MIDNIGHT, "2026-11-21 23:30", True),
        (ACROSS_MIDNIGHT, "2026-11-22 00:59", True),
        (ACROSS_MIDNIGHT, "2026-11-22 01:00", False),
    ],
)
def test_window_is_open_at_its_hours(window: Window, moment: str, *, is_open: bool) -> None:
    assert window.contains(at(moment)) is is_open


@given(
    st.builds(
        Window, st.integers(0, 6), st.times(), st.integers(1, 1440).map(lambda minutes: timedelta(minutes=minutes))
    ),
    st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 - as hypothesis wants them
)
def test_it_opens_next_within_a_week_and_is_open_then(window: Window, naive: datetime) -> None:
    moment = naive.replace(tzinfo=UTC)

    begin = window.next_begin(moment)

    assert timedelta(0) < begin - moment <= timedelta(days=7)
    assert window.contains(begin)
    assert (begin.weekday(), begin.time()) == (window.weekday, window.begin)


ORGANIZATION = "arn:aws:organizations::123456789012:organization/o-abcdefghij"
UNIT = "arn:aws:organizations::123456789012:ou/o-abcdefghij/ou-abcd-12345678"


def test_regions_and_shares_are_read(tmp_path: Path) -> None:
    file = tmp_path / "refresh.toml"
    file.write_text(f'[stable]\nregions = ["us-west-2"]\nshare_with = ["123456789012", "{ORGANIZATION}", "{UNIT}"]\n')

    found = policy.load("stable", file)

    assert found.regions == ("us-west-2",)
    kinds = ["UserId", "OrganizationArn", "OrganizationalUnitArn"]
    assert [share.kind for share in found.share_with] == kinds
    assert found.share_with[1].permission == {"OrganizationArn": ORGANIZATION}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('regions = "us-west-2"', "`regions` must be a list of regions"),
        ('regions = ["oregon"]', "`regions` has `oregon`, which is no name of a region"),
        ('regions = ["us-west-2", "us-west-2"]', "`regions` has `us-west-2` twice; take one out"),
        ("share_with = [123456789012]", "`share_with` must be a list of accounts and organisations"),
        ('share_with = ["12345678901"]', "`share_with` has `12345678901`, which is no account; those have twelve"),
        ('share_with = ["1234-5678-9012"]', "`1234-5678-9012`, which is no account; those have twelve"),
        ('share_with = ["all"]', "`share_with` has `all`, which is no account, and no ARN"),
        ('share_with = ["123456789012", "123456789012"]', "`share_with` has `123456789012` twice; take one out"),
    ],
)
def test_region_or_share_that_cannot_be_one_is_one_sentence(tmp_path: Path, line: str, sentence: str) -> None:
    file = tmp_path / "refresh.toml"
    file.write_text(f"[stable]\n{line}\n")

    with pytest.raises(UsageError, match=re.escape(sentence)) as caught:
        policy.load("stable", file)

    assert str(caught.value).startswith("refresh.toml: [stable] ")
