from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpunodes.aws import Clients
from gpunodes.errors import AwsError
from gpunodes.proof.outage import Outage, publishing_denied

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
SHOWN = Outage(NOON, "Allow cloudwatch:PutMetricData", True, True, NOON + timedelta(seconds=42))


@pytest.fixture
def role(clients: Clients) -> str:
    clients.client("iam").create_role(RoleName="instance", AssumeRolePolicyDocument="{}")
    return "instance"


def policies(clients: Clients, role: str) -> list[dict[str, Any]]:
    iam = clients.client("iam")
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    return [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]


def test_the_role_may_not_publish_inside_and_may_again_afterwards(clients: Clients, role: str) -> None:
    with publishing_denied(clients, role):
        [policy] = policies(clients, role)
        assert policy["Statement"] == [{"Effect": "Deny", "Action": "cloudwatch:PutMetricData", "Resource": "*"}], (
            json.dumps(policy)
        )
    assert policies(clients, role) == []


def test_it_may_publish_again_whatever_happens(clients: Clients, role: str) -> None:
    with pytest.raises(KeyboardInterrupt), publishing_denied(clients, role):
        raise KeyboardInterrupt
    assert policies(clients, role) == []


def test_a_role_that_is_not_there_is_one_sentence(clients: Clients) -> None:
    with (
        pytest.raises(AwsError, match="AWS refused while denying the test instance to publish"),
        publishing_denied(clients, "nobody"),
    ):
        pytest.fail("nothing was denied")


def test_an_outage_that_was_noticed_hidden_and_filled_passes() -> None:
    made = SHOWN.check()

    assert made.passed is True
    assert made.reason == "what was measured in 42 s without permission came afterwards, at its own time"
    assert made.evidence["gpumon_logged"] == "Allow cloudwatch:PutMetricData"


@pytest.mark.parametrize(
    ("outage", "reason"),
    [
        (replace(SHOWN, complaint_line=""), "gpumon never said that it may not publish, so nothing was shown"),
        (replace(SHOWN, was_hidden=False), "what was measured in the outage was in CloudWatch before it ended"),
        (replace(SHOWN, was_filled=False), "what was measured in the outage is not in CloudWatch"),
        (Outage(NOON), "there is no GPU to look at"),
    ],
)
def test_anything_less_fails_and_says_what(outage: Outage, reason: str) -> None:
    made = outage.check()

    assert (made.passed, made.reason) == (False, reason)


def test_the_complaint_is_the_line_of_the_journal_since_then() -> None:
    commands = []

    class Journal:
        def run(self, command: str) -> str:
            commands.append(command)
            return "Allow cloudwatch:PutMetricData in the role\n"

        def write(self, path: str, content: str) -> None:
            raise AssertionError(path + content)

    assert Outage(NOON).complaint(Journal()) == "Allow cloudwatch:PutMetricData in the role"
    assert f"--since=@{int(NOON.timestamp())}" in commands[0]
