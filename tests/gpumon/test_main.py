"""The whole program as a process: simulated driver, a CloudWatch server, a metadata service, a notify socket."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from gpumon.__main__ import main
from localaws.simgpu.gpus import SimulatedGpus
from tests.gpumon.test_identity import DOCUMENT, FakeMetadata, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
MIB = 2**20


class World:
    """Everything around a gpumon process, on loopback and in a temporary directory."""

    def __init__(self, directory: Path, libraries: Path, cloudwatch: str, metadata: str) -> None:
        self.gpus = SimulatedGpus(directory / "state")
        self.gpus.install("g4dn.xlarge", "i-1")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(directory / "notify"))
        self.notify.settimeout(20)
        self.cloudwatch = cloudwatch
        self.namespace = f"GPU/{uuid.uuid4()}"  # moto servers of one process share what they keep
        self.environment = {
            "GPUMON_NAMESPACE": self.namespace,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "LD_LIBRARY_PATH": str(libraries),
            "SIMGPU_STATE": str(directory / "state"),
            "NOTIFY_SOCKET": str(directory / "notify"),
            "AWS_ENDPOINT_URL": cloudwatch,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    def start(self, **changes: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "gpumon", "run"]
        return subprocess.Popen(command, env=self.environment | changes, stderr=subprocess.PIPE, text=True)

    def stop(self, process: subprocess.Popen[str]) -> str:
        """Send SIGTERM; return the log."""
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=10)
        assert process.returncode == 0, log
        return log

    def samples(self, metric: str) -> float:
        """Return how many samples of a metric CloudWatch has."""
        client: Any = boto3.client(
            "cloudwatch",
            region_name="us-east-1",
            endpoint_url=self.cloudwatch,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        found = client.list_metrics(Namespace=self.namespace, MetricName=metric)["Metrics"]
        if not found:
            return 0
        now = time.time()
        answer = client.get_metric_statistics(
            Namespace=self.namespace,
            MetricName=metric,
            Dimensions=found[0]["Dimensions"],
            StartTime=now - 600,
            EndTime=now + 60,
            Period=60,
            Statistics=["SampleCount"],
        )
        return float(sum(point["SampleCount"] for point in answer["Datapoints"]))


@pytest.fixture
def world(tmp_path: Path, driver_directory: Path) -> Iterator[World]:
    moto_server = pytest.importorskip("moto.server", reason="moto is not installed")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with serve(type("Metadata", (FakeMetadata,), {"document": json.dumps(DOCUMENT).encode()})) as metadata:
        world = World(tmp_path, driver_directory, f"http://{host}:{port}", metadata)
        yield world
        world.notify.close()
    server.stop()


@pytest.fixture
def kept_logging() -> Iterator[None]:
    """Undo what main() does to the log of this process."""
    root, ours = logging.getLogger(), logging.getLogger("gpumon")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def wait_for(condition: Any, seconds: float = 20.0) -> float:
    """Wait until `condition()` holds; return how long that took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it did not happen"
        time.sleep(0.05)
    return time.monotonic() - start


def test_a_start_publishes_at_once_and_a_stop_publishes_the_rest(world: World) -> None:
    before = world.samples("MemoryUsed")
    process = world.start()
    try:
        assert world.notify.recv(200).startswith(b"READY=1")
        seconds = wait_for(lambda: world.samples("MemoryUsed") > before)
        time.sleep(2.2)
    finally:
        log = world.stop(process)

    print(f"ready to first datapoint: {seconds:.2f} s")  # noqa: T201 - a figure for people, not a limit
    assert world.notify.recv(200).startswith(b"STOPPING=1")
    assert world.samples("MemoryUsed") - before >= 3
    assert "SIGTERM: stopping" in log


def test_a_stop_takes_seconds_although_cloudwatch_cannot_be_reached(world: World) -> None:
    process = world.start(AWS_ENDPOINT_URL="http://198.51.100.1:9")
    world.notify.recv(200)
    start = time.monotonic()

    log = world.stop(process)

    assert time.monotonic() - start < 7
    assert "lost" in log or "not published" in log


def test_without_a_library_it_stays_up_and_stops_cleanly(world: World, tmp_path: Path) -> None:
    process = world.start(LD_LIBRARY_PATH=str(tmp_path), SIMGPU_STATE=str(tmp_path))
    assert b"libnvidia-ml.so.1" in world.notify.recv(300)

    assert process.poll() is None
    world.stop(process)


def test_once_shows_what_the_driver_says(world: World) -> None:
    world.gpus.set(0, memory_used_bytes=64 * MIB)
    answer = subprocess.run(
        [sys.executable, "-m", "gpumon", "once", "--json"], env=world.environment, capture_output=True, check=True
    )

    assert json.loads(answer.stdout)["gpus"][0]["metrics"]["MemoryUsed"] == 64 * MIB


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "gpumon", "show-config"], stdout=writing, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writing)

    assert (answer.returncode, answer.stderr) == (0, b"")


@pytest.mark.parametrize(("place", "words"), [("/dev/full", "No space left"), ("&-", "it is closed")])
def test_an_output_that_cannot_be_written_is_one_sentence(place: str, words: str) -> None:
    command = ["sh", "-c", f'exec "$0" -m gpumon show-config >{place}', sys.executable]
    answer = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)

    assert answer.returncode == 1
    assert words in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_check_calls_a_good_host_healthy(world: World) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "gpumon", "check"], env=world.environment, capture_output=True, text=True, check=False
    )

    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.endswith("this host is healthy\n")


@pytest.mark.usefixtures("kept_logging")
def test_show_config_prints_settings_and_origins(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUMON_NAMESPACE", "Mine")

    assert main(["show-config"]) == 0
    assert 'namespace = "Mine"' in capsys.readouterr().out


@pytest.mark.usefixtures("kept_logging")
def test_wrong_settings_are_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUMON_NAMESPAC", "Mine")

    assert main(["run"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
