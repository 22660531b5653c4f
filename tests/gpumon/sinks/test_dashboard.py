"""A second opinion on the endpoint: Debian's Prometheus scrapes it, and its promtool judges it.

The expressions are those of NVIDIA's own Grafana dashboard 12239, in its two forms: the one on grafana.com, which tells
hosts apart by `instance`, and the one in dcgm-exporter's repository (``grafana/dcgm-exporter-dashboard.json``), which
does so by `Hostname`.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpumon.clock import SystemClock
from gpumon.latest import GpuState, Snapshot
from gpumon.publisher import DeliveryStats
from gpumon.samples import GpuProcess
from gpumon.sinks.prometheus import PrometheusSink
from tests.gpumon.fakes import FakeClock
from tests.gpumon.sinks.snapshots import METRICS, collector, full_state, gpu, state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from gpumon.samples import Gpu

PROGRAMS = Path(sys.executable).parent  # scripts/bootstrap puts them there
DEADLINE_SECONDS = 20.0

# What Grafana puts in for the variables when everything is chosen.
CHOSEN = {"instance": ".+", "Hostname": ".+", "gpu": "(0|1)"}
EXPRESSIONS: Mapping[str, tuple[float, ...]] = {
    'DCGM_FI_DEV_GPU_TEMP{instance=~"$instance", gpu=~"$gpu"}': (40.0, 41.0),
    'avg(DCGM_FI_DEV_GPU_TEMP{instance=~"$instance", gpu=~"$gpu"})': (40.5,),
    'DCGM_FI_DEV_POWER_USAGE{instance=~"$instance", gpu=~"$gpu"}': (300.0, 301.5),
    'sum(DCGM_FI_DEV_POWER_USAGE{instance=~"$instance", gpu=~"$gpu"})': (601.5,),
    'DCGM_FI_DEV_SM_CLOCK{instance=~"$instance", gpu=~"$gpu"} * 1000000': (1.98e9, 1.98e9),
    'DCGM_FI_DEV_GPU_UTIL{instance=~"$instance", gpu=~"$gpu"}': (97.5, 0.0),
    'DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{instance=~"$instance", gpu=~"$gpu"}': (0.07, 0.0),
    'DCGM_FI_DEV_FB_USED{instance=~"$instance", gpu=~"$gpu"}': (1024.5, 0.0),
    'max(DCGM_FI_DEV_GPU_TEMP{Hostname=~"$Hostname", gpu=~"$gpu"}) by (Hostname, gpu, uuid)': (40.0, 41.0),
    'avg(DCGM_FI_DEV_GPU_TEMP{Hostname=~"$Hostname", gpu=~"$gpu"})': (40.5,),
    'max(DCGM_FI_DEV_POWER_USAGE{Hostname=~"$Hostname", gpu=~"$gpu"}) by (Hostname, gpu, uuid)': (300.0, 301.5),
    'sum(max(DCGM_FI_DEV_POWER_USAGE{Hostname=~"$Hostname", gpu=~"$gpu"}) by (gpu))': (601.5,),
    'max(DCGM_FI_DEV_SM_CLOCK{Hostname=~"$Hostname", gpu=~"$gpu"} * 1000000) by (Hostname, UUID, gpu)': (
        1.98e9,
        1.98e9,
    ),
    'max(DCGM_FI_PROF_GR_ENGINE_ACTIVE{Hostname=~"$Hostname", gpu=~"$gpu"})'
    " by (Hostname, gpu, GPU_I_ID, GPU_I_PROFILE)": (0.95, 0.0),
    'max(DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{Hostname=~"$Hostname", gpu=~"$gpu"})'
    " by (Hostname, gpu, GPU_I_ID, GPU_I_PROFILE)": (0.07, 0.0),
    'max(DCGM_FI_DEV_FB_USED{Hostname=~"$Hostname", gpu=~"$gpu"}) by (Hostname, gpu, GPU_I_ID, GPU_I_PROFILE)': (
        1024.5,
        0.0,
    ),
}

BUSY = state(
    0,
    temperature_celsius=40.0,
    power_watts=300.0,
    sm_clock_megahertz=1980.0,
    gpu_utilization_percent=97.5,
    graphics_engine_active_percent=95.0,
    tensor_active_percent=7.0,
    memory_used_bytes=1024.5 * 2**20,
    memory_free_bytes=2.0**30,
    energy_millijoules=1e15,
)
IDLE = state(
    1,
    temperature_celsius=41.0,
    power_watts=301.5,
    sm_clock_megahertz=1980.0,
    gpu_utilization_percent=0.0,
    graphics_engine_active_percent=0.0,
    tensor_active_percent=0.0,
    memory_used_bytes=0.0,
    memory_free_bytes=2.0**30,
    energy_millijoules=1e15,
)


Series = list[tuple[dict[str, str], float]]


class Host:
    """What gpumon would sample, anew at each scrape."""

    def __init__(self, *gpus: GpuState) -> None:
        self.gpus = gpus
        self.age_seconds = 0.0
        self.has_counting_gpu = False  # GPU 5, which counts a thousand per second
        self._begin = time.time()

    def snapshot(self) -> Snapshot:
        now = time.time()
        gpus = self.gpus
        if self.has_counting_gpu:
            count = 1e15 + 1000 * (now - self._begin)
            gpus += (GpuState(gpu(5), {"gpu_up": 1.0, "energy_millijoules": count, "nvlink_error_count": count}),)
        return Snapshot(now - self.age_seconds, gpus, {"driver_up": 1.0}, "560.35.03")


@dataclass(frozen=True)
class Prometheus:
    port: int
    target: str

    def ask(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=5) as response:
            return json.load(response)["data"]

    def values(self, expression: str) -> Series:
        """Return the series of an expression, as a panel of the dashboard would show them."""
        for name, value in CHOSEN.items():
            expression = expression.replace(f"${name}", value)
        result = self.ask("query", query=expression)["result"]
        found = [(series["metric"], float(series["value"][1])) for series in result]
        return sorted(found, key=lambda series: series[0].get("gpu", ""))

    def wait_for(self, expression: str, is_right: Callable[[Series], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not is_right(found := self.values(expression)):
            assert time.monotonic() < deadline, f"{expression} is {found}"
            time.sleep(0.1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="module")
def host() -> Host:
    return Host(BUSY, IDLE)


@pytest.fixture(scope="module")
def prometheus(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    clock = SystemClock()
    sink = PrometheusSink(collector(host.snapshot, clock), "127.0.0.1:0", clock)
    sink.start()
    port = free_port()
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
        "scrape_configs:\n"
        f"  - {{job_name: gpumon, static_configs: [{{targets: ['127.0.0.1:{sink.port}']}}]}}\n"
    )
    command = [
        str(PROGRAMS / "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    log = folder / "log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            wait_until_ready(process, port, log)
            yield Prometheus(port, f"127.0.0.1:{sink.port}")
        finally:
            process.terminate()
            process.wait(DEADLINE_SECONDS)
            sink.stop(5)


@pytest.fixture
def scraped(prometheus: Prometheus, host: Host) -> Prometheus:
    """A Prometheus that has just seen the two GPUs, and no other."""
    host.gpus, host.age_seconds, host.has_counting_gpu = (BUSY, IDLE), 0.0, False
    prometheus.wait_for("DCGM_FI_DEV_GPU_TEMP", lambda found: len(found) == 2)
    return prometheus


def test_prometheus_finds_the_endpoint_healthy(scraped: Prometheus) -> None:
    (target,) = scraped.ask("targets")["activeTargets"]

    assert (target["health"], target["lastError"]) == ("up", "")
    assert [value for _, value in scraped.values("up")] == [1.0]
    assert scraped.values("scrape_samples_scraped")[0][1] > 20


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_panel_of_the_dashboard_shows_every_gpu_with_its_value(scraped: Prometheus, expression: str) -> None:
    found = scraped.values(expression)

    assert tuple(value for _, value in found) == EXPRESSIONS[expression]
    for index, (labels, _) in enumerate(found):
        assert labels.get("gpu", f"{index}") == f"{index}"
        assert labels.get("Hostname", "ip-10-0-0-1") == "ip-10-0-0-1"
        assert labels.get("instance", scraped.target) == scraped.target


@pytest.mark.parametrize(
    ("label", "values"), [("Hostname", ["ip-10-0-0-1"]), ("gpu", ["0", "1"]), ("instance", ["TARGET"])]
)
def test_variables_of_the_dashboard_offer_what_there_is(scraped: Prometheus, label: str, values: list[str]) -> None:
    offered = scraped.ask(f"label/{label}/values", **{"match[]": "DCGM_FI_DEV_FB_FREE"})

    assert offered == [value.replace("TARGET", scraped.target) for value in values]


def test_lost_gpu_disappears_from_the_panels_but_not_from_sight(scraped: Prometheus, host: Host) -> None:
    host.gpus = (BUSY, GpuState(gpu(1), {"gpu_up": 0.0}))

    scraped.wait_for("DCGM_FI_DEV_GPU_TEMP", lambda found: [labels["gpu"] for labels, _ in found] == ["0"])
    assert [value for _, value in scraped.values("gpumon_gpu_up")] == [1.0, 0.0]
    assert [labels["UUID"] for labels, _ in scraped.values("gpumon_gpu_up == 0")] == ["GPU-0001"]


def test_values_of_a_service_that_no_longer_samples_disappear(scraped: Prometheus, host: Host) -> None:
    host.age_seconds = 31.0

    scraped.wait_for('{__name__=~"DCGM_.*|gpumon_gpu_.*|gpumon_driver_up"}', lambda found: not found)
    assert [value for _, value in scraped.values("up")] == [1.0]
    age = scraped.values("time() - gpumon_last_sample_timestamp_seconds")[0][1]
    assert 30 < age < 60


@pytest.mark.parametrize("name", ["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "gpumon_gpu_nvlink_errors_total"])
def test_counter_has_a_rate(scraped: Prometheus, host: Host, name: str) -> None:
    host.has_counting_gpu = True

    def is_right(found: Series) -> bool:
        return bool(found) and abs(found[0][1] - 1000) < 50

    scraped.wait_for(f'rate({name}{{gpu="5"}}[3s])', is_right)


class EveryJob:
    def jobs_of(self, gpus: Iterable[Gpu]) -> dict[Gpu, tuple[str, ...]]:
        return dict.fromkeys(gpus, ("1001", 'a "job"\\of mine'))


def everything() -> Snapshot:
    """Return every kind of series that there is."""
    host = {metric.reader: metric.minimum or 0 for metric in METRICS if metric.scope == "host"}
    gpus = (
        replace(full_state(0), xids={79: 1, -1: 2}, processes=(GpuProcess(1, "python", 5),)),
        full_state(1),
        state(1, instance=7, memory_used_bytes=2.0**20),
        GpuState(gpu(2), {"gpu_up": 0.0}, None, {79: 1}),
    )
    sinks = {"cloudwatch": DeliveryStats(last_success_unix_seconds=1.7e9)}
    return Snapshot(1_700_000_000.0, gpus, host, "560.35.03", sinks)


def judged(**options: object) -> tuple[int, list[str]]:
    """Return the exit code of ``promtool check metrics`` and its complaints."""
    clock = FakeClock()
    text = PrometheusSink(collector(everything, clock, jobs=EveryJob(), **options), ":0", clock).render()
    result = subprocess.run([PROGRAMS / "promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    return result.returncode, [*result.stdout.decode().splitlines(), *result.stderr.decode().splitlines()]


# promtool dislikes two things that dcgm-exporter's users rely on: one of its labels, and one of its names.
DCGMS_OWN = re.compile(
    r"DCGM_[A-Z0-9_]+ label names should be written in 'snake_case' not 'camelCase'"
    r"|DCGM_FI_DEV_PCIE_REPLAY_COUNTER metric name should not include type 'counter'"
)


@pytest.mark.parametrize("job_labels", ["info", "label"])
def test_promtool_dislikes_only_what_dcgm_exporter_prescribes(job_labels: str) -> None:
    _, complaints = judged(job_labels=job_labels)

    assert [line for line in complaints if not DCGMS_OWN.fullmatch(line)] == []


def test_without_dcgms_names_promtool_has_nothing_to_say() -> None:
    own = [metric for metric in METRICS if (metric.prometheus or "").startswith("gpumon_")]

    assert judged(metrics=own, model_label="model_name") == (0, [])
