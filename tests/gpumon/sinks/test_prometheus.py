from __future__ import annotations

import logging
import socket
import threading
import time
import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gpumon.errors import SettingsError
from gpumon.latest import GpuState, Snapshot
from gpumon.metrics import of_tiers
from gpumon.publisher import DeliveryStats
from gpumon.samples import Gpu, GpuProcess
from gpumon.sinks.prometheus import PrometheusSink
from gpumon.sinks.prometheus_collector import SnapshotCollector
from gpumon.sinks.prometheus_text import encode
from tests.gpumon.fakes import FakeClock
from tests.gpumon.sinks.snapshots import METRICS, UNIX_SECONDS, XIDS, collector, full_state, gpu, snapshot, state

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LABELS = {
    "gpu": "0",
    "UUID": "GPU-0000",
    "pci_bus_id": "00000000:10:00.0",
    "device": "nvidia0",
    "Hostname": "ip-10-0-0-1",
}
DCGM_LABELS = LABELS | {"modelName": "NVIDIA H100 80GB HBM3", "DCGM_FI_DRIVER_VERSION": "560.35.03"}

Series = list[tuple[dict[str, str], float]]


class FakeJobs:
    def __init__(self, jobs: Mapping[Gpu, tuple[str, ...]]) -> None:
        self.jobs = jobs

    def jobs_of(self, gpus: Iterable[Gpu]) -> dict[Gpu, tuple[str, ...]]:
        return {gpu: self.jobs[gpu] for gpu in gpus if gpu in self.jobs}


def registry(one: SnapshotCollector) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(one)
    return made


def scrape(shown: Snapshot, clock: FakeClock | None = None, **options: object) -> dict[str, Series]:
    """Return what Prometheus's own parser reads in a scrape, by name."""
    text = encode(registry(collector(lambda: shown, clock or FakeClock(), **options))).decode()
    return series_of(text)


def series_of(text: str) -> dict[str, Series]:
    found: dict[str, Series] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def types_of(text: str) -> dict[str, str]:
    return dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE "))


def test_series_have_the_labels_of_dcgm_exporter() -> None:
    series = scrape(snapshot(state(temperature_celsius=41.0)))

    assert series["DCGM_FI_DEV_GPU_TEMP"] == [(DCGM_LABELS, 41.0)]
    assert series["gpumon_gpu_up"] == [(LABELS, 1.0)]


def test_mig_instance_has_the_labels_of_its_gpu_and_its_own() -> None:
    series = scrape(snapshot(state(memory_used_bytes=2**20), state(instance=7, memory_used_bytes=2**19)))

    mig = {"GPU_I_ID": "7", "GPU_I_PROFILE": "1g.5gb"}
    assert series["DCGM_FI_DEV_FB_USED"] == [(DCGM_LABELS, 1.0), (DCGM_LABELS | mig, 0.5)]


def test_unknown_bus_address_and_driver_are_no_labels() -> None:
    nameless = GpuState(Gpu("GPU-0000", 3, "Tesla T4"), {"temperature_celsius": 41.0})

    series = scrape(replace(snapshot(nameless), driver_version=""))

    labels = {"gpu": "3", "UUID": "GPU-0000", "device": "nvidia3", "Hostname": "ip-10-0-0-1", "modelName": "Tesla T4"}
    assert series["DCGM_FI_DEV_GPU_TEMP"] == [(labels, 41.0)]


