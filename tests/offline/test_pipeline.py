"""The whole path as a user runs it: bake, prove, and the images that must not pass."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gpunodes.cleanup.resource_kinds import KINDS
from tests.offline.conftest import REPOSITORY, Cloud, parse, run_invoke

READER = "/opt/gpumon/lib/python3*/site-packages/gpumon/readers/nvml/sample_calls.py"
BUS_AS_MEMORY = (
    "printf '\\n_real = _memory_v2\\ndef _bus(handle, values):\\n    _real(handle, values)\\n"
    '    values["memory_used_bytes"] = pynvml.nvmlDeviceGetUtilizationRates(handle).memory\\n'
    "SAMPLE_PROBES = (Probe(MEMORY.values, (_bus,)), *SAMPLE_PROBES[1:])\\n'"
    f" | sudo tee -a {READER} >/dev/null && sudo systemctl restart gpumon.service"
)
GPUMON_DISABLED = "sudo systemctl disable --now gpumon.service"


@pytest.fixture(scope="module")
def candidate(cloud: Cloud) -> dict[str, Any]:
    """An image that `build-ami --offline --json` made."""
    result = run_invoke("build-ami", "--offline", "--json")
    assert result.returncode == 0, result.stderr
    document = parse(result.stdout)
    assert cloud.ec2.describe_images(ImageIds=[document["ami_id"]])["Images"]
    return document


@pytest.fixture(autouse=True)
def _nothing_but_images_left(cloud: Cloud) -> Iterator[None]:
    yield
    alive = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
    assert cloud.ec2.describe_instances(Filters=alive)["Reservations"] == []
    assert [pair["KeyName"] for pair in cloud.ec2.describe_key_pairs()["KeyPairs"]] == ["tests"]
    groups = [group["GroupName"] for group in cloud.ec2.describe_security_groups()["SecurityGroups"]]
    assert set(groups) == {"default"}
    assert cloud.iam.list_instance_profiles()["InstanceProfiles"] == []
    assert cloud.iam.list_roles()["Roles"] == []
    assert not list(Path(REPOSITORY / ".gpunodes" / "runs").glob("*/ssh_key"))


def changed_image(cloud: Cloud, ami_id: str, name: str, command: str) -> str:
    """An image that differs from a candidate by what a command did to it."""
    instance = cloud.launch(ami_id)
    cloud.connect(instance).run(f"{command} && sudo sync")
    image_id = cloud.ec2.create_image(InstanceId=instance["InstanceId"], Name=name)["ImageId"]
    cloud.terminate_all()
    return str(image_id)


@pytest.fixture(scope="module")
def proofs(cloud: Cloud, candidate: dict[str, Any]) -> dict[str, subprocess.CompletedProcess[str]]:
    """A good image and two bad ones, proven at once: each mostly waits for the minutes of CloudWatch."""
    good = candidate["ami_id"]
    arguments = {
        "good": ("--ami", good, "--type", "g5.12xlarge"),
        "disabled": ("--ami", changed_image(cloud, good, "gpumon-disabled", GPUMON_DISABLED)),
        "bus": ("--ami", changed_image(cloud, good, "bus-as-memory", BUS_AS_MEMORY)),
    }
    with ThreadPoolExecutor(len(arguments)) as pool:
        running = {
            name: pool.submit(run_invoke, "test-instance", "--offline", "--json", *of) for name, of in arguments.items()
        }
        return {name: proof.result() for name, proof in running.items()}


def _image(cloud: Cloud, ami_id: str) -> dict[str, Any]:
    image: dict[str, Any] = cloud.ec2.describe_images(ImageIds=[ami_id])["Images"][0]
    return image


def failed(document: dict[str, Any]) -> dict[str, str]:
    """Id and reason of each check that failed."""
    return {check["check_id"]: check["reason"] for check in document["checks"] if check["passed"] is False}


def test_a_candidate_carries_its_tags_and_its_evidence(cloud: Cloud, candidate: dict[str, Any]) -> None:
    image = cloud.ec2.describe_images(ImageIds=[candidate["ami_id"]])["Images"][0]
    tags = {tag["Key"]: tag["Value"] for tag in image["Tags"]}
    assert tags["gpunodes:state"] == "candidate"
    assert tags["gpunodes:run-id"] == candidate["run_id"]
    assert tags["gpunodes:fingerprint"] == candidate["fingerprint"]
    snapshot = cloud.ec2.describe_snapshots(SnapshotIds=[image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]])
    assert {tag["Key"]: tag["Value"] for tag in snapshot["Snapshots"][0]["Tags"]}["gpunodes:run-id"] == tags[
        "gpunodes:run-id"
    ]
    evidence = parse((Path(candidate["evidence"]) / "image.json").read_text())
    assert evidence["ami_id"] == candidate["ami_id"]
    assert any(wheel["file"].startswith("gpumon-") for wheel in evidence["wheels"])


@pytest.mark.usefixtures("cloud")
def test_a_second_bake_of_the_same_inputs_would_be_nothing_new(candidate: dict[str, Any]) -> None:
    plan = parse(run_invoke("plan", "--offline", "--json").stdout)
    assert (plan["fingerprint"], plan["is_new"]) == (candidate["fingerprint"], False)
    assert plan["previous"]["ami_id"] == candidate["ami_id"]
    assert plan["seconds"] > 0


@pytest.mark.usefixtures("cloud")
def test_an_image_explains_itself_from_the_record_that_its_tag_names(candidate: dict[str, Any]) -> None:
    explained = parse(run_invoke("explain", "--offline", "--json", candidate["ami_id"]).stdout)
    assert (explained["result"], explained["state"], explained["problems"]) == ("explained", "candidate", [])
    assert explained["record"]["recipe"]["fingerprint"] == candidate["fingerprint"]
    assert explained["record"]["packages"]["count"] == candidate["packages"] > 100
    again = run_invoke("compare", "--offline", candidate["ami_id"], candidate["ami_id"])
    assert again.returncode == 2
    assert "was named twice; name two images" in again.stderr


@pytest.mark.usefixtures("cloud")
def test_doctor_finds_nothing_that_is_missing() -> None:
    result = run_invoke("doctor", "--offline", "--json")
    assert result.returncode == 0, result.stderr
    outcomes = {finding["name"]: finding["outcome"] for finding in parse(result.stdout)["findings"]}
    assert outcomes.pop("vCPU quota") == "not_answered"
    assert set(outcomes.values()) == {"passed"}


def test_a_good_image_passes_on_four_gpus_and_is_proven(
    cloud: Cloud, candidate: dict[str, Any], proofs: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    result = proofs["good"]
    assert result.returncode == 0, result.stderr
    document = parse(result.stdout)
    assert (document["result"], document["ami_id"]) == ("passed", candidate["ami_id"])
    assert document["instance_id"].startswith("i-")
    rise = next(check for check in document["checks"] if check["check_id"] == "memory_rises")
    amounts = [row["rise_bytes"] for row in rise["evidence"]["steps"]]
    assert len(set(amounts)) == 12  # three steps of four GPUs, each an amount of its own
    assert min(amounts) > 4 * 2**30
    assert [check for check in document["checks"] if check["passed"] is False] == []
    tags = {tag["Key"]: tag["Value"] for tag in _image(cloud, candidate["ami_id"])["Tags"]}
    proof = Path(document["evidence"])
    assert (document["state"], tags["gpunodes:state"]) == ("proven", "proven")
    assert tags["gpunodes:proof-sha256"] == hashlib.sha256(proof.read_bytes()).hexdigest()
    assert parse(proof.read_text())["destroyed"] == {
        "verified": True, "asked": [kind.name for kind in KINDS], "left": []
    }  # fmt: skip


@pytest.mark.usefixtures("cloud")
def test_gpumon_disabled_fails_and_names_the_missing_datapoints(
    proofs: dict[str, subprocess.CompletedProcess[str]],
) -> None:
    result = proofs["disabled"]
    assert result.returncode == 1, result.stderr
    reasons = failed(parse(result.stdout))
    assert "gpumon_is_active" in reasons
    missing = reasons["memory_arrives"]
    assert "GPU MemoryUsed" in missing
    assert parse(result.stdout)["instance_id"] in missing
    assert "agent_metrics_arrive" not in reasons


@pytest.mark.usefixtures("cloud")
def test_bus_utilization_published_as_memory_fails(proofs: dict[str, subprocess.CompletedProcess[str]]) -> None:
    result = proofs["bus"]
    assert result.returncode == 1, result.stderr
    reasons = failed(parse(result.stdout))
    assert "memory_rises" in reasons
    # gpumon itself runs and publishes: what it says is wrong.
    assert "gpumon_is_active" not in reasons
    assert "memory_arrives" not in reasons


def test_an_image_of_another_account_is_one_sentence_and_exit_code_2(cloud: Cloud) -> None:
    result = run_invoke("test-instance", "--offline", "--ami", cloud.facts.base_image_id)
    assert result.returncode == 2
    assert "belongs to account 136693071363 and you work in 123456789012" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize("ami", ["ami-00000000000000000", "not-an-ami"])
def test_an_unknown_image_is_one_sentence_and_exit_code_2(ami: str) -> None:
    result = run_invoke("test-instance", "--offline", "--json", "--ami", ami)
    assert result.returncode == 2
    assert result.stdout == ""
    assert [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in result.stderr


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize(("tool", "task"), [("packer", "build-ami"), ("terraform", "test-instance")])
def test_a_tool_that_is_missing_or_too_old_is_exit_code_2(tmp_path: Path, tool: str, task: str) -> None:
    without = os.pathsep.join(_folders_without(tool, tmp_path))
    missing = run_invoke(task, "--offline", env={"PATH": without})
    (tmp_path / "old").mkdir()
    old = tmp_path / "old" / tool
    old.write_text("#!/bin/sh\necho 'Packer v1.5.0'; echo 'Terraform v0.12.0'\n")
    old.chmod(0o755)
    too_old = run_invoke(task, "--offline", env={"PATH": f"{old.parent}{os.pathsep}{without}"})
    for result in (missing, too_old):
        assert result.returncode == 2, result.stderr
        assert "run scripts/bootstrap" in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.usefixtures("candidate")
def test_keep_leaves_the_instance_and_destroy_removes_it(cloud: Cloud, candidate: dict[str, Any]) -> None:
    kept = run_invoke("test-instance", "--offline", "--json", "--keep", "--ami", candidate["ami_id"])
    assert kept.returncode == 0, kept.stderr
    document = parse(kept.stdout)
    assert cloud.state_of({"InstanceId": document["instance_id"]}) == "running"
    assert document["run_id"] in document["kept"]["ssh"]
    login = f"{document['kept']['ssh']} -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    entered = subprocess.run(
        [*shlex.split(login), "cat ~/.ssh/authorized_keys"], check=True, capture_output=True, text=True, timeout=60
    )
    private_key = shlex.split(login)[shlex.split(login).index("-i") + 1]
    public_key = subprocess.run(["ssh-keygen", "-y", "-f", private_key], check=True, capture_output=True, text=True)
    assert entered.stdout == public_key.stdout  # not only pushed, which would be forgotten by now or soon
    assert [pair["KeyName"] for pair in cloud.ec2.describe_key_pairs()["KeyPairs"]] == ["tests"]
    unknown = run_invoke("destroy", "--offline", "--run", "20200101-000000-0000")
    assert unknown.returncode == 2
    destroyed = run_invoke("destroy", "--offline", "--json", "--run", document["run_id"])
    assert destroyed.returncode == 0, destroyed.stderr
    assert parse(destroyed.stdout)["run_ids"] == [document["run_id"]]
    assert cloud.state_of({"InstanceId": document["instance_id"]}) == "terminated"


@pytest.mark.usefixtures("cloud")
def test_destroy_with_nothing_to_do_says_so() -> None:
    result = run_invoke("destroy", "--offline")
    assert result.returncode == 0
    assert "nothing was left" in result.stderr


def _folders_without(tool: str, scratch: Path) -> list[str]:
    """PATH with the same programs but one."""
    shadow = scratch / "programs"
    shadow.mkdir()
    for folder in reversed(os.environ["PATH"].split(os.pathsep)):
        for program in Path(folder).glob("*") if Path(folder).is_dir() else ():
            link = shadow / program.name
            link.unlink(missing_ok=True)
            if program.name != tool:
                link.symlink_to(program)
    assert shutil.which(tool, path=str(shadow)) is None
    return [str(shadow)]
