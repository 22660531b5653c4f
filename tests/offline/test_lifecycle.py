"""`offline.up`, `down`, `status`, `env`, as a user runs them, and after crashes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import boto3
import pytest

from localaws import cloud
from localaws.layout import HOST_LINK, Layout
from tests.offline.conftest import REPOSITORY, assert_no_traces, run_invoke, traces, wait_until


@pytest.fixture(autouse=True)
def _nothing_left(layout: Layout) -> Iterator[None]:
    yield
    run_invoke("offline.down")
    assert_no_traces(layout)


def daemon_id(layout: Layout) -> int:
    return cloud.facts(layout).process_id


def left_by_the_kernel(layout: Layout) -> list[str]:
    """What still runs or is mounted; control groups are swept by whoever comes next."""
    found = traces(layout)
    return [*found.processes, *found.links, *found.mounts]


def launch(layout: Layout) -> str:
    """One instance, by the variables that `offline.env` prints."""
    variables = dict(
        line.removeprefix("export ").split("=", 1) for line in run_invoke("offline.env").stdout.splitlines()
    )
    ec2 = boto3.client(
        "ec2",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        region_name=variables["AWS_REGION"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )
    subnet = ec2.describe_subnets(Filters=[{"Name": "cidr-block", "Values": ["198.51.100.0/24"]}])["Subnets"][0]
    image = ec2.describe_images(Filters=[{"Name": "name", "Values": ["debian-12-*"]}])["Images"][0]
    instance = ec2.run_instances(
        ImageId=image["ImageId"], MinCount=1, MaxCount=1, InstanceType="g4dn.xlarge", SubnetId=subnet["SubnetId"]
    )["Instances"][0]
    wait_until(lambda: any("nspawn" in process for process in traces(layout).processes), 40)
    return str(instance["InstanceId"])


def test_up_prints_a_line_for_each_part_and_status_the_instances(layout: Layout) -> None:
    up = run_invoke("offline.up")
    assert up.returncode == 0, up.stderr
    for part in ("API", "instances", "metadata service", "downloads", "base image"):
        assert sum(line.strip().startswith(part) for line in up.stderr.splitlines()) == 1
    instance_id = launch(layout)
    wait_until(lambda: instance_id in run_invoke("offline.status").stderr, 40)
    down = run_invoke("offline.down")
    assert down.returncode == 0
    assert_no_traces(layout)


def test_up_twice_says_so_and_leaves_the_first_alone(layout: Layout) -> None:
    run_invoke("offline.up")
    first = daemon_id(layout)
    again = run_invoke("offline.up")
    assert again.returncode == 2
    assert "is up already" in again.stderr
    assert "Traceback" not in again.stderr
    assert daemon_id(layout) == first


@pytest.mark.usefixtures("layout")
def test_two_ups_at_once_give_one_cloud() -> None:
    command = [sys.executable, "-m", "invoke", "offline.up"]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=90)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], errors
    assert run_invoke("offline.status").returncode == 0


def test_after_kill_9_of_the_daemon_nothing_runs_and_up_works_again(layout: Layout) -> None:
    run_invoke("offline.up")
    launch(layout)
    os.kill(daemon_id(layout), signal.SIGKILL)
    # The kernel alone ends machines, mounts and network: nobody has cleaned up yet.
    wait_until(lambda: left_by_the_kernel(layout) == [], 40, lambda: left_by_the_kernel(layout))
    status = run_invoke("offline.status")
    assert status.returncode == 2
    assert "not up" in status.stderr
    assert run_invoke("offline.up").returncode == 0
    assert launch(layout).startswith("i-")


@pytest.mark.parametrize("ends", ["down", "kill -9"])
def test_a_connection_whose_other_end_vanished_does_not_keep_the_network(layout: Layout, ends: str) -> None:
    run_invoke("offline.up")
    downloads = urlsplit(cloud.facts(layout).downloads_url)
    with socket.create_connection((str(downloads.hostname), downloads.port or 80)):
        # As when an instance is gone in the middle of a request: the router's end waits for an answer.
        subprocess.run(["ip", "link", "set", HOST_LINK, "down"], check=True)
        if ends == "down":
            assert run_invoke("offline.down").returncode == 0
        else:
            os.kill(daemon_id(layout), signal.SIGKILL)
        wait_until(lambda: left_by_the_kernel(layout) == [], 15, lambda: left_by_the_kernel(layout))


@pytest.mark.usefixtures("layout")
def test_down_twice_is_fine() -> None:
    run_invoke("offline.up")
    assert run_invoke("offline.down").returncode == 0
    again = run_invoke("offline.down")
    assert again.returncode == 0
    assert "not up" in again.stderr


def test_up_after_a_reboot_finds_the_files_of_the_last_boot(layout: Layout) -> None:
    layout.machines.mkdir(parents=True)
    (layout.machines / "i-0123456789abcdef0").mkdir()
    (layout.run / "daemon.json").write_text("{}")
    assert run_invoke("offline.up").returncode == 0
    assert not (layout.machines / "i-0123456789abcdef0").exists()


@pytest.mark.usefixtures("layout")
def test_a_taken_port_is_one_sentence_and_exit_code_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run_invoke("offline.up", env={"LOCALAWS_PORT": str(taken.getsockname()[1])})
    assert result.returncode == 2
    assert "LOCALAWS_PORT" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.usefixtures("layout")
def test_another_port_can_be_chosen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    up = run_invoke("offline.up", env={"LOCALAWS_PORT": str(port)})
    assert up.returncode == 0, up.stderr
    assert f"AWS_ENDPOINT_URL=http://127.0.0.1:{port}" in run_invoke("offline.env").stdout


@pytest.mark.usefixtures("layout")
def test_a_taken_interface_is_one_sentence_and_exit_code_2() -> None:
    subprocess.run(["ip", "link", "add", HOST_LINK, "type", "bridge"], check=True)
    try:
        result = run_invoke("offline.up")
    finally:
        subprocess.run(["ip", "link", "delete", HOST_LINK], check=True)
    assert result.returncode == 2
    assert HOST_LINK in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.usefixtures("layout")
def test_env_without_a_cloud_prints_nothing_to_evaluate() -> None:
    result = run_invoke("offline.env")
    assert result.returncode == 2
    assert result.stdout == ""


def test_nobody_but_root_may_look_into_the_state_folder(layout: Layout) -> None:
    run_invoke("offline.up")
    assert layout.state.stat().st_mode & 0o777 == 0o700