def test_values_are_those_that_were_read_in_the_unit_of_the_name() -> None:
    series = scrape(
        snapshot(
            state(
                energy_millijoules=123_456_789_012_345.0,
                memory_used_bytes=3 * 2**30 + 2**19,
                memory_utilization_percent=7.0,
                throttle_time_hw_thermal_nanoseconds=3.0,
                throttle_time_power_nanoseconds=9_007_199_254_740_993.0,
            )
        )
    )

    values = {name: found[0][1] for name, found in series.items()}
    assert values["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] == 123_456_789_012_345
    assert values["DCGM_FI_DEV_FB_USED"] == 3072.5
    assert values["DCGM_FI_DEV_FB_USED_PERCENT"] == 0.07
    assert values["gpumon_gpu_throttle_hw_thermal_seconds_total"] == 3e-09
    assert values["DCGM_FI_DEV_POWER_VIOLATION"] == 9_007_199_254_740_992


def test_every_metric_of_the_table_with_a_name_in_prometheus_is_there_and_no_other() -> None:
    host = {metric.reader: metric.minimum or 0 for metric in METRICS if metric.scope == "host"}

    series = scrape(snapshot(full_state(), host=host))

    of_table = {metric.prometheus for metric in METRICS if metric.prometheus}
    assert set(series) == of_table | {"gpumon_build_info", "gpumon_last_sample_timestamp_seconds"}


def test_only_the_chosen_tiers_are_there() -> None:
    one = SnapshotCollector(
        of_tiers(METRICS, {"core"}),
        lambda: snapshot(full_state()),
        FakeClock(),
        hostname="h",
        version="1",
        xids=XIDS,
    )

    names = set(series_of(encode(registry(one)).decode()))

    of_core = {metric.prometheus for metric in METRICS if metric.prometheus and metric.tier == "core"}
    assert names == of_core | {"gpumon_build_info", "gpumon_last_sample_timestamp_seconds"}


def test_counter_is_typed_as_its_name_allows() -> None:
    text = encode(registry(collector(lambda: snapshot(full_state()), FakeClock()))).decode()

    counters = {m.prometheus: m.prometheus for m in METRICS if m.prometheus and m.kind != "gauge"}
    for name in counters:
        expected = "untyped" if name.startswith("DCGM_") else "counter"
        if name in types_of(text):
            assert types_of(text)[name] == expected, name
    assert "# HELP DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION " in text
    assert next(line for line in text.splitlines() if "HELP DCGM_FI_DEV_TOTAL_ENERGY" in line).endswith(" A counter.")


def test_value_that_is_absent_or_no_measurement_has_no_series() -> None:
    series = scrape(snapshot(state(0, temperature_celsius=4_000_000_000.0, power_watts=float("nan")), state(1)))

    assert "DCGM_FI_DEV_GPU_TEMP" not in series
    assert "DCGM_FI_DEV_POWER_USAGE" not in series
    assert len(series["gpumon_gpu_up"]) == 2


def test_family_without_a_series_is_not_announced() -> None:
    text = encode(registry(collector(lambda: snapshot(state()), FakeClock()))).decode()

    assert set(types_of(text)) == {"gpumon_gpu_up", "gpumon_build_info", "gpumon_last_sample_timestamp_seconds"}


def test_lost_gpu_has_only_that_it_is_lost_and_why() -> None:
    processes = (GpuProcess(1, "python", 2**20),)
    lost = GpuState(gpu(0), {"gpu_up": 0.0, "temperature_celsius": 41.0}, processes, {79: 1})

    series = scrape(snapshot(lost, state(0, instance=1, memory_used_bytes=2.0), state(1, temperature_celsius=50.0)))

    of_lost = {name: found for name, found in series.items() if any(labels.get("gpu") == "0" for labels, _ in found)}
    assert set(of_lost) == {"gpumon_gpu_up", "gpumon_xid_errors_total"}
    assert [(labels["gpu"], value) for labels, value in series["gpumon_gpu_up"]] == [("0", 0.0), ("1", 1.0)]


@pytest.mark.parametrize(
    ("age_seconds", "is_shown"), [(0.0, True), (30.0, True), (30.5, False), (-30.5, False), (86400.0, False)]
)
def test_old_values_are_not_shown(age_seconds: float, *, is_shown: bool) -> None:
    shown = snapshot(state(temperature_celsius=41.0), host={"driver_up": 1.0})

    series = scrape(shown, FakeClock(UNIX_SECONDS + age_seconds))

    assert ("DCGM_FI_DEV_GPU_TEMP" in series, "gpumon_driver_up" in series) == (is_shown, is_shown)
    assert series["gpumon_last_sample_timestamp_seconds"] == [({}, UNIX_SECONDS)]
    assert series["gpumon_build_info"] == [({"version": "1.2.3"}, 1.0)]


def test_wall_clock_that_steps_back_does_not_make_old_values_new() -> None:
    clock = FakeClock()
    shown = snapshot(state(temperature_celsius=41.0))
    one = registry(collector(lambda: shown, clock))
    assert b"DCGM_FI_DEV_GPU_TEMP" in encode(one)

    clock.now += 40.0
    clock.wall += 5.0

    assert b"DCGM_FI_DEV_GPU_TEMP" not in encode(one)
    shown = snapshot(state(temperature_celsius=42.0))
    assert b"DCGM_FI_DEV_GPU_TEMP" in encode(one)


def test_before_the_first_sample_there_are_only_series_of_gpumon_itself() -> None:
    assert set(scrape(Snapshot())) == {"gpumon_build_info"}


def test_xids_are_counted_by_code_and_class() -> None:
    series = scrape(snapshot(replace(state(), xids={79: 2, 13: 1, -1: 4})))

    expected = [
        (LABELS | {"xid": "other", "class": "unknown"}, 4.0),
        (LABELS | {"xid": "13", "class": XIDS[13].xid_class}, 1.0),
        (LABELS | {"xid": "79", "class": XIDS[79].xid_class}, 2.0),
    ]
    assert series["gpumon_xid_errors_total"] == expected


@pytest.mark.parametrize(("code", "message"), [(79, XIDS[79].description), (0, "No Error"), (9999, "Unknown error")])
def test_last_xid_says_what_it_means(code: int, message: str) -> None:
    series = scrape(snapshot(state(xid_last_code=float(code))))

    expected = DCGM_LABELS | {"err_code": f"{code}", "err_msg": message}
    assert series["DCGM_FI_DEV_XID_ERRORS"] == [(expected, float(code))]


def test_sinks_say_how_they_are_doing() -> None:
    sinks = {"cloudwatch": DeliveryStats(5, 2, 1, 3, 4, 1_699_999_990.0), "json": DeliveryStats()}

    series = scrape(replace(snapshot(), sinks=sinks))

    of_sinks = {name: {labels["sink"]: v for labels, v in found} for name, found in series.items() if "sink" in name}
    assert of_sinks == {
        "gpumon_sink_last_success_timestamp_seconds": {"cloudwatch": 1_699_999_990.0},
        "gpumon_sink_published_datums_total": {"cloudwatch": 5.0, "json": 0.0},
        "gpumon_sink_dropped_datums_total": {"cloudwatch": 3.0, "json": 0.0},
        "gpumon_sink_failed_calls_total": {"cloudwatch": 1.0, "json": 0.0},
        "gpumon_sink_waiting_datums": {"cloudwatch": 4.0, "json": 0.0},
    }


def test_processes_are_listed_once_and_their_number_is_bounded() -> None:
    many = tuple(GpuProcess(pid, f"p{pid}", pid * 10) for pid in range(1, 131))
    several_contexts = (GpuProcess(130, "p130", 5), GpuProcess(500, "secret", None))

    series = scrape(snapshot(replace(state(), processes=many + several_contexts)))

    shown = {labels["pid"]: value for labels, value in series["gpumon_gpu_process_memory_bytes"]}
    assert len(shown) == 101
    assert (shown["130"], shown["31"]) == (1305.0, 310.0)
    assert "500" not in shown
    assert shown["others"] == sum(pid * 10 for pid in range(1, 31))


def test_processes_that_are_not_asked_for_have_no_series() -> None:
    assert "gpumon_gpu_process_memory_bytes" not in scrape(snapshot(replace(state(), processes=None)))


def test_jobs_are_a_series_of_their_own() -> None:
    jobs = FakeJobs({gpu(0): ("12", "13"), gpu(1, instance=7): ("14",)})

    series = scrape(snapshot(state(0, temperature_celsius=41.0), state(1, instance=7)), jobs=jobs)

    assert len(series["DCGM_FI_DEV_GPU_TEMP"]) == 1
    found = [(labels.get("GPU_I_ID"), labels["gpu"], labels["hpc_job"]) for labels, _ in series["gpumon_gpu_job_info"]]
    assert found == [(None, "0", "12"), (None, "0", "13"), ("7", "1", "14")]


def test_jobs_are_a_label_of_every_series_of_their_gpu_if_asked_for() -> None:
    jobs = FakeJobs({gpu(0): ("12", "13")})
    states = (state(0, temperature_celsius=41.0), state(1, temperature_celsius=42.0))

    series = scrape(snapshot(*states), jobs=jobs, job_labels="label")

    assert "gpumon_gpu_job_info" not in series
    for name in ("DCGM_FI_DEV_GPU_TEMP", "gpumon_gpu_up"):
        assert [labels.get("hpc_job") for labels, _ in series[name]] == ["12", "13", None]


def test_jobs_that_change_show_in_the_next_scrape() -> None:
    jobs = FakeJobs({gpu(0): ("12",)})
    one = registry(collector(lambda: snapshot(state()), FakeClock(), jobs=jobs, job_labels="label"))
    assert b'hpc_job="12"' in encode(one)

    jobs.jobs = {gpu(0): ("99",)}

    assert b'hpc_job="99"' in encode(one)
    assert b'hpc_job="12"' not in encode(one)


@given(name=st.text(), job=st.text(), process=st.text(st.characters(exclude_categories=[])))
def test_no_text_breaks_a_scrape(name: str, job: str, process: str) -> None:
    strange = Gpu("GPU-0000", 0, name)
    shown = snapshot(GpuState(strange, {"gpu_up": 1.0, "power_watts": 1.0}, (GpuProcess(1, process, 1),), {}))

    text = encode(registry(collector(lambda: shown, FakeClock(), jobs=FakeJobs({strange: (job,)})))).decode()

    assert "\0" not in text
    assert [line for line in text.split("\n") if line and not line.startswith(("#", "DCGM_", "gpumon_"))] == []
    assert len(series_of(text)["DCGM_FI_DEV_POWER_USAGE"]) == 1


@given(
    values=st.dictionaries(
        st.sampled_from([metric.reader for metric in METRICS]), st.floats(allow_nan=True, allow_infinity=True)
    ),
    name=st.text(max_size=300),
)
def test_text_is_what_the_library_writes(values: dict[str, float], name: str) -> None:
    states = (full_state(0), GpuState(Gpu("GPU-9", 9, name), values, (), {31: 2}))
    one = registry(collector(lambda: snapshot(*states, host=values), FakeClock()))

    assert encode(one) == generate_latest(one)


def serve(shown: Snapshot, listen: str = "127.0.0.1:0", clock: FakeClock | None = None) -> PrometheusSink:
    clock = clock or FakeClock()
    return PrometheusSink(collector(lambda: shown, clock), listen, clock)


def get(port: int | None, path: str = "/metrics", host: str = "127.0.0.1") -> str:
    with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=10) as response:
        text: str = response.read().decode()
    return text


