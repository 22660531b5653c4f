from __future__ import annotations

import fcntl
import json
import math
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.clock import SystemClock
from gpumon.errors import DeliveryError
from gpumon.publisher import Publisher
from gpumon.samples import Datum, Gpu, MigInstance
from gpumon.sinks.json_lines import JsonLinesSink
from gpumon.spool import MemorySpool
from tests.gpumon.fakes import GPU, OTHER_GPU

if TYPE_CHECKING:
    from collections.abc import Iterator

F_SETPIPE_SZ = 1031  # linux/fcntl.h
INSTANCE = Gpu("GPU-aaaa", 0, "A100", "00000000:10:1C.0", 0, MigInstance(7, "1g.5gb", "MIG-a"))


class Pipe:
    """Standard output with a reader of one's own; it takes 4096 bytes."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        fcntl.fcntl(self.write_end, F_SETPIPE_SZ, 4096)
        os.set_blocking(self.read_end, False)

    def read(self) -> bytes:
        try:
            return os.read(self.read_end, 1 << 20)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        for end in (self.read_end, self.write_end):
            if end >= 0:
                os.close(end)

    def close_reader(self) -> None:
        os.close(self.read_end)
        self.read_end = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def datum(value: float = 1.0, unix_seconds: int = 60, metric: str = "MemoryUsed", gpu: Gpu | None = GPU) -> Datum:
    return Datum(metric, "Bytes", gpu, unix_seconds, (value,), (1,))


def written(pipe: Pipe, *datums: Datum) -> list[dict[str, Any]]:
    JsonLinesSink(pipe.write_end).publish(tuple(datums))
    return [json.loads(line) for line in pipe.read().splitlines()]


def big_batch(number: int, datums: int = 100) -> tuple[Datum, ...]:
    return tuple(datum(index, unix_seconds=60 * number, metric=f"Metric{index:04d}") for index in range(datums))


def test_line_says_of_which_gpu_and_period_it_is(pipe: Pipe) -> None:
    (line,) = written(pipe, datum(unix_seconds=1_700_000_040))

    assert line == {
        "time": "2023-11-14T22:14:00Z",
        "period_start_unix_seconds": 1_700_000_040,
        "gpu": {"index": 0, "uuid": "GPU-aaaa", "name": "Tesla T4"},
        "metrics": {"MemoryUsed": {"unit": "Bytes", "min": 1.0, "max": 1.0, "mean": 1.0, "sum": 1.0, "count": 1}},
    }


def test_each_gpu_instance_and_period_has_one_line_and_the_host_has_one(pipe: Pipe) -> None:
    lines = written(
        pipe,
        datum(1, metric="A"),
        datum(2, gpu=OTHER_GPU),
        datum(3, metric="B"),
        datum(4, gpu=None),
        datum(5, gpu=INSTANCE),
        datum(6, metric="A", unix_seconds=120),
    )

    shown = [
        (line["period_start_unix_seconds"], line["gpu"] and line["gpu"]["uuid"], set(line["metrics"])) for line in lines
    ]
    assert shown == [
        (60, GPU.uuid, {"A", "B"}),
        (60, OTHER_GPU.uuid, {"MemoryUsed"}),
        (60, None, {"MemoryUsed"}),
        (60, "GPU-aaaa", {"MemoryUsed"}),
        (120, GPU.uuid, {"A"}),
    ]
    assert lines[3]["gpu"] == {
        "index": 0,
        "uuid": "GPU-aaaa",
        "name": "A100",
        "pci_bus_id": "00000000:10:1C.0",
        "mig": {"gpu_instance_id": 7, "profile": "1g.5gb", "uuid": "MIG-a"},
    }


def test_statistics_are_those_of_the_samples(pipe: Pipe) -> None:
    (line,) = written(pipe, Datum("M", "Percent", None, 60, (0.0, 50.0, 100.0), (3, 2, 1)))

    assert line["metrics"]["M"] == {
        "unit": "Percent",
        "min": 0.0,
        "max": 100.0,
        "mean": pytest.approx(200 / 6),
        "sum": 200.0,
        "count": 6,
    }


def test_mean_lies_between_the_extremes_in_spite_of_rounding(pipe: Pipe) -> None:
    (line,) = written(pipe, Datum("M", "Percent", None, 60, (0.1,), (3,)))

    assert line["metrics"]["M"]["mean"] == 0.1


@pytest.mark.parametrize("values", [(), (math.nan,), (1.0, math.inf)])
def test_value_that_json_cannot_have_is_left_out(pipe: Pipe, values: tuple[float, ...]) -> None:
    (line,) = written(pipe, datum(1, metric="A"), Datum("B", "Bytes", GPU, 60, values, (1,) * len(values)))

    assert set(line["metrics"]) == {"A"}


@given(
    values=st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=150, unique=True).map(sorted),
    name=st.text(st.characters(exclude_categories=[])),
)
def test_every_line_is_one_line_of_json_whatever_is_in_it(values: list[float], name: str) -> None:
    pipe = Pipe()
    fcntl.fcntl(pipe.write_end, F_SETPIPE_SZ, 1 << 20)
    try:
        lines = written(pipe, Datum(name, "Bytes", Gpu("GPU-1", 0, name), 60, tuple(values), (1,) * len(values)))
    finally:
        pipe.close()

    (summary,) = lines[0]["metrics"].values()
    assert summary["min"] <= summary["mean"] <= summary["max"]


def test_everything_goes_into_one_call() -> None:
    datums = [datum(1), datum(2, gpu=OTHER_GPU)]

    assert list(JsonLinesSink(-1).calls(datums)) == [tuple(datums)]
    assert list(JsonLinesSink(-1).calls([])) == []


def test_reader_that_is_gone_is_a_delivery_error(pipe: Pipe) -> None:
    pipe.close_reader()

    with pytest.raises(DeliveryError, match=r"Give gpumon a standard output that it can write to: Broken pipe\."):
        JsonLinesSink(pipe.write_end).publish((datum(),))


def test_closed_standard_output_is_a_delivery_error(pipe: Pipe) -> None:
    closed = os.dup(pipe.write_end)
    os.close(closed)

    with pytest.raises(DeliveryError, match="Bad file descriptor"):
        JsonLinesSink(closed).publish((datum(),))


def test_reader_that_does_not_read_is_a_delivery_error(pipe: Pipe) -> None:
    with pytest.raises(DeliveryError, match="Read standard output"):
        JsonLinesSink(pipe.write_end, 0.01).publish(big_batch(1))


def test_batch_that_was_cut_goes_on_where_it_stopped(pipe: Pipe) -> None:
    sink = JsonLinesSink(pipe.write_end, 0.01)
    batch = big_batch(1)
    received = b""
    for _ in range(1000):
        try:
            sink.publish(batch)
        except DeliveryError:
            received += pipe.read()
        else:
            break
    received += pipe.read()

    (line,) = received.splitlines()
    assert len(json.loads(line)["metrics"]) == 100


def test_no_batch_comes_twice_or_mixed_up_in_whatever_order_it_is_tried_again(pipe: Pipe) -> None:
    sink = JsonLinesSink(pipe.write_end, 0.005)
    waiting = [big_batch(number) for number in range(1, 6)]
    received = b""
    while waiting:
        batch = waiting.pop()
        try:
            sink.publish(batch)
        except DeliveryError:
            waiting.insert(0, batch)
        received += pipe.read()
    received += pipe.read()

    starts = [json.loads(line)["period_start_unix_seconds"] for line in received.splitlines()]
    assert sorted(starts) == [60, 120, 180, 240, 300]


def test_batch_of_which_nothing_was_taken_leaves_nothing_behind(pipe: Pipe) -> None:
    sink = JsonLinesSink(pipe.write_end, 0.005)
    os.write(pipe.write_end, b"\n" * 4096)
    with pytest.raises(DeliveryError):
        sink.publish((datum(1, unix_seconds=60),))
    pipe.read()

    sink.publish((datum(2, unix_seconds=120),))

    assert [json.loads(line)["period_start_unix_seconds"] for line in pipe.read().splitlines()] == [120]


def test_reader_that_stalls_holds_up_neither_the_service_nor_its_end(pipe: Pipe) -> None:
    spool = MemorySpool(3)
    publisher = Publisher(JsonLinesSink(pipe.write_end, 0.05), spool, SystemClock())
    publisher.start()
    begin = time.monotonic()
    now = int(time.time())
    for number in range(20):
        publisher.submit(big_batch(now // 60 - 20 + number))

    publisher.stop(2.0)

    assert time.monotonic() - begin < 5
    assert spool.state().waiting_datums <= 300
    assert publisher.stats().dropped_datums > 0
    assert threading.active_count() < 10
