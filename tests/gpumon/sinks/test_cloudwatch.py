"""The CloudWatch sink through the real boto3 against a real HTTP server that speaks CloudWatch's protocols."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from gpumon.errors import DeliveryError, IdentityUnavailableError, RefusedError
from gpumon.identity import InstanceIdentity
from gpumon.samples import Datum
from gpumon.sinks.cloudwatch import MAX_DATUMS_PER_CALL, CloudWatchSink
from tests.gpumon.fakes import GPU, datum

if TYPE_CHECKING:
    from collections.abc import Iterator

IDENTITY = InstanceIdentity("i-1", "g4dn.xlarge", "ami-1", "us-east-1")
MINUTE = datetime.now(tz=timezone.utc).replace(second=0, microsecond=0) - timedelta(minutes=10)
UNIX_SECONDS = int(MINUTE.timestamp())
DIMENSIONS = [
    {"Name": "InstanceId", "Value": "i-1"},
    {"Name": "GpuIndex", "Value": "0"},
    {"Name": "GpuUuid", "Value": "GPU-aaaa"},
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto_server = pytest.importorskip("moto.server", reason="moto is not installed")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def sink(server: str, aws_environment: None, monkeypatch: pytest.MonkeyPatch) -> CloudWatchSink:  # noqa: ARG001
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    return CloudWatchSink("GPU", "", lambda: IDENTITY)


def statistics(server: str, metric: str, dimensions: list[dict[str, str]]) -> list[dict[str, Any]]:
    client = boto3.client("cloudwatch", region_name="us-east-1", endpoint_url=server)
    answer = client.get_metric_statistics(
        Namespace="GPU",
        MetricName=metric,
        Dimensions=dimensions,  # type: ignore[arg-type]
        StartTime=MINUTE - timedelta(minutes=5),
        EndTime=MINUTE + timedelta(minutes=5),
        Period=60,
        Statistics=["Sum", "SampleCount", "Minimum", "Maximum"],
    )
    return [dict(point) for point in answer["Datapoints"]]


def test_a_datum_is_read_back_with_its_minute_dimensions_unit_and_distribution(
    sink: CloudWatchSink, server: str
) -> None:
    sink.publish((Datum("MemoryUsed", "Bytes", GPU, UNIX_SECONDS, (5.0, 7.0, 9.5), (3, 1, 2)),))

    assert statistics(server, "MemoryUsed", DIMENSIONS) == [
        {"Timestamp": MINUTE, "SampleCount": 6.0, "Sum": 41.0, "Minimum": 5.0, "Maximum": 9.5, "Unit": "Bytes"}
    ]


def test_a_metric_of_the_host_has_the_instance_as_its_only_dimension(sink: CloudWatchSink, server: str) -> None:
    sink.publish((datum(8, UNIX_SECONDS, "GpuCount", gpu=None),))

    assert [point["Sum"] for point in statistics(server, "GpuCount", DIMENSIONS[:1])] == [8.0]


class RecordingClient:
    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def put_metric_data(self, *, Namespace: str, MetricData: Any) -> None:  # noqa: N803 - boto3's names
        self.calls.append((Namespace, len(MetricData)))


def test_the_whole_host_goes_out_in_one_call() -> None:
    client = RecordingClient()
    sink = CloudWatchSink("GPU", "", lambda: IDENTITY, lambda _: client)
    minute = [Datum(f"M{i}", "Bytes", GPU, 60, tuple(map(float, range(60))), (1,) * 60) for i in range(11 * 8)]

    for batch in sink.calls(minute):
        sink.publish(batch)

    assert client.calls == [("GPU", 88)]


def test_only_beyond_a_limit_is_a_host_divided() -> None:
    sink = CloudWatchSink("GPU", "", lambda: IDENTITY)
    small = [datum(i) for i in range(MAX_DATUMS_PER_CALL + 1)]
    large = [Datum("M", "Bytes", GPU, 60, tuple(i / 7 for i in range(150)), (1,) * 150) for _ in range(100)]

    assert [len(batch) for batch in sink.calls(small[:700])] == [700]
    for datums in (small, large):
        batches = list(sink.calls(datums))
        assert len(batches) == 2
        assert [item for batch in batches for item in batch] == datums
    assert list(sink.calls([])) == []


def test_the_largest_batch_stays_below_a_megabyte_on_the_wire(sink: CloudWatchSink) -> None:
    long = 1_234_567_890_123.4567
    datums = [Datum("M" * 40, "Bytes", GPU, 60, tuple(long + i for i in range(150)), (1000,) * 150) for _ in range(300)]
    sizes: list[int] = []
    client: Any = boto3.client("cloudwatch", region_name="us-east-1", endpoint_url="http://127.0.0.1:1")

    def record(request: Any, **_: object) -> Any:
        sizes.append(len(request.body))
        raise KeyboardInterrupt  # nothing is to be sent

    client.meta.config.disable_request_compression = True
    client.meta.events.register("before-send", record)
    sized = CloudWatchSink("GPU", "", lambda: IDENTITY, lambda _: client)
    for batch in sink.calls(datums):
        with pytest.raises(KeyboardInterrupt):
            sized.publish(batch)

    assert 0 < max(sizes) < 1_000_000


def test_an_invalid_request_is_refused_for_good(sink: CloudWatchSink) -> None:
    with pytest.raises(RefusedError):
        sink.publish((Datum("", "Bytes", GPU, UNIX_SECONDS, (1.0,), (1,)),))


def test_a_service_that_cannot_be_reached_is_worth_another_try(
    aws_environment: None,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")

    with pytest.raises(DeliveryError, match="Check the way") as caught:
        CloudWatchSink("GPU", "", lambda: IDENTITY).publish((datum(),))

    assert not isinstance(caught.value, RefusedError)


def test_credentials_that_come_later_are_found(
    sink: CloudWatchSink, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    sink.open()
    with pytest.raises(DeliveryError, match="Give this instance a role"):
        sink.publish((datum(3, UNIX_SECONDS, "Late"),))

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    sink.publish((datum(4, UNIX_SECONDS, "Late"),))

    assert [point["Sum"] for point in statistics(server, "Late", DIMENSIONS)] == [4.0]


def test_the_identity_is_asked_for_until_it_is_known_and_then_never_again() -> None:
    answers: list[InstanceIdentity | IdentityUnavailableError] = [IdentityUnavailableError("Enable it."), IDENTITY]

    def find() -> InstanceIdentity:
        answer = answers.pop(0)
        if isinstance(answer, IdentityUnavailableError):
            raise answer
        return answer

    regions: list[str] = []
    client = RecordingClient()

    def make_client(region: str) -> RecordingClient:
        regions.append(region)
        return client

    sink = CloudWatchSink("GPU", "", find, make_client)
    with pytest.raises(IdentityUnavailableError):
        sink.open()
    sink.open()
    sink.publish((datum(),))

    assert regions == ["us-east-1"]
    assert answers == []
