"""Why Terraform failed, in a sentence: the reason of whoever refused, and for the ordinary ones what to do."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from gpunodes.proof.terraform_output import Diagnostic

# As the AWS SDK for Go puts it: the service, its call, the request, and then code and message, or why none arrived.
_OPERATION = re.compile(
    r"operation error (?P<service>[^:,]+): (?P<call>\w+), (?:exceeded maximum number of attempts, \d+, )?"
    r"(?:https response error StatusCode: \d+, RequestID: [^,]*, )?(?:api error )?(?P<reason>.*)"
)
_ENCODED = re.compile(r"\s*Encoded authorization failure message: \S+")  # a thousand characters that only STS can read
_NOT_AUTHORIZED = re.compile(r"not authorized to perform: ([\w-]+:\w+)")
_UNANSWERED = re.compile(r"request send failed|no such host|connection refused|dial tcp|i/o timeout")
_CHECKED_BY = re.compile(r"\s*This was checked by the validation rule at .*", re.DOTALL)
_LOCK_HOLDER = re.compile(r"^\s*Who:\s*(\S+)", re.MULTILINE)

# Of Terraform itself: what is in the detail is the reason, and the summary says nothing more.
_CONDITIONS = frozenset({"Resource postcondition failed", "Resource precondition failed", "Invalid value for variable"})
_LOCKED = re.compile(r"Error acquiring the state lock|Error locking state")

# The first that fits the reason says what to do; where there is no capacity, `capacity` does.
_ADVICE = tuple((re.compile(pattern, re.IGNORECASE), advice) for pattern, advice in (
    (r"Throttl|RequestLimitExceeded",
        "repeat in a minute"),
    (r"LimitExceeded",
        "ask AWS for a higher quota (Service Quotas), or name a smaller --type"),
    (r"InvalidAMIID\.(NotFound|Unavailable)|data\.aws_ami\.\S+: Your query returned no results",
        "the image is gone; name another with --ami, or bake one"),
    (r"InvalidInstanceType|instance type.* not exist",
        "name a --type that this region has"),
    (r"ExpiredToken|RequestExpired|InvalidClientTokenId|AuthFailure|SignatureDoesNotMatch|No valid credential sources",
        "log in again and repeat"),
    (r"UnauthorizedOperation|AccessDenied|not authorized to perform",
        "allow {call} to your role"),
    (r"request send failed|no such host|connection refused|dial tcp|i/o timeout",
        "check the network (offline: `invoke offline.status`) and repeat"),
    (r"Failed to (query available provider packages|install provider)|could not connect to registry",
        "check the network, or put the provider into a filesystem mirror"),
))  # fmt: skip


def sentence(command: str, status: int, errors: Sequence[Diagnostic], log: str) -> str:
    """What a person reads of a Terraform that failed.

    Args:
        command: of Terraform, such as `apply`.
        status: its exit status; negative for the signal that ended it.
        errors: that it told; the first is the reason, those after it mostly follow from it.
        log: file with all of it.
    """
    said = f"all that it printed is in {log}"
    if errors:
        reason, advice = _reason(errors[0])
        return f"`terraform {command}` failed: {'; '.join(filter(None, [reason, advice]))}; {said}."
    if status < 0:
        return f"`terraform {command}` was ended by {_name(-status)} before it was done; {said}."
    return f"`terraform {command}` failed: exit status {status}; {said}."


def _reason(error: Diagnostic) -> tuple[str, str]:
    """Whoever refused, in its own words, and what to do."""
    if error.summary in _CONDITIONS:
        return _sentence(_CHECKED_BY.sub("", error.detail) or error.summary), ""
    if _LOCKED.search(error.summary):
        holder = _LOCK_HOLDER.search(error.detail)
        by = f" by {holder[1]}" if holder else ""
        return f"the run's state is locked{by}", "another Terraform still works on it; wait until it has ended"
    text = ": ".join(filter(None, [error.summary.rstrip(". "), error.detail]))
    reason, call = _without_noise(text)
    return _sentence(reason), _advice(f"{error.address}: {text}", call)


def _without_noise(text: str) -> tuple[str, str]:
    """Without the request's id and what only AWS can read; and the refused call, such as `ec2:RunInstances`."""
    text = _ENCODED.sub("", " ".join(text.split()))
    found = _OPERATION.search(text)
    if found is None:
        return text, ""
    denied = _NOT_AUTHORIZED.search(text)
    call = denied[1] if denied else f"{found['service'].lower().replace(' ', '')}:{found['call']}"
    verb = "did not answer" if _UNANSWERED.search(found["reason"]) else "refused"
    return f"{text[: found.start()]}AWS {verb} {found['call']} ({_sentence(found['reason'])})", call


def _advice(text: str, call: str) -> str:
    advice = next((advice for pattern, advice in _ADVICE if pattern.search(text)), "")
    return advice.format(call=call or "it")


def _sentence(text: str) -> str:
    """On one line, without its full stop."""
    return " ".join(text.split()).rstrip(". ")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
