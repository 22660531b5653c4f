from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from gpumon.aws import credentials_source, delivery_error
from gpumon.errors import DeliveryError, RefusedError


def answer(status: int, code: str) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "x"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "PutMetricData",
    )


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AccessDenied", "in the role"),
        (400, "AccessDeniedException", "in the role"),
        (400, "ThrottlingException", "Check the way"),
        (500, "InternalServiceFault", "Check the way"),
    ],
)
def test_what_may_mend_is_kept_and_says_what_to_do(status: int, code: str, words: str) -> None:
    error = delivery_error(answer(status, code))

    assert not isinstance(error, RefusedError)
    assert words in str(error)


@pytest.mark.parametrize(("status", "code"), [(400, "InvalidParameterValueException"), (413, "anything")])
def test_what_cloudwatch_will_never_take_is_refused(status: int, code: str) -> None:
    assert isinstance(delivery_error(answer(status, code)), RefusedError)


@pytest.mark.parametrize("variables", [{"AWS_PROFILE": "nobody"}, {"AWS_ACCESS_KEY_ID": "half"}])
def test_credentials_that_are_wrong_are_an_error_of_ours(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(DeliveryError, match="Correct the AWS configuration"):
        credentials_source()
