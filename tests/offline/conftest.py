"""The whole path for real: a cloud of this machine for each module, and what is needed to look at it from outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from gpunodes import offline_target
from gpunodes.proof.remote import Remote
from gpunodes.target import Target
from localaws import cloud as localaws_cloud
from localaws.layout import HOST_LINK, Layout

REPOSITORY = Path(__file__).parents[2]
RUNS = REPOSITORY / ".gpunodes" / "runs"
_MISSING = [
    tool for tool in ("systemd-nspawn", "mmdebstrap", "ip", "packer", "terraform") if shutil.which(tool) is None
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = "root is needed" if os.geteuid() != 0 else f"not installed: {', '.join(_MISSING)}" if _MISSING else ""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.offline)
            if reason:
                item.add_marker(pytest.mark.skip(reason=f"THE OFFLINE PATH IS NOT TESTED HERE: {reason}"))


def run_invoke(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a task as a user would; never raises for its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "invoke", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@dataclass
class Traces:
    """What a cloud could leave on this machine, outside of its state folder."""

    processes: list[str]
    mounts: list[str]
    links: list[str]
    namespaces: list[str]
    groups: list[str]


def traces(layout: Layout) -> Traces:
    """Look for every kind of trace."""
    return Traces(
        processes=_processes(layout),
        mounts=[line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(layout.state) in line],
        links=[path.name for path in Path("/sys/class/net").iterdir() if path.name == HOST_LINK],
        namespaces=[
            str(path) for path in Path("/run/netns").glob("*") if path.name == "router" or path.name.startswith("i-")
        ],
        groups=[str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{layout.control_group}")],
    )


def _processes(layout: Layout) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words.endswith("-m localaws.daemon ") or (str(layout.state) in words and "nspawn" in words):
            found.append(words)
    return found


@dataclass
class Cloud:
    """A cloud that is up, and its API."""

    layout: Layout
    facts: localaws_cloud.Facts
    key: Path
    ec2: Any = None
    iam: Any = None
    cloudwatch: Any = None
    instance_connect: Any = None
    _remotes: list[Remote] = field(default_factory=list)

    def __post_init__(self) -> None:
        def client(service: str) -> Any:
            return boto3.client(
                service,  # type: ignore[call-overload]
                endpoint_url=self.facts.endpoint_url,
                region_name="us-east-1",
                aws_access_key_id="test",
                aws_secret_access_key="test",
            )

        self.ec2, self.iam, self.cloudwatch = client("ec2"), client("iam"), client("cloudwatch")
        self.instance_connect = client("ec2-instance-connect")
        public = subprocess.run(
            ["ssh-keygen", "-y", "-f", str(self.key)], check=True, capture_output=True, text=True
        ).stdout
        self.ec2.import_key_pair(KeyName="tests", PublicKeyMaterial=public.encode())

    def launch(self, image_id: str = "", instance_type: str = "g4dn.xlarge", **more: Any) -> dict[str, Any]:
        """RunInstances, one instance."""
        launched = self.ec2.run_instances(
            ImageId=image_id or self.facts.base_image_id,
            InstanceType=instance_type,
            MinCount=1,
            MaxCount=1,
            SubnetId=self.facts.subnet_id,
            KeyName="tests",
            **more,
        )
        instance: dict[str, Any] = launched["Instances"][0]
        return instance

    def connect(self, instance: dict[str, Any]) -> Remote:
        """SSH to an instance, once it lets us in and cloud-init is done."""
        remote = Remote(instance["PrivateIpAddress"], "debian", self.key)
        remote.connect(60)
        remote.run("cloud-init status --wait")
        self._remotes.append(remote)
        return remote

    def state_of(self, instance: dict[str, Any]) -> str:
        """As in DescribeInstances."""
        answer = self.ec2.describe_instances(InstanceIds=[instance["InstanceId"]])
        return str(answer["Reservations"][0]["Instances"][0]["State"]["Name"])

    def terminate_all(self) -> None:
        """Terminate every instance and wait until no machine is left."""
        for remote in self._remotes:
            remote.close()
        self._remotes.clear()
        ids = [i["InstanceId"] for r in self.ec2.describe_instances()["Reservations"] for i in r["Instances"]]
        if ids:
            self.ec2.terminate_instances(InstanceIds=ids)
        wait_until(lambda: not list(self.layout.machines.glob("i-*")), 40)


def target() -> Target:
    """The offline cloud as gpunodes sees it; the environment stays that of the tests."""
    environment = dict(os.environ)
    try:
        return offline_target.offline_target(lambda _: None)
    finally:
        os.environ.clear()
        os.environ.update(environment)


def wait_until(condition: Callable[[], object], seconds: float, found: Callable[[], object] = lambda: "") -> None:
    """Poll until the condition holds; when it does not in time, fail the test and say what was `found` instead."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"did not come true within {seconds} s {found()}")
        time.sleep(0.1)


def left(cloud: Cloud, run_id: str) -> dict[str, list[str]]:
    """What carries the run's id or was made by it, asked of the API and not of our own records."""
    of_run = [{"Name": "tag:gpunodes:run-id", "Values": [run_id]}]
    alive = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
    ec2 = cloud.ec2
    reservations = ec2.describe_instances(Filters=alive)["Reservations"]
    found = {
        "instances": [i["InstanceId"] for reservation in reservations for i in reservation["Instances"]],
        "volumes": [v["VolumeId"] for v in ec2.describe_volumes(Filters=of_run)["Volumes"]],
        "images": [i["ImageId"] for i in ec2.describe_images(Owners=["self"])["Images"] if run_id in i["Name"]],
        "snapshots": [s["SnapshotId"] for s in ec2.describe_snapshots(Filters=of_run)["Snapshots"]],
        "keys": [k["KeyName"] for k in ec2.describe_key_pairs()["KeyPairs"] if run_id in k["KeyName"]],
        "groups": [
            g["GroupName"] for g in ec2.describe_security_groups()["SecurityGroups"] if run_id in g["GroupName"]
        ],
        "roles": [r["RoleName"] for r in cloud.iam.list_roles()["Roles"] if run_id in r["RoleName"]],
        "private keys": [str(path) for path in (RUNS / run_id).glob("ssh_key*")],
    }
    return {kind: ids for kind, ids in found.items() if ids}


@pytest.fixture(scope="session")
def layout() -> Layout:
    chosen = Layout.from_environment()
    if any(vars(traces(chosen)).values()):
        pytest.fail("an offline cloud is up on this machine; take it down with `invoke offline.down`")
    return chosen


@pytest.fixture(scope="module")
def cloud(layout: Layout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The offline cloud, up for one module, and nothing of it left afterwards."""
    key = tmp_path_factory.mktemp("key") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    facts = localaws_cloud.up(layout, lambda _: None)
    running = Cloud(layout, facts, key)
    try:
        yield running
    finally:
        for remote in running._remotes:
            remote.close()
        localaws_cloud.down(layout)
    assert_no_traces(layout)


def assert_no_traces(layout: Layout) -> None:
    """Nothing but the cache and the lock is left."""
    deadline = time.monotonic() + 15  # the kernel removes the link of a dead namespace in its own time
    while any(vars(traces(layout)).values()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert vars(traces(layout)) == {name: [] for name in vars(traces(layout))}
    assert {path.name for path in layout.state.iterdir()} <= {"cache", "lock"}


def parse(text: str) -> dict[str, Any]:
    """The one JSON document that a task printed."""
    document: dict[str, Any] = json.loads(text)
    return document
