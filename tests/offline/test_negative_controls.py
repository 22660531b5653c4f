"""What must not pass: an image or an instance with one fault each, and the check that names it, no other.

Each fault goes to the very steps of `test-instance`, on an instance that is launched without Terraform. Images whose
faults need the whole command are in `test_pipeline.py`, keys that were baked in `test_clones.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpunodes import offline_target
from gpunodes.aws import Clients
from gpunodes.operation import runs
from gpunodes.proof import datapoint_checks, service_checks
from gpunodes.proof.datapoints import DatapointReader
from gpunodes.proof.launch import TestInstance, Wish
from gpunodes.proof.promised_metrics import promised, series_of
from gpunodes.proof.proof_steps import ProofSteps
from gpunodes.proof.service_checks import AGENT
from gpunodes.settings import Settings
from gpunodes.target import Target
from localaws.simgpu import state_files
from tests.gpunodes.fakes import RecordingProgress
from tests.offline.conftest import Cloud, parse, run_invoke, wait_until

PATIENCE_SECONDS = 20.0
IDENTITY = "/opt/gpumon/lib/python3*/site-packages/gpumon/identity.py"
AGENT_CONFIGURATIONS = "/opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.d/*"
NO_SWAP = """import json, pathlib, sys
file = pathlib.Path(sys.argv[1])
document = json.loads(file.read_text())
del document["metrics"]["metrics_collected"]["swap"]
file.write_text(json.dumps(document))
"""
LATE_CLOCK = """cat >>/etc/python3.11/sitecustomize.py <<'PYTHON'
import time

