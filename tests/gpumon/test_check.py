from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from gpumon import check
from gpumon.check import Finding, Health, run_checks, verdict
from gpumon.errors import (
    DeliveryError,
    DriverMismatchError,
    DriverUnavailableError,
    GpumonError,
    IdentityUnavailableError,
)
from gpumon.host_facts import DriverFacts, HostFacts, StateFacts, find_driver, write_problem
from gpumon.identity import InstanceIdentity
from gpumon.metrics import load_metrics
from gpumon.readers import EVERYTHING, Due
from gpumon.samples import Gpu, GpuSample, MigInstance, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

METRICS = load_metrics()
WORKING = DriverFacts("570.1", has_library=True)
GOOD = {"gpu_up": 1.0, "memory_used_bytes": 0.0, "power_watts": 10.0, "recovery_action": 0.0}


class OneReading:
    """A reader that gives one answer, and may be forbidden to."""

    def __init__(self, answer: Reading | GpumonError | None) -> None:
        self.answer = answer
        self.due: Due | None = None
        self.is_closed = False

    def read(self, due: Due) -> Reading:
        assert self.answer is not None, "the driver must not be touched"
        self.due = due
        if isinstance(self.answer, GpumonError):
            raise self.answer
        return self.answer

    def close(self) -> None:
        self.is_closed = True


def gpu(index: int, mig: MigInstance | None = None) -> Gpu:
    return Gpu(f"GPU-{index}", index, "Tesla T4", mig=mig)


def samples(*of_each: Mapping[str, float | None]) -> tuple[GpuSample, ...]:
    return tuple(GpuSample(gpu(index), values) for index, values in enumerate(of_each))


def identity() -> InstanceIdentity:
    return InstanceIdentity("i-1", "g4dn.xlarge", "ami-1", "us-east-1")


def no_identity() -> InstanceIdentity:
    raise IdentityUnavailableError("Enable the metadata service.")


def findings(
    answer: Reading | GpumonError | None, expected: int | None = 1, driver: DriverFacts = WORKING, **facts: object
) -> list[Finding]:
    given = HostFacts(expected, driver, **facts)  # type: ignore[arg-type]  # each test gives what it needs
    return run_checks(OneReading(answer), METRICS, given, identity, lambda: "iam-role")


def of(found: list[Finding], subject: str) -> Finding:
    return next(finding for finding in found if finding.subject.startswith(subject))


def test_a_host_that_can_do_all_is_healthy_and_the_driver_is_let_go() -> None:
    reader = OneReading(Reading(samples(GOOD), "570.1"))
    found = run_checks(reader, METRICS, HostFacts(1, WORKING), identity, lambda: "iam-role")

    assert (verdict(found).name, int(verdict(found))) == ("HEALTHY", 0)
    assert [finding.advice for finding in found] == [""] * len(found)
    assert of(found, "driver").found == "answers (version 570.1)"
    assert of(found, "GPUs").found == "1 of 1 answer"
    assert (reader.due, reader.is_closed) == (EVERYTHING, True)


@pytest.mark.parametrize(
    ("driver", "error", "found", "advice"),
    [
        (DriverFacts(None, has_library=False), "x.", "not installed", "Install the NVIDIA driver"),
        (DriverFacts("570.1", has_library=False), "x.", "library libnvidia-ml.so.1 is missing", r"version \(570.1\)"),
        (DriverFacts(None, has_library=True), "x.", "kernel module is not loaded", "modprobe nvidia"),
        (DriverFacts("570.1", has_library=True), "Do this.", r"loaded \(570.1\), but does not answer", "Do this."),
        (DriverFacts("", has_library=True), "Do this.", "loaded, but does not answer", "Do this."),
    ],
)
def test_each_way_to_have_no_driver_has_its_own_advice(
    driver: DriverFacts, error: str, found: str, advice: str
) -> None:
    finding = of(findings(DriverUnavailableError(error), driver=driver), "driver")

    assert finding.health is Health.BROKEN
    assert re.search(found, finding.found)
    assert re.search(advice, finding.advice)


def test_a_driver_that_was_upgraded_underneath_is_told_from_one_that_is_absent() -> None:
    finding = of(findings(DriverMismatchError("x.")), "driver")

    assert finding.found == "its library is not of the version of the loaded kernel module (570.1)"
    assert "Reboot" in finding.advice


