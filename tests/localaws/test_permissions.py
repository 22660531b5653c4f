from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from localaws import api
from localaws.api import ObservedApi
from localaws.permissions import Denials, refusal

PUT = "cloudwatch:PutMetricData"


def deny(action: Any = PUT, **more: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": action, "Resource": "*", **more}]}


@dataclass
class Roles:
    """One role with one set of credentials."""

    policies: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0

    def role_of(self, access_key_id: str) -> str | None:
        return "instance" if access_key_id == "ASIAROLE" else None

    def inline_policies(self, role_name: str) -> list[dict[str, Any]]:
        assert role_name == "instance"
        self.asked += 1
        return self.policies


def request(key: str = "ASIAROLE", service: str = "monitoring", operation: str = "PutMetricData") -> dict[str, Any]:
    credential = f"Credential={key}/20260102/us-east-1/{service}/aws4_request"
    return {
        "HTTP_AUTHORIZATION": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0",
        "HTTP_X_AMZ_TARGET": f"GraniteServiceVersion20100801.{operation}",
    }


@pytest.mark.parametrize("action", [PUT, [PUT, "s3:*"], "cloudwatch:*", "*", "CloudWatch:putmetricdata"])
def test_what_a_policy_denies_is_forbidden(action: Any) -> None:
    assert Denials(Roles([{"Statement": []}, deny(action)])).forbids(request()) == PUT
    assert Denials(Roles([{"Statement": deny(action)["Statement"][0]}])).forbids(request()) == PUT


@pytest.mark.parametrize(
    ("policy", "asked"),
    [
        (deny(), request(key="test")),
        (deny(), request(operation="GetMetricData")),
        (deny("*"), request(service="ec2", operation="RunInstances")),
        (deny(), {"HTTP_X_AMZ_TARGET": "GraniteServiceVersion20100801.PutMetricData"}),
        (deny("s3:*"), request()),
        (deny(Condition={"Bool": {"aws:SecureTransport": "false"}}), request()),
        ({"Statement": [{"Effect": "Allow", "Action": PUT, "Resource": "*"}]}, request()),
        ({}, request()),
    ],
    ids=["operator", "other call", "other service", "unsigned", "other action", "condition", "allow", "empty"],
)
def test_everything_else_may_pass(policy: dict[str, Any], asked: dict[str, Any]) -> None:
    assert Denials(Roles([policy])).forbids(asked) is None


def test_a_policy_counts_within_a_second_and_is_not_looked_up_each_time() -> None:
    now = 0.0
    roles = Roles([])
    denials = Denials(roles, clock=lambda: now)
    assert denials.forbids(request()) is None
    roles.policies = [deny()]
    assert denials.forbids(request()) is None
    assert roles.asked == 1

    now = 1.5
    assert denials.forbids(request()) == PUT


@contextmanager
def serving(observed: ObservedApi) -> Iterator[str]:
    """The address of a server with this application."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = api.serve(observed, listener)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def test_boto3_reads_the_refusal_as_an_access_denied() -> None:
    moto_was_asked: list[dict[str, Any]] = []

    def moto(environ: dict[str, Any], _start_response: object) -> list[bytes]:
        moto_was_asked.append(environ)
        return [b""]

    observed = ObservedApi(moto)
    observed.denials = Denials(Roles([deny()]))
    with serving(observed) as url:
        cloudwatch = boto3.client(
            "cloudwatch", region_name="us-east-1", endpoint_url=url, aws_access_key_id="ASIAROLE",
            aws_secret_access_key="x", config=Config(retries={"total_max_attempts": 1}),
        )  # fmt: skip
        with pytest.raises(ClientError) as refused:
            cloudwatch.put_metric_data(Namespace="GPU", MetricData=[{"MetricName": "x", "Value": 1}])
        cloudwatch.close()

    assert refused.value.response["Error"]["Code"] == "AccessDenied"
    assert "explicit deny" in refused.value.response["Error"]["Message"]
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert moto_was_asked == []


def test_the_refusal_states_its_length() -> None:
    status, headers, body = refusal(PUT)

    assert status.startswith("403 ")
    assert dict(headers)["Content-Length"] == str(len(body))
    assert PUT in json.loads(body)["message"]