_now, _now_ns = time.time, time.time_ns  # the clock itself is that of the machine below: only Python's is an hour late
time.time = lambda: _now() - 3600
time.time_ns = lambda: _now_ns() - 3600 * 10**9
PYTHON
"""


@pytest.fixture(scope="module")
def candidate(cloud: Cloud) -> str:
    """An image that `build-ami --offline` made."""
    result = run_invoke("build-ami", "--offline", "--json")
    assert result.returncode == 0, result.stderr
    ami_id = str(parse(result.stdout)["ami_id"])
    assert cloud.ec2.describe_images(ImageIds=[ami_id])["Images"]
    return ami_id


@pytest.fixture(scope="module")
def profile(cloud: Cloud) -> str:
    """An instance profile, without which nothing is published."""
    cloud.iam.create_role(RoleName="publisher", AssumeRolePolicyDocument="{}")
    cloud.iam.create_instance_profile(InstanceProfileName="publisher")
    cloud.iam.add_role_to_instance_profile(InstanceProfileName="publisher", RoleName="publisher")
    return "publisher"


class Bench:
    """Launches instances, with the steps of a proof ready to look at them."""

    def __init__(self, cloud: Cloud, target: Target, profile: str, folder: Path) -> None:
        self.cloud, self.target, self.profile = cloud, target, profile
        self.settings = Settings(work_folder=folder)
        self._begun: list[ProofSteps] = []

    def launch(self, image_id: str, instance_type: str = "g4dn.xlarge", tokens: str = "required") -> ProofSteps:
        """An instance of an image, once SSH lets us in and cloud-init is done."""
        run = runs.start(self.settings, self.target.destination)
        instance = TestInstance(self.target, self.settings, run, Clients(self.target), RecordingProgress())
        work = ProofSteps(self.target, instance, image_id, instance_type, Wish())
        work.preflight()
        work.checks.clear()
        instance.make_key()
        launched = self.cloud.ec2.run_instances(
            ImageId=image_id,
            InstanceType=instance_type,
            MinCount=1,
            MaxCount=1,
            SubnetId=self.cloud.facts.subnet_id,
            IamInstanceProfile={"Name": self.profile},
            MetadataOptions={"HttpTokens": tokens},
        )["Instances"][0]
        instance.outputs = {
            "instance_id": launched["InstanceId"],
            "private_ip": launched["PrivateIpAddress"],
            "role_name": self.profile,
        }
        self._begun.append(work)
        instance.connect()
        return work

    def image(self, image_id: str, name: str, *commands: str) -> str:
        """An image that differs from another by what root did to it."""
        work = self.launch(image_id)
        for command in commands:
            work.instance.remote.write("/tmp/fault.sh", command)
            work.instance.remote.run("sudo bash -e /tmp/fault.sh && sudo rm /tmp/fault.sh && sudo sync")
        changed = self.cloud.ec2.create_image(InstanceId=work.instance.instance_id, Name=name)["ImageId"]
        self.clear()
        return str(changed)

    def clear(self) -> None:
        """Terminate what was launched."""
        for work in self._begun:
            work.instance.disconnect()
            work.instance.delete_key()
        self._begun.clear()
        self.cloud.terminate_all()


@pytest.fixture
def bench(cloud: Cloud, profile: str, tmp_path: Path) -> Iterator[Bench]:
    environment = dict(os.environ)
    target = replace(offline_target.offline_target(lambda _: None), datapoint_patience_seconds=PATIENCE_SECONDS)
    made = Bench(cloud, target, profile, tmp_path)
    yield made
    made.clear()
    os.environ.clear()
    os.environ.update(environment)


def failed(work: ProofSteps) -> dict[str, str]:
    """Id and reason of each check that failed; the others passed."""
    assert work.checks
    return {made.check_id: made.reason for made in work.checks if made.passed is not True}


def test_a_good_instance_fails_nothing(bench: Bench, candidate: str) -> None:
    work = bench.launch(candidate)
    work.look_at_the_boot()
    work.look_at_services()
    work.look_at_gpus()
    work.wait_for_first_datapoints()
    assert failed(work) == {}
    assert len(work.checks) == 12


def test_metrics_that_arrived_but_stopped_ten_minutes_ago_are_found_out(bench: Bench, candidate: str) -> None:
    work = bench.launch(candidate)
    work.look_at_gpus()
    work.wait_for_first_datapoints()
    work.instance.remote.run("sudo systemctl stop gpumon")  # which publishes what it has
    series = series_of(promised(), work.instance.instance_id, work.staircase.gpus)
    published = DatapointReader(work.clients, work.instance.started_at).read_minutes(series)
    now = datetime.now(UTC)

    fresh = datapoint_checks.datapoints_are_fresh(series, published, now=now, running_since=now)
    later = now + timedelta(minutes=10)
    stale = datapoint_checks.datapoints_are_fresh(series, published, now=later, running_since=now)

    assert (fresh.passed, stale.passed) == (True, False)
    assert stale.check_id == "datapoints_are_fresh"
    assert stale.reason.endswith("minutes ago")


def test_imdsv1_that_is_allowed_is_found_out(bench: Bench, candidate: str) -> None:
    work = bench.launch(candidate, tokens="optional")
    work.look_at_the_boot()
    assert failed(work) == {
        "imdsv1_is_refused": "a request without a session token was answered; launch with HttpTokens=required"
    }


def test_a_listening_port_and_a_unit_that_failed_are_found_out(bench: Bench, candidate: str) -> None:
    work = bench.launch(candidate)
    work.instance.remote.run("sudo systemd-run --quiet --unit=door python3 -m http.server 8080")
    work.instance.remote.run("sudo systemd-run --quiet --unit=broken /bin/false; sleep 0.5")
    wait_until(lambda: work.instance.remote.succeeds("curl -s -o /dev/null http://localhost:8080/"), 20)
    work.look_at_the_boot()
    assert failed(work) == {
        "no_unit_failed": "failed: broken.service",
        "nothing_else_listens": "8080/tcp (python3) listens and is not on the allow list",
    }


def test_a_clock_that_is_off_by_an_hour_is_found_out(bench: Bench, candidate: str) -> None:
    work = bench.launch(bench.image(candidate, "late", LATE_CLOCK))
    work.look_at_the_boot()
    found = failed(work)
    found.pop("nothing_is_inherited", None)  # the image is a copy of an instance that ran, which no bake cleaned
    assert list(found) == ["clock_is_right"]
    assert re.fullmatch(r"it is 3[56]\d\d s behind of this machine's", found["clock_is_right"])
    work.look_at_gpus()
    work.look_at_datapoints()
    assert failed(work)["datapoints_are_fresh"].endswith((" 60 minutes ago", " 61 minutes ago"))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("another-region", "echo GPUMON_REGION=eu-west-1 >/etc/gpumon/gpumon.env"),
        ("another-id", f"sed -i 's/document\\[.instanceId.\\]/\"i-0123456789abcdef0\"/' {IDENTITY}"),
    ],
)
def test_datapoints_that_go_elsewhere_are_missed(bench: Bench, candidate: str, name: str, fault: str) -> None:
    work = bench.launch(bench.image(candidate, name, fault))
    work.look_at_services()
    work.look_at_gpus()
    work.wait_for_first_datapoints()
    found = failed(work)
    assert list(found) == ["memory_arrives"]
    assert work.instance.instance_id in found["memory_arrives"]
    work.look_at_datapoints()
    assert ("only_its_own_series" in failed(work)) is (name == "another-id")


def test_one_of_four_gpus_that_is_missing_is_found_out(bench: Bench, candidate: str) -> None:
    work = bench.launch(candidate, "g5.12xlarge")
    driver = bench.cloud.layout.machines / work.instance.instance_id / "gpus" / "driver"
    state_files.write(driver, {**state_files.read(driver), "gpu_count": 3})
    work.look_at_gpus()
    assert failed(work)["gpus_are_there"].startswith("3 of 4 GPUs of g5.12xlarge: 0 NVIDIA A10G")


def test_swap_that_the_agent_does_not_measure_is_found_out(bench: Bench, candidate: str) -> None:
    fault = f"python3 - $(grep -l swap_used_percent {AGENT_CONFIGURATIONS}) <<'PYTHON'\n{NO_SWAP}PYTHON\n"
    work = bench.launch(bench.image(candidate, "no-swap", fault))
    work.checks.append(service_checks.is_active(AGENT, service_checks.state_of(work.instance.remote, AGENT)))
    work.look_at_gpus()
    work.look_at_datapoints()
    assert failed(work)["agent_metrics_arrive"] == "no datapoint of swap_used_percent"