@pytest.mark.parametrize("answer", [DriverUnavailableError("Load the driver."), Reading(())])
def test_a_host_without_a_gpu_is_healthy(answer: Reading | GpumonError) -> None:
    found = findings(answer, expected=0, driver=DriverFacts(None, has_library=False))

    assert verdict(found) is Health.HEALTHY
    assert any("no GPU on this host" in finding.found for finding in found)


@pytest.mark.parametrize("answer", [DriverUnavailableError("Load the driver."), Reading(())])
def test_where_nobody_knows_whether_there_should_be_gpus_none_is_broken(answer: Reading | GpumonError) -> None:
    assert verdict(findings(answer, expected=None)) is Health.BROKEN


@pytest.mark.parametrize(
    ("values", "expected"), [((GOOD, {"gpu_up": 0.0}), 2), ((GOOD,), 2), ((GOOD, {"gpu_up": 0.0}), 0)]
)
def test_a_gpu_that_is_missing_breaks_the_host(values: tuple[dict[str, float | None], ...], expected: int) -> None:
    found = findings(Reading(samples(*values)), expected)

    assert int(verdict(found)) == 2
    assert of(found, "GPUs").found == "1 of 2 answer"
    assert of(found, "GPU 0").health is Health.HEALTHY


def test_a_gpu_that_must_not_get_work_is_named_with_the_reason() -> None:
    found = findings(Reading(samples(GOOD, GOOD | {"recovery_action": 1.0})), 2)

    bad = of(found, "GPU 1 (Tesla T4, GPU-1)")
    assert (bad.health, bad.found) == (Health.BROKEN, "the driver asks for a reset of the GPU")
    assert bad.advice


def test_critical_xids_of_a_gpu_count_for_that_gpu() -> None:
    silent: dict[str, float | None] = {"gpu_up": 1.0, "memory_used_bytes": 1.0, "recovery_action": None}
    found = findings(Reading(samples(silent, silent)), 2, xid_critical_counts={"GPU-1": 1})

    assert of(found, "GPU 0").health is Health.HEALTHY
    assert of(found, "GPU 1").found == "1 critical Xid error(s)"


def test_a_gpu_that_can_be_used_but_is_not_well_degrades_the_host() -> None:
    found = findings(Reading(samples(GOOD | {"row_remap_pending": 1.0, "throttled_thermal_percent": 100.0})))

    assert (verdict(found).name, int(verdict(found))) == ("DEGRADED", 1)
    assert "row of memory" in of(found, "GPU 0").found
    assert "temperature" in of(found, "GPU 0").found
    assert of(found, "GPU 0").advice.startswith("Reset the GPU when it is idle. Look at its cooling")


def test_what_a_gpu_does_not_support_is_fine_and_named() -> None:
    lacking = GOOD | {"fan_speed_percent": None, "power_watts": None}
    found = findings(Reading(samples(lacking, GOOD, lacking)))

    assert verdict(found) is Health.HEALTHY
    assert of(found, "values").found == "not supported by GPU 0, 2: PowerDraw, FanSpeed"


def test_values_that_fail_degrade_the_host() -> None:
    found = findings(Reading(samples(GOOD | {"power_watts": None}), error_count=2))

    assert verdict(found) is Health.DEGRADED
    assert of(found, "values").found == "not supported or not readable now by GPU 0: PowerDraw"
    assert of(found, "readings").found == "2 call(s) failed that the GPUs support"


def test_a_gpu_that_gives_no_value_at_all_degrades_the_host() -> None:
    found = findings(Reading(samples({"gpu_up": 1.0, "memory_used_bytes": None, "power_watts": None})))

    assert of(found, "GPU 0").found == "no value can be read"
    assert verdict(found) is Health.DEGRADED


def test_a_value_that_comes_in_a_burst_is_readable() -> None:
    sample = GpuSample(gpu(0), {"gpu_up": 1.0, "gpu_utilization_percent": None}, {"gpu_utilization_percent": (1.0,)})

    found = findings(Reading((sample,)))

    assert of(found, "GPU 0").found == "answers"
    assert "values" not in [finding.subject for finding in found]


def test_mig_instances_are_no_gpus() -> None:
    part = GpuSample(gpu(0, MigInstance(7, "1g.5gb", "MIG-1")), {"memory_used_bytes": 1.0})
    found = findings(Reading((*samples(GOOD), part)))

    assert of(found, "GPUs").found == "1 of 1 answer"
    assert len([finding for finding in found if finding.subject.startswith("GPU 0")]) == 1


def test_a_released_driver_is_not_touched() -> None:
    found = findings(None, is_released=True)

    assert (of(found, "driver").health, verdict(found)) == (Health.DEGRADED, Health.DEGRADED)
    assert "gpumon resume" in of(found, "driver").advice


