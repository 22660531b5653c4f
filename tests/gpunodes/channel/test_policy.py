from __future__ import annotations

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
