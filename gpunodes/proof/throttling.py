"""Reads that AWS throttles: asked again, ever more slowly, so that a proof does not end because others ask, too."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from gpunodes.aws import aws_errors, is_throttled
from gpunodes.errors import AwsError

PATIENCE_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 10.0

T = TypeVar("T")


def patiently(doing: str, call: Callable[[], T], *, now: Callable[[], datetime], wait: Callable[[float], None]) -> T:
    """Make a call, and make it again for a minute while AWS throttles it; boto3 itself gives up after seconds.

    Args:
        doing: what is attempted, as for `aws_errors`.
        call: reads something; it may be made many times.
        now: UTC clock.
        wait: sleeps for so many seconds.

    Raises:
        AwsError: it was throttled all the time, or failed for another reason.
    """
    deadline = now() + timedelta(seconds=PATIENCE_SECONDS)
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            with aws_errors(doing):
                return call()
        except AwsError as error:
            if not is_throttled(error.__cause__):
                raise
            if now() >= deadline:
                raise AwsError(
                    f"AWS throttled us for {PATIENCE_SECONDS:.0f} s while {doing}; find out what else asks so often in"
                    " this account, and repeat."
                ) from error
        wait(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