def test_identity_region_and_credentials_are_each_named_with_what_to_do() -> None:
    reader = OneReading(Reading(samples(GOOD)))
    found = run_checks(reader, METRICS, HostFacts(1, WORKING), no_identity, lambda: None)

    assert [f.subject for f in found if f.health is Health.BROKEN] == ["identity", "region", "credentials"]
    assert all(f.advice for f in found if f.health is Health.BROKEN)


def test_the_region_of_the_settings_wins_over_that_of_the_identity() -> None:
    assert of(findings(Reading(samples(GOOD)), region="eu-west-1"), "region").found == "eu-west-1"
    assert of(findings(Reading(samples(GOOD))), "region").found == "us-east-1"


def test_credentials_that_are_wrong_are_a_finding_and_no_error() -> None:
    def wrong() -> str | None:
        raise DeliveryError("Correct the AWS configuration.")

    found = run_checks(OneReading(Reading(samples(GOOD))), METRICS, HostFacts(1, WORKING), identity, wrong)

    assert [(f.subject, f.advice) for f in found if f.health is Health.BROKEN] == [
        ("credentials", "Correct the AWS configuration.")
    ]


CAN = "/s can be written"


@pytest.mark.parametrize(
    ("state", "health", "words"),
    [
        (StateFacts(""), Health.HEALTHY, ["none: what cannot be sent ends with the process", "empty"]),
        (StateFacts("/s"), Health.HEALTHY, [CAN, "empty"]),
        (StateFacts("/s", "No space left"), Health.DEGRADED, ["cannot be written: No space left", "empty"]),
        (
            StateFacts("/s", "", 209, 60.0),
            Health.HEALTHY,
            [CAN, "209 datapoints on their way, none is late"],
        ),
        (
            StateFacts("/s", "", 209, 3600.0),
            Health.DEGRADED,
            [CAN, "209 datapoints wait, the oldest for 60 min"],
        ),
    ],
)
def test_the_state_directory_and_what_waits_in_it_are_looked_at(
    state: StateFacts, health: Health, words: list[str]
) -> None:
    found = findings(Reading(samples(GOOD)), state=state)

    assert [finding.found for finding in found[-2:]] == words
    assert verdict(found) is health
    assert all(finding.advice for finding in found if finding.health is not Health.HEALTHY)


def test_both_forms_say_the_same() -> None:
    found = findings(DriverUnavailableError("x."), driver=DriverFacts(None, has_library=False))

    document = json.loads(check.as_json(found))
    assert document["health"] == "broken"
    assert document["findings"][0] == {
        "subject": "driver",
        "health": "broken",
        "found": "not installed",
        "advice": "Install the NVIDIA driver.",
    }
    text = check.as_text(found)
    assert text.startswith("broken    driver: not installed\n          -> Install the NVIDIA driver.\n")
    assert text.endswith("this host is broken\n")


def test_module_and_library_are_looked_for(tmp_path: Path) -> None:
    loaded = tmp_path / "nvidia"
    loaded.mkdir()

    assert find_driver(tmp_path / "none", "libc.so.6") == DriverFacts(None, has_library=True)
    assert find_driver(loaded, "libnone.so.1") == DriverFacts("", has_library=False)
    (loaded / "version").write_text("570.1\n")
    assert find_driver(loaded, "libnone.so.1") == DriverFacts("570.1", has_library=False)


def test_a_directory_is_tried_without_leaving_anything(tmp_path: Path) -> None:
    assert write_problem(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []
    assert "No such file" in write_problem(tmp_path / "none")


def test_a_state_directory_that_this_user_may_not_see_is_not_called_missing() -> None:
    found = findings(Reading(samples(GOOD)), state=StateFacts("", is_hidden=True))

    assert "may not look" in of(found, "state directory").found
    assert "as root" in of(found, "state directory").advice
    assert "spool" not in [finding.subject for finding in found]


def test_a_gpu_that_the_driver_counts_and_cannot_open_is_missed() -> None:
    found = findings(Reading(samples(GOOD), counted=2))

    assert of(found, "GPUs").found == "1 of 2 answer"
    assert verdict(found) is Health.BROKEN


def test_where_nothing_goes_to_cloudwatch_it_does_not_matter_who_the_host_is_to_aws() -> None:
    found = findings(Reading(samples(GOOD)), publishes_to_cloudwatch=False)

    assert verdict(found) is Health.HEALTHY
    assert {"identity", "region", "credentials"} & {finding.subject for finding in found} == set()
