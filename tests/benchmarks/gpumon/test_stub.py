from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

import pytest

from benchmarks.gpumon import stub
from gpumon.identity import fetch_identity

if TYPE_CHECKING:
    from collections.abc import Iterator

METRIC_DATA = {"X-Amz-Target": "GraniteServiceVersion20100801.PutMetricData", "Authorization": "AWS4-HMAC-SHA256 ..."}


@pytest.fixture
def endpoint() -> Iterator[stub.Stub]:
    with stub.serving() as serving:
        yield serving


def post(endpoint: stub.Stub, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(endpoint.url.removeprefix("http://"))
    try:
        connection.request("POST", "/", b"{...}", headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_signed_put_metric_data_call_is_accepted_and_counted(endpoint: stub.Stub) -> None:
    assert post(endpoint, {**METRIC_DATA, "Content-Encoding": "gzip"}) == 200
    assert endpoint.arrived.wait(5)
    assert [(call.body_bytes, call.is_gzip) for call in endpoint.calls] == [(5, True)]


def test_anything_else_is_refused_and_noted(endpoint: stub.Stub) -> None:
    assert post(endpoint, {"X-Amz-Target": "GraniteServiceVersion20100801.GetMetricData"}) == 400
    assert endpoint.strangers == ["POST /"]
    assert endpoint.calls == []


def test_it_says_who_the_host_is_as_the_metadata_service_does(endpoint: stub.Stub) -> None:
    assert fetch_identity(endpoint.url).instance_id == stub.IDENTITY["instanceId"]
