from __future__ import annotations

from dataclasses import replace

import pytest

from gpunodes.proof import boot_checks
from gpunodes.proof.clone import Clone
from gpunodes.proof.instance_facts import InstanceFacts, Listener

BUILDER = "i-0123456789abcdef0"
SSH = Listener(22, "tcp", "0.0.0.0", "sshd")
GOOD = InstanceFacts(
    boot_seconds=12.5,
    cloud_init_errors=(),
    failed_units=(),
    imds_v1_status=401,
    imds_v2_status=200,
    listeners=(SSH,),
    boot_id="one",
    clock_ahead_seconds=0.2,
    clock_error_seconds=0.3,
)


def failed(facts: InstanceFacts) -> dict[str, str]:
    """Id and reason of each check that does not hold."""
    made = boot_checks.of_boot(facts, boot_budget_seconds=60, allowed=["22/tcp", "9400/tcp"])
    assert len(made) == 6
    return {one.check_id: one.reason for one in made if one.passed is not True}


def test_a_good_boot_passes_every_check() -> None:
    assert failed(GOOD) == {}


@pytest.mark.parametrize(
    ("facts", "check_id", "reason"),
    [
        (replace(GOOD, boot_seconds=61.0), "boots_in_time", "61.0 s of 60 s"),
        (replace(GOOD, boot_seconds=None), "boots_in_time", "it still boots; the budget is 60 s"),
        (replace(GOOD, cloud_init_errors=None), "cloud_init_is_done", "cloud-init left no result"),
        (replace(GOOD, cloud_init_errors=("no route", "b")), "cloud_init_is_done", "no route; b"),
        (replace(GOOD, failed_units=("a.service", "b.mount")), "no_unit_failed", "failed: a.service, b.mount"),
        (replace(GOOD, imds_v1_status=200), "imdsv1_is_refused", "a request without a session token was answered"),
        (replace(GOOD, imds_v1_status=None), "imdsv1_is_refused", "without a token no answer, with a token 200"),
        (replace(GOOD, imds_v2_status=403), "imdsv1_is_refused", "without a token 401, with a token 403"),
        (
            replace(GOOD, listeners=(SSH, Listener(8080, "tcp", "::", "python3"), Listener(111, "udp", "0.0.0.0", ""))),
            "nothing_else_listens",
            "8080/tcp (python3), 111/udp (a process that is hidden) listens and is not on the allow list",
        ),
        (replace(GOOD, listeners=(Listener(22, "udp", "::", "x"),)), "nothing_else_listens", "22/udp (x) listens"),
        (replace(GOOD, clock_ahead_seconds=3600.0), "clock_is_right", "it is 3600 s ahead of this machine's"),
        (replace(GOOD, clock_ahead_seconds=-5.4), "clock_is_right", "it is 5 s behind of this machine's"),
    ],
)
def test_each_fault_fails_its_own_check_alone(facts: InstanceFacts, check_id: str, reason: str) -> None:
    found = failed(facts)

    assert list(found) == [check_id]
    assert found[check_id].startswith(reason)


def test_a_slow_answer_does_not_make_a_clock_wrong() -> None:
    assert failed(replace(GOOD, clock_ahead_seconds=20.0, clock_error_seconds=16.0)) == {}


def test_clone_without_complaints_has_inherited_nothing() -> None:
    made = boot_checks.nothing_is_inherited(Clone({"machine_id": "1"}), BUILDER)

    assert made.passed is True
    assert made.reason == f"its keys are its own, and no file names {BUILDER}, which baked the image"
    assert made.evidence == {"identity": {"machine_id": "1"}, "complaints": [], "builder_id": BUILDER}


def test_complaints_of_a_clone_are_the_reason_and_the_evidence() -> None:
    clone = Clone({"machine_id": None}, ("/etc/machine-id is not one.", "There are no SSH host keys."))

    made = boot_checks.nothing_is_inherited(clone, BUILDER)

    assert made.passed is False
    assert made.reason == "/etc/machine-id is not one. There are no SSH host keys."
    assert made.evidence["complaints"] == list(clone.complaints)


def test_unknown_builder_is_said_and_does_not_fail_the_rest() -> None:
    passed = boot_checks.nothing_is_inherited(Clone({"machine_id": "1"}), "")
    failing = boot_checks.nothing_is_inherited(Clone({}, ("There are no SSH host keys.",)), "")

    assert passed.passed is True
    assert "which instance baked the image is not known" in passed.reason
    assert passed.evidence["builder_id"] is None
    assert failing.passed is False


def test_long_list_of_files_is_cut_in_the_reason_alone() -> None:
    complaint = "These files name it: " + " ".join(f"/var/log/{number}" for number in range(500))

    made = boot_checks.nothing_is_inherited(Clone({}, (complaint,)), BUILDER)

    assert len(made.reason) <= 400
    assert made.reason.endswith("...")
    assert made.evidence["complaints"] == [complaint]


def test_clones_differ_when_they_share_nothing_that_each_must_have() -> None:
    one = Clone({"instance_id": "i-1", "machine_id": "a", "ssh_host_keys": ["x", "y"], "random_seed": None})
    other = Clone({"instance_id": "i-2", "machine_id": "b", "ssh_host_keys": ["z"], "random_seed": "s"})
    same_key = Clone({**other.identity, "ssh_host_keys": ["z", "y"]})

    good = boot_checks.clones_differ(one, other)
    assert (good.passed, good.reason) == (True, "instance_id, machine_id, ssh_host_keys, random_seed differ")
    bad = boot_checks.clones_differ(one, same_key)
    assert (bad.passed, bad.reason) == (False, "both have the same ssh_host_keys")
    assert boot_checks.clones_differ(Clone(), other).passed is False


def test_a_reboot_is_survived_when_everything_holds_again_after_another_boot() -> None:
    again = boot_checks.of_boot(GOOD, boot_budget_seconds=60, allowed=["22/tcp"])
    broken = boot_checks.of_boot(replace(GOOD, failed_units=("a.service",)), boot_budget_seconds=60, allowed=["22/tcp"])
    other = replace(GOOD, boot_id="two")

    survived = boot_checks.survives_a_reboot(GOOD, other, again)
    assert (survived.passed, survived.reason) == (True, "6 of 6 checks hold again")
    failing = boot_checks.survives_a_reboot(GOOD, other, broken)
    assert (failing.passed, failing.reason) == (False, "no systemd unit failed: failed: a.service")
    same = boot_checks.survives_a_reboot(GOOD, GOOD, again)
    assert (same.passed, same.reason) == (False, "it did not boot again")
    assert boot_checks.survives_a_reboot(GOOD, other, []).passed is False
