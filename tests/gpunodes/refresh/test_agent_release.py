from __future__ import annotations

import pytest
import urllib3

from gpunodes.refresh.agent_release import published


def test_the_version_is_asked_for_beside_the_packages() -> None:
    asked: list[str] = []

    def ask(url: str) -> str:
        asked.append(url)
        return "1.300064.0b1337\n"

    assert published("https://bucket", ask) == "1.300064.0b1337"
    assert asked == ["https://bucket/info/latest/CWAGENT_VERSION"]


@pytest.mark.parametrize("answer", ["", "<html>log in to the hotel's network</html>", "latest", "1.2 3"])
def test_an_answer_that_is_no_version_is_none(answer: str) -> None:
    assert published("https://bucket", lambda _url: answer) is None


@pytest.mark.parametrize("error", [urllib3.exceptions.HTTPError("no route"), ValueError("HTTP status 403"), OSError()])
def test_a_bucket_that_does_not_answer_is_none(error: Exception) -> None:
    def refuse(_url: str) -> str:
        raise error

    assert published("https://bucket", refuse) is None
