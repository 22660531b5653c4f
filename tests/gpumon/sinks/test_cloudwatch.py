"""The CloudWatch sink through the real boto3 against a real HTTP server that speaks CloudWatch's protocols."""

from __future__ import annotations

import gzip
import json
import math
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.errors import DeliveryError, IdentityUnavailableError, RefusedError
from gpumon.identity import InstanceIdentity
from gpumon.samples import Datum, Gpu, MigInstance
from gpumon.sinks.cloudwatch import MAX_CALL_BYTES, MAX_DATUMS_PER_CALL, CloudWatchSink
from tests.gpumon.cloudwatch_endpoint import Endpoint, cloudwatch_endpoint
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
        self.data: list[dict[str, Any]] = []

    def put_metric_data(self, *, Namespace: str, MetricData: Any) -> None:  # noqa: N803 - boto3's names
        self.calls.append((Namespace, len(MetricData)))
        self.data.extend(MetricData)


def sent(*datums: Datum) -> list[dict[str, Any]]:
    """Return what goes into the calls for `datums`."""
    client = RecordingClient()
    sink = CloudWatchSink("GPU", "", lambda: IDENTITY, lambda _: client)
    for batch in sink.calls(datums):
        sink.publish(batch)
    return client.data


def test_a_legacy_name_has_the_dimensions_that_awss_script_gave_it(
    server: str,
    aws_environment: None,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    sink = CloudWatchSink("GPU", "", lambda: IDENTITY, legacy_names={"Memory Usage"})
    sink.publish((datum(5.0, UNIX_SECONDS, "Memory Usage"), datum(6.0, UNIX_SECONDS, "MemoryTwin")))

    dimensions = {"InstanceId": "i-1", "ImageId": "ami-1", "InstanceType": "g4dn.xlarge", "GPUNumber": "0"}
    legacy = statistics(server, "Memory Usage", [{"Name": name, "Value": value} for name, value in dimensions.items()])
    assert [point["Maximum"] for point in legacy] == [5.0]
    assert [point["Maximum"] for point in statistics(server, "MemoryTwin", DIMENSIONS)] == [6.0]


def test_a_mig_instance_has_dimensions_of_its_own_besides_those_of_its_gpu() -> None:
    gpu = Gpu("GPU-aaaa", 0, "A100", mig=MigInstance(7, "1g.5gb", "MIG-1"))

    (data,) = sent(datum(gpu=gpu))

    assert data["Dimensions"] == [
        *DIMENSIONS,
        {"Name": "GpuInstanceId", "Value": "7"},
        {"Name": "GpuInstanceProfile", "Value": "1g.5gb"},
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [("  ", "unknown"), ("", "unknown"), ("1g.5gb\u00b2\n", "1g.5gb??"), ("x" * 2000, "x" * 1024), (" a b ", "a b")],
)
def test_a_dimension_is_made_into_what_cloudwatch_takes(text: str, value: str) -> None:
    (data,) = sent(datum(gpu=Gpu(text, 0, "T4")))

    assert data["Dimensions"][2] == {"Name": "GpuUuid", "Value": value}


BAD_DATUMS = {
    "no name": Datum("", "Bytes", GPU, 60, (1.0,), (1,)),
    "blank name": Datum(" ", "Bytes", GPU, 60, (1.0,), (1,)),
    "name too long": Datum("M" * 256, "Bytes", GPU, 60, (1.0,), (1,)),
    "no ASCII name": Datum("\u03bc", "Bytes", GPU, 60, (1.0,), (1,)),
    "control character": Datum("a\x00", "Bytes", GPU, 60, (1.0,), (1,)),
    "unknown unit": Datum("M", "Watts", GPU, 60, (1.0,), (1,)),
    "no values": Datum("M", "Bytes", GPU, 60, (), ()),
    "too many values": Datum("M", "Bytes", GPU, 60, tuple(map(float, range(151))), (1,) * 151),
    "not a number": Datum("M", "Bytes", GPU, 60, (1.0, math.nan), (1, 1)),
    "not a number first": Datum("M", "Bytes", GPU, 60, (math.nan, 1.0), (1, 1)),
    "infinite": Datum("M", "Bytes", GPU, 60, (math.inf,), (1,)),
    "too large": Datum("M", "Bytes", GPU, 60, (2.0**361,), (1,)),
    "too small": Datum("M", "Bytes", GPU, 60, (-(2.0**361),), (1,)),
    "counts missing": Datum("M", "Bytes", GPU, 60, (1.0, 2.0), (1,)),
    "count of zero": Datum("M", "Bytes", GPU, 60, (1.0, 2.0), (1, 0)),
    "before 1970": Datum("M", "Bytes", GPU, -1, (1.0,), (1,)),
    "after 9999": Datum("M", "Bytes", GPU, 10**15, (1.0,), (1,)),
}


@pytest.mark.parametrize("fault", BAD_DATUMS)
def test_a_datum_that_cloudwatch_could_never_take_is_left_out_alone(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = sent(datum(1), BAD_DATUMS[fault], datum(2))

    assert [item["Values"] for item in data] == [(1.0,), (2.0,)]
    assert "is left out for one period" in caplog.text


def test_counts_go_out_only_where_one_is_not_one() -> None:
    once, twice = sent(
        Datum("M", "Bytes", GPU, 60, (1.0, 2.0), (1, 1)),
        Datum("M", "Bytes", GPU, 60, (1.0, 2.0), (1, 2)),
    )

    assert "Counts" not in once
    assert twice["Counts"] == (1, 2)


def test_values_without_counts_count_once_each(sink: CloudWatchSink, server: str) -> None:
    sink.publish((Datum("Once", "Bytes", GPU, UNIX_SECONDS, (5.0, 7.0), (1, 1)),))

    (point,) = statistics(server, "Once", DIMENSIONS)
    assert (point["SampleCount"], point["Sum"]) == (2.0, 12.0)


@given(
    st.lists(
        st.builds(
            Datum,
            st.text(max_size=5),
            st.sampled_from(["Bytes", "Watts"]),
            st.builds(Gpu, st.text(max_size=3), st.integers(), st.text(), mig=st.none()),
            st.integers(-10, 10**12),
            st.lists(st.floats(), max_size=3).map(tuple),
            st.lists(st.integers(0, 3), max_size=3).map(tuple),
        ),
        max_size=5,
    )
)
def test_nothing_that_goes_out_breaks_a_rule_of_the_api(datums: list[Datum]) -> None:
    for item in sent(*datums):
        assert item["MetricName"].strip()
        assert item["MetricName"].isascii()
        assert all(0 < len(each["Value"]) <= 1024 and each["Value"].isprintable() for each in item["Dimensions"])
        assert all(each["Value"].isascii() and each["Value"].strip() for each in item["Dimensions"])
        assert all(-(2.0**360) <= value <= 2.0**360 for value in item["Values"])
        assert len(item["Values"]) == len(item.get("Counts", item["Values"])) > 0


def worst_minute() -> list[Datum]:
    """Return a minute of 8 GPUs and 24 metrics, sampled each second, of which no two samples are alike."""
    gpus = [Gpu(f"GPU-{index:08d}-aaaa-bbbb-cccc-0123456789ab", index, "H100") for index in range(8)]
    long = 1_234_567_890_123.4567
    return [
        Datum("GpuUtilization", "Percent", gpu, UNIX_SECONDS, tuple(map(float, range(101))), (59,) * 101)
        if number == 0
        else Datum(
            f"MemoryBandwidthUtilization{number}",
            "Bytes/Second",
            gpu,
            UNIX_SECONDS,
            tuple(long + 1.1 * i for i in range(60)),
            (1,) * 59 + (2,),
        )
        for gpu in gpus
        for number in range(24)
    ]


WORST_MINUTE = worst_minute()


@pytest.fixture
def endpoint(aws_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:  # noqa: ARG001
    with cloudwatch_endpoint() as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
        yield endpoint


def test_the_worst_minute_of_a_host_is_one_compressed_request_below_a_megabyte(endpoint: Endpoint) -> None:
    sink = CloudWatchSink("GPU", "", lambda: IDENTITY)

    for batch in sink.calls(WORST_MINUTE):
        sink.publish(batch)

    ((headers, body),) = endpoint.requests
    assert headers["Content-Encoding"] == "gzip"
    assert headers["X-Amz-Target"].endswith("PutMetricData")  # botocore chose JSON of its three formats
    plain = gzip.decompress(body)
    assert len(body) < len(plain) / 2
    assert len(plain) < MAX_CALL_BYTES
    data = json.loads(plain)["MetricData"]
    assert len(data) == 8 * 24
    assert data[0]["Values"] == list(range(101))


def test_the_whole_host_goes_out_in_one_call() -> None:
    client = RecordingClient()
    sink = CloudWatchSink("GPU", "", lambda: IDENTITY, lambda _: client)

    for batch in sink.calls(WORST_MINUTE):
        sink.publish(batch)

    assert client.calls == [("GPU", 8 * 24)]


def test_only_beyond_a_limit_is_a_host_divided() -> None:
    sink = CloudWatchSink("GPU", "", lambda: IDENTITY)
    small = [datum(i) for i in range(MAX_DATUMS_PER_CALL + 1)]
    large = [Datum("M", "Bytes", GPU, 60, tuple(i / 7 for i in range(150)), (1,) * 150) for _ in range(200)]

    assert [len(batch) for batch in sink.calls(small[:700])] == [700]
    for datums in (small, large):
        batches = list(sink.calls(datums))
        assert len(batches) == 2
        assert [item for batch in batches for item in batch] == datums
    assert list(sink.calls([])) == []


def test_the_largest_batch_stays_below_a_megabyte_on_the_wire(sink: CloudWatchSink) -> None:
    values = tuple(-1.2345678901234567e100 * (1 + i / 997) for i in range(150))
    gpu = Gpu("GPU-01234567-89ab-cdef-0123-456789abcdef", 15, "A100", mig=MigInstance(13, "1g.12gb+me", "MIG-1"))
    many = [Datum("M" * 255, "Terabytes/Second", gpu, 60, values, (36_000,) * 150) for _ in range(300)]
    few = [Datum("M" * 40, "Terabytes/Second", gpu, 60, values[:1], (36_000,)) for _ in range(1000)]
    datums = [*many, *few]
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

    assert 800_000 < max(sizes) < 1_000_000  # and not much is given away


def test_an_invalid_request_is_refused_for_good(sink: CloudWatchSink) -> None:
    with pytest.raises(RefusedError):
        sink.publish((Datum("M", "Bytes", GPU, UNIX_SECONDS, (1.0, 2.0), (1, 2, 3)),))


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