def test_values_are_served_as_soon_as_it_was_started_and_no_longer_after_the_stop() -> None:
    sink = serve(snapshot(state(temperature_celsius=41.0)))
    sink.start()
    try:
        port = sink.port
        assert series_of(get(port))["DCGM_FI_DEV_GPU_TEMP"] == [(DCGM_LABELS, 41.0)]
    finally:
        sink.stop(5)

    assert sink.port is None
    with pytest.raises(OSError, match="refused"):
        get(port)


def test_names_choose_series() -> None:
    sink = serve(snapshot(full_state()))
    sink.start()
    try:
        text = get(sink.port, "/metrics?name[]=DCGM_FI_DEV_GPU_TEMP&name[]=gpumon_gpu_nvlink_errors_total")
    finally:
        sink.stop(5)

    assert set(series_of(text)) == {"DCGM_FI_DEV_GPU_TEMP", "gpumon_gpu_nvlink_errors_total"}


def test_taken_port_is_tried_again_with_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = FakeClock()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sink = serve(snapshot(), f"127.0.0.1:{port}", clock)
        clock.at(200, taken.close)
        sink.start()

        deadline = time.monotonic() + 10
        while sink.port != port:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    try:
        assert "gpumon_build_info" in get(port)
    finally:
        sink.stop(5)
    levels = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in levels] == ["WARNING", "INFO"]
    assert f"Free 127.0.0.1:{port} or set prometheus_listen to another address" in levels[0][1]
    assert clock.waits < 20


