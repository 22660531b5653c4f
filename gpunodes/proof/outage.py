"""An outage made on purpose: the instance's role may not publish for a while."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from gpunodes.aws import Clients, aws_errors
from gpunodes.proof.check import Check, check
from gpunodes.proof.clone import Shell
from gpunodes.proof.service_checks import GPUMON

_POLICY_NAME = "gpunodes-outage"
_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Deny", "Action": "cloudwatch:PutMetricData", "Resource": "*"}],
}


@contextmanager
def publishing_denied(clients: Clients, role_name: str) -> Iterator[None]:
    """Deny PutMetricData to a role (IAM PutRolePolicy), and allow it again whatever happens (DeleteRolePolicy).

    IAM takes seconds until a change counts everywhere.

    Raises:
        AwsError: a call was refused.
    """
    iam = clients.client("iam")
    policy = {"RoleName": role_name, "PolicyName": _POLICY_NAME}
    with aws_errors("denying the test instance to publish"):
        iam.put_role_policy(**policy, PolicyDocument=json.dumps(_POLICY))
    try:
        yield
    finally:
        with aws_errors("allowing the test instance to publish again"):
            iam.delete_role_policy(**policy)


@dataclass(frozen=True)
class Outage:
    """What was seen of an outage.

    Attributes:
        denied_at: UTC.
        complaint_line: what gpumon logged about it; empty where it said nothing.
        was_hidden: whether what was measured meanwhile was not in CloudWatch before the outage ended.
        was_filled: whether it is there now, at its own time.
        allowed_at: UTC; None where nothing was denied.
    """

    denied_at: datetime
    complaint_line: str = ""
    was_hidden: bool = False
    was_filled: bool = False
    allowed_at: datetime | None = None

    def complaint(self, shell: Shell) -> str:
        """The line in which gpumon says that it may not publish; empty while it has not."""
        since = int(self.denied_at.timestamp())
        found = shell.run(
            f"sudo journalctl --unit={GPUMON} --since=@{since} --output=cat --no-pager"
            " | grep --max-count=1 cloudwatch:PutMetricData || true"
        )
        return found.strip()

    def check(self) -> Check:
        """Whether gpumon noticed, kept what it could not publish, and published it afterwards."""
        if self.allowed_at is None:
            reason = "there is no GPU to look at"
        elif not self.complaint_line:
            reason = "gpumon never said that it may not publish, so nothing was shown"
        elif not self.was_hidden:
            reason = "what was measured in the outage was in CloudWatch before it ended"
        elif not self.was_filled:
            reason = "what was measured in the outage is not in CloudWatch"
        else:
            seconds = (self.allowed_at - self.denied_at).total_seconds()
            reason = f"what was measured in {seconds:.0f} s without permission came afterwards, at its own time"
        passed = bool(self.allowed_at and self.complaint_line and self.was_hidden and self.was_filled)
        evidence = {
            "denied_at": self.denied_at.isoformat(),
            "allowed_at": self.allowed_at.isoformat() if self.allowed_at else None,
            "gpumon_logged": self.complaint_line,
            "was_hidden": self.was_hidden,
            "was_filled": self.was_filled,
        }
        return check("gap_is_filled", passed, reason, evidence)
