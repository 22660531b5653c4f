from __future__ import annotations

import json

import pytest

from gpumon import check
from gpumon.check import Health, run_checks, verdict
from gpumon.errors import DeliveryError, DriverUnavailableError, GpumonError, IdentityUnavailableError
from gpumon.identity import InstanceIdentity
from gpumon.metrics import Metric
from gpumon.samples import GpuSample
from tests.gpumon.fakes import OTHER_GPU, FakeGpuReader, gpu_sample

METRICS = [Metric("MemoryUsed", "gpu", "Bytes", "used_bytes", "x"), Metric("PowerDraw", "gpu", "None", "watts", "x")]
GOOD = gpu_sample(used_bytes=0, watts=10)


def identity() -> InstanceIdentity:
    return InstanceIdentity("i-1", "g4dn.xlarge", "ami-1", "us-east-1")


def no_identity() -> InstanceIdentity:
    raise IdentityUnavailableError("Enable the metadata service.")


def findings(answer: tuple[GpuSample, ...] | GpumonError) -> list[check.Finding]:
    return run_checks(FakeGpuReader(answer), METRICS, identity, lambda: "iam-role", "")


def test_a_host_that_can_do_all_is_healthy() -> None:
    found = findings((GOOD,))

    assert (verdict(found).name, int(verdict(found))) == ("HEALTHY", 0)
    assert [finding.advice for finding in found] == [""] * len(found)


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (gpu_sample(OTHER_GPU, used_bytes=0, watts=None), "cannot be read: PowerDraw"),
        (gpu_sample(OTHER_GPU, used_bytes=None, watts=None), "no value can be read"),
    ],
)
def test_a_gpu_that_lacks_values_degrades_the_host(sample: GpuSample, words: str) -> None:
    found = findings((GOOD, sample))

    assert (verdict(found).name, int(verdict(found))) == ("DEGRADED", 1)
    assert [(f.subject, f.found) for f in found if f.advice] == [("GPU 1 (Tesla T4, GPU-bbbb)", words)]


@pytest.mark.parametrize("answer", [(), DriverUnavailableError("Load the driver.")])
def test_a_host_without_readable_gpus_is_broken(answer: tuple[GpuSample, ...] | GpumonError) -> None:
    assert int(verdict(findings(answer))) == 2


def test_identity_region_and_credentials_are_each_named_with_what_to_do() -> None:
    found = run_checks(FakeGpuReader((GOOD,)), METRICS, no_identity, lambda: None, "")

    assert [f.subject for f in found if f.health is Health.BROKEN] == ["identity", "region", "credentials"]
    assert all(f.advice for f in found if f.health is Health.BROKEN)


def test_credentials_that_are_wrong_are_a_finding_and_no_error() -> None:
    def wrong() -> str | None:
        raise DeliveryError("Correct the AWS configuration.")

    found = run_checks(FakeGpuReader((GOOD,)), METRICS, identity, wrong, "")

    assert [(f.subject, f.advice) for f in found if f.health is Health.BROKEN] == [
        ("credentials", "Correct the AWS configuration.")
    ]


def test_both_forms_say_the_same() -> None:
    found = findings(DriverUnavailableError("Load the driver."))

    document = json.loads(check.as_json(found))
    assert document["health"] == "broken"
    assert document["findings"][0] == {
        "subject": "driver",
        "health": "broken",
        "found": "does not answer",
        "advice": "Load the driver.",
    }
    assert check.as_text(found).startswith("broken    driver: does not answer\n          -> Load the driver.\n")