def test_address_that_is_not_of_this_host_disturbs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    sink = PrometheusSink(collector(Snapshot, FakeClock()), "198.51.100.77:0", StillClock())

    sink.start()
    sink.stop(5)

    assert sink.port is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_stop_leaves_no_thread() -> None:
    before = threading.enumerate()
    sink = PrometheusSink(collector(Snapshot, FakeClock()), "127.0.0.1:0", StillClock())
    sink.start()

    sink.stop(5)

    assert threading.enumerate() == before


def test_sink_that_was_stopped_before_it_could_listen_leaves_the_port_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    sink = serve(snapshot(), f"127.0.0.1:{port}")
    sink.stop(5)

    sink.start()

    assert sink.port is None
    socket.create_server(("127.0.0.1", port)).close()


def test_name_of_this_host_is_looked_up_without_holding_up_the_start() -> None:
    sink = serve(snapshot(), "localhost:0")
    sink.start()
    try:
        deadline = time.monotonic() + 10
        while sink.port is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "gpumon_build_info" in get(sink.port, host="localhost")
    finally:
        sink.stop(5)


@pytest.mark.parametrize(
    "listen", ["", "9400", ":", ":x", ":65536", "::1:9400", "[::1]", "[1.2.3.4]:1", "1.2.3:4", "a_b:1"]
)
def test_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(SettingsError, match="Set prometheus_listen"):
        PrometheusSink(collector(Snapshot, FakeClock()), listen, FakeClock())


class StillClock(FakeClock):
    """Waits for the event alone."""

    def wait(self, event: threading.Event, seconds: float) -> bool:  # noqa: ARG002 - of the seam
        return event.wait(10)
