from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from gpumon import aws
from gpumon.aws import credentials_source, delivery_error, make_cloudwatch_client
from gpumon.errors import DeliveryError, RefusedError
from tests.gpumon.cloudwatch_endpoint import Endpoint, cloudwatch_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator


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
        (400, "SomethingNew", "Check the way"),
        (500, "InternalServiceFault", "Check the way"),
    ],
)
def test_what_may_mend_is_kept_and_says_what_to_do(status: int, code: str, words: str) -> None:
    error = delivery_error(answer(status, code))

    assert not isinstance(error, RefusedError)
    assert words in str(error)


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "InvalidParameterValueException"), (400, "SerializationException"), (413, "anything")],
)
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


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    with cloudwatch_endpoint() as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
        yield endpoint


def put(client: Any) -> None:
    client.put_metric_data(
        Namespace="GPU",
        MetricData=[{"MetricName": "M", "Timestamp": datetime(2026, 1, 1, tzinfo=timezone.utc), "Values": [1.0]}],
    )


def test_the_client_gives_up_within_seconds_and_retries_in_standard_mode() -> None:
    config: Any = make_cloudwatch_client("us-east-1").meta.config

    assert (config.connect_timeout, config.read_timeout) == (5, 10)
    assert config.retries == {"mode": "standard", "total_max_attempts": 3}
    assert not config.disable_request_compression


def test_an_error_of_the_service_is_retried_at_once_and_three_times_at_most(endpoint: Endpoint) -> None:
    fault = json.dumps({"__type": "InternalServiceFault"}).encode()
    client = make_cloudwatch_client("us-east-1")
    endpoint.answers = [(500, fault)]
    put(client)
    assert len(endpoint.requests) == 2

    endpoint.answers = [(500, fault)] * 3
    with pytest.raises(ClientError):
        put(client)
    assert len(endpoint.requests) == 5


def test_what_may_have_been_accepted_is_not_sent_again_within_the_call(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws, "READ_TIMEOUT_SECONDS", 0.2)
    endpoint.silent = True
    client = make_cloudwatch_client("us-east-1")

    with pytest.raises(ReadTimeoutError) as caught:
        put(client)

    assert len(endpoint.requests) == 1
    error = delivery_error(caught.value)
    assert not isinstance(error, RefusedError)
    assert "Check the way" in str(error)


def test_a_refusal_as_cloudwatch_words_it_is_told_apart(endpoint: Endpoint) -> None:
    endpoint.answers = [(400, json.dumps({"__type": "com.amazonaws#InvalidParameterValueException"}).encode())]

    with pytest.raises(ClientError) as caught:
        put(make_cloudwatch_client("us-east-1"))

    assert isinstance(delivery_error(caught.value), RefusedError)
