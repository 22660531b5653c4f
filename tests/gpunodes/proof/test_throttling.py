from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from gpunodes.errors import AwsError
from gpunodes.proof.throttling import patiently
from tests.gpunodes.fakes import FakeClock

THROTTLED = ClientError({"Error": {"Code": "Throttling", "Message": "Rate exceeded"}}, "GetMetricData")
DENIED = ClientError({"Error": {"Code": "AccessDenied", "Message": "No"}}, "GetMetricData")


class Call:
    """Answers as it is told, one after another; the last answer for ever."""

    def __init__(self, *answers: str | ClientError) -> None:
        self.answers = list(answers)
        self.made = 0

    def __call__(self) -> str:
        answer = self.answers[min(self.made, len(self.answers) - 1)]
        self.made += 1
        if isinstance(answer, ClientError):
            raise answer
        return answer


def make(call: Call, clock: FakeClock) -> str:
    began = datetime(2030, 1, 1, tzinfo=UTC)
    return patiently("reading", call, now=lambda: began + timedelta(seconds=clock()), wait=clock.wait)


def test_a_throttled_call_is_made_again_ever_more_slowly() -> None:
    clock, call = FakeClock(), Call(*[THROTTLED] * 9, "well")

    assert make(call, clock) == "well"
    assert clock.waits[:4] == [1.0, 1.5, 2.25, 3.375]
    assert clock.waits == sorted(clock.waits)
    assert clock.waits[-1] == 10.0


def test_a_call_that_is_throttled_for_a_minute_is_an_error_that_says_so() -> None:
    clock, call = FakeClock(), Call(THROTTLED)

    with pytest.raises(AwsError) as refused:
        make(call, clock)

    assert 60 <= sum(clock.waits) < 70
    assert str(refused.value) == (
        "AWS throttled us for 60 s while reading; find out what else asks so often in this account, and repeat."
    )


@pytest.mark.parametrize("before", [[], [THROTTLED]])
def test_another_error_is_not_waited_for(before: list[ClientError]) -> None:
    clock, call = FakeClock(), Call(*before, DENIED)

    with pytest.raises(AwsError, match="AWS refused while reading"):
        make(call, clock)

    assert call.made == len(before) + 1
