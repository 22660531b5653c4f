"""The stand-in agent: its loop and arithmetic, then the whole program against moto."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from localaws.downloads.agent.configuration import Collection, Configuration, Measurement
from localaws.downloads.agent.errors import MetadataError
from localaws.downloads.agent.measurements import Values, read_disk, read_file_systems, read_memory, read_swap
from localaws.downloads.agent.metadata import read_identity, resolve
from localaws.downloads.agent.publisher import Publisher
from localaws.downloads.agent.service import Service
from tests.localaws.downloads.fakes import IDENTITY, RecordingSink, fake_metadata

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
MEMORY = Collection("mem", (Measurement("used_percent", "mem_used_percent", "Percent"),), interval_seconds=10)


def reader(_: Collection) -> Iterator[tuple[dict[str, str], Values]]:
    yield {}, {"used_percent": 12.5}


def service(sink: RecordingSink, flush_seconds: int = 10) -> Service:
    configuration = Configuration("CWAgent", (MEMORY,), {}, flush_seconds=flush_seconds)
    return Service(configuration, {"InstanceId": "i-1"}, Publisher(sink, "CWAgent"), reader)


def test_first_collection_is_published_at_once() -> None:
    sink = RecordingSink()

    wait_seconds = service(sink).tick(100, NOW)

    [[datum]] = sink.batches
    assert (datum.name, datum.value, datum.unit, datum.dimensions) == (
        "mem_used_percent",
        12.5,
        "Percent",
        {"InstanceId": "i-1"},
    )
    assert wait_seconds == 10


def test_datapoints_are_held_until_the_flush_is_due() -> None:
    sink = RecordingSink()
    agent = service(sink, flush_seconds=30)

    for second in (0, 10, 20, 30):
        agent.tick(100 + second, NOW + timedelta(seconds=second))

    assert [len(batch) for batch in sink.batches] == [1, 3]
    assert [datum.time.second for datum in sink.batches[1]] == [10, 20, 30]


def test_what_cannot_be_published_is_sent_later_with_its_own_time() -> None:
    sink = RecordingSink()
    agent = service(sink)
    sink.broken = True
    agent.tick(100, NOW)
    sink.broken = False
    agent.tick(110, NOW + timedelta(seconds=10))

    assert [[datum.time for datum in batch] for batch in sink.batches] == [[NOW, NOW + timedelta(seconds=10)]]


def test_stop_publishes_what_is_held() -> None:
    sink = RecordingSink()
    agent = service(sink, flush_seconds=60)
    agent.tick(100, NOW)
    agent.tick(110, NOW)
    agent.stop()

    assert [len(batch) for batch in sink.batches] == [1, 1]


def test_memory_and_swap_are_counted_as_telegraf_does(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text(
        "MemTotal: 1000 kB\nMemFree: 400 kB\nMemAvailable: 600 kB\nBuffers: 50 kB\nCached: 150 kB\n"
        "SReclaimable: 100 kB\nSwapTotal: 200 kB\nSwapFree: 150 kB\n"
    )

    assert read_memory(tmp_path)["used_percent"] == 30
    assert read_memory(tmp_path)["used"] == 300 * 1024
    assert read_swap(tmp_path)["used_percent"] == 25


def test_a_machine_without_swap_uses_none(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("SwapTotal: 0 kB\nSwapFree: 0 kB\n")

    assert read_swap(tmp_path)["used_percent"] == 0


def test_the_visible_file_system_of_a_path_is_the_last_mounted(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/mounts").write_text(
        "/dev/vda / ext4 rw 0 0\noverlay / overlay rw 0 0\n/dev/b /a\\040b xfs rw 0 0\n"
    )

    assert [(item.path, item.fstype) for item in read_file_systems(tmp_path)] == [("/", "overlay"), ("/a b", "xfs")]


def test_disk_use_is_counted_as_df_does() -> None:
    blocks = os.statvfs_result((4096, 4096, 100, 60, 40, 0, 0, 0, 0, 255))

    values = read_disk("/", lambda _: blocks)

    assert values is not None
    assert values["used_percent"] == 50  # 40 used, 40 free to users: the reserved 20 count for neither


def test_only_known_placeholders_become_dimensions() -> None:
    pairs = {
        "InstanceId": "${aws:InstanceId}",
        "ImageId": "something else",
        "AutoScalingGroupName": "${aws:AutoScalingGroupName}",
    }

    assert resolve(pairs, IDENTITY) == {"InstanceId": "i-0123"}


def test_no_metadata_service_is_an_error_that_says_so() -> None:
    with pytest.raises(MetadataError, match="identity document"):
        read_identity("http://127.0.0.1:9", patience_seconds=0)


@pytest.fixture
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def published(url: str) -> list[dict[str, Any]]:
    client = boto3.client(
        "cloudwatch", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    return [dict(metric) for metric in client.list_metrics(Namespace="CWAgent")["Metrics"]]


def test_program_publishes_what_the_bake_configures_within_three_seconds(tmp_path: Path, moto_url: str) -> None:
    (tmp_path / "amazon-cloudwatch-agent.d").mkdir()
    text = (ROOT / "packer/rootfs/opt/aws/amazon-cloudwatch-agent/etc/gpunodes.json").read_text()
    (tmp_path / "amazon-cloudwatch-agent.d/file_gpunodes.json").write_text(text.replace('"run_as_user": "cwagent"', ""))
    with fake_metadata() as metadata_url:
        agent = subprocess.Popen(
            [sys.executable, "-m", "localaws.downloads.agent", "--etc", str(tmp_path)],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata_url,
                "AWS_ENDPOINT_URL": moto_url,
                "AWS_ACCESS_KEY_ID": "a",
                "AWS_SECRET_ACCESS_KEY": "b",
            },
        )
        try:
            deadline = time.monotonic() + 10  # 3 s on an idle machine
            while len(found := published(moto_url)) < 3 and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            agent.send_signal(signal.SIGTERM)
            status = agent.wait(10)

    dimensions = {item["MetricName"]: {pair["Name"]: pair["Value"] for pair in item["Dimensions"]} for item in found}
    assert dimensions["mem_used_percent"] == {"InstanceId": "i-0123"}
    assert dimensions["swap_used_percent"] == {"InstanceId": "i-0123"}
    assert dimensions["disk_used_percent"].pop("fstype")
    assert dimensions["disk_used_percent"] == {"InstanceId": "i-0123", "path": "/"}
    assert status == 0


def test_program_without_a_configuration_ends_with_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "localaws.downloads.agent", "--etc", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "nothing to collect" in done.stderr
    assert "Traceback" not in done.stderr
