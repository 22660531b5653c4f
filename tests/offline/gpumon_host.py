"""One booted instance with the real gpumon.service, what can be done to it, and what CloudWatch got from it."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomllib

from gpunodes.proof.promised_metrics import METRICS_FILE
from gpunodes.proof.remote import Remote
from localaws.layout import ROUTER_ADDRESS
from localaws.simgpu.gpus import SimulatedGpus
from tests.offline.conftest import Cloud, wait_until

PERIOD_SECONDS = 3
SAMPLE_SECONDS = 0.5
SAMPLES_PER_PERIOD = int(PERIOD_SECONDS / SAMPLE_SECONDS)
GPUMON = "/opt/gpumon/bin/gpumon"
SETTINGS = "etc/gpumon/gpumon.toml"
RECORD = "var/log/gpumon.jsonl"
STATE = "/var/lib/private/gpumon"
_DROP_INS = "etc/systemd/system/gpumon.service.d"
_NOBODY = "02:00:00:00:00:01"  # a MAC address that no one on the bridge has

# One period stands for a minute: everything that has to do with it is shorter in proportion, within what a machine of
# two cores can keep. The unit is otherwise the one that ships.
SETTINGS_TEXT = f"""\
sample_seconds = {SAMPLE_SECONDS}
slow_seconds = {PERIOD_SECONDS}
publish_seconds = {PERIOD_SECONDS}
publish_phase_seconds = 0
wedged_seconds = 5
json_lines = true
kernel_log = "/run/simgpu/kmsg"
"""
_DROP_IN_TEXT = f"""\
[Service]
RestartSec=200ms
WatchdogSec=10
StandardOutput=append:/{RECORD}
StandardError=journal
"""

_COUNTERS = {
    name for name, entry in tomllib.loads(METRICS_FILE.read_text()).items() if entry.get("kind", "gauge") != "gauge"
}

# (metric, UUID or "" for the host) -> start of the period (Unix seconds) -> value
Counts = Mapping[tuple[str, str], Mapping[int, float]]


@dataclass
class GpumonHost:
    """An instance.

    Attributes:
        cloud: where it runs.
        instance: as RunInstances described it.
        remote: SSH to it. It comes from this machine, so it works while the instance is cut off from AWS.
        root: the root of its file system, seen from here.
        gpus: the control of its GPUs.
    """

    cloud: Cloud
    instance: dict[str, Any]
    remote: Remote
    root: Path
    gpus: SimulatedGpus

    @classmethod
    def of(cls, cloud: Cloud, instance: dict[str, Any]) -> GpumonHost:
        """Wait until an instance has booted."""
        remote = cloud.connect(instance)
        folder = cloud.layout.machines / instance["InstanceId"]
        # The daemon mounts disks in a mount namespace of its own.
        root = Path(f"/proc/{cloud.facts.process_id}/root{folder}/root")
        return cls(cloud, instance, remote, root, SimulatedGpus(folder / "gpus"))

    @property
    def uuids(self) -> list[str]:
        """The GPUs in the order of their index."""
        return [self.gpus.read(index)["uuid"] for index in range(self.gpus.count)]

    @property
    def process_id(self) -> int:
        """Of the service's main process, 0 if there is none."""
        return int(self.property("MainPID"))

    def property(self, name: str) -> str:
        """One property of the unit, as systemctl shows it."""
        return self.remote.run(f"systemctl show --property={name} --value gpumon.service").strip()

    def gpumon(self, words: str) -> tuple[int, str]:
        """Run one of gpumon's commands as root; return its exit code and all that it printed."""
        *lines, status = self.remote.run(f"sudo {GPUMON} {words} 2>&1; echo $?").splitlines()
        return int(status), "\n".join(lines)

    def configure(self, **drop_ins: str) -> None:
        """Lay the settings and the drop-ins of the tests and start the service anew."""
        (self.root / SETTINGS).write_text(SETTINGS_TEXT)
        shutil.rmtree(self.root / _DROP_INS, ignore_errors=True)
        (self.root / _DROP_INS).mkdir()
        for name, text in {"periods": _DROP_IN_TEXT, **drop_ins}.items():
            (self.root / _DROP_INS / f"{name}.conf").write_text(text)
        self.remote.run("sudo systemctl daemon-reload && sudo systemctl restart gpumon.service")

    def journal(self, since: float) -> list[str]:
        """What the service and systemd about it logged since a moment."""
        lines = self.remote.run(f"sudo journalctl --unit gpumon.service --output cat --no-pager --since @{since:.3f}")
        return lines.splitlines()

    def wait_for_log(self, words: str, since: float, seconds: float = 20) -> str:
        """Wait for a line that contains `words` and return it."""
        wait_until(lambda: any(words in line for line in self.journal(since)), seconds)
        return next(line for line in self.journal(since) if words in line)

    @contextmanager
    def network_cut(self) -> Iterator[None]:
        """Let every packet to AWS (and its metadata service) vanish, without a word to the sender."""
        self._ip(f"neigh replace {ROUTER_ADDRESS} lladdr {_NOBODY} dev eth0 nud permanent")
        try:
            yield
        finally:
            self._ip(f"neigh delete {ROUTER_ADDRESS} dev eth0")

    def values(
        self, metric: str, uuid: str = "", *, since: float, statistic: str = "Maximum", period: int = PERIOD_SECONDS
    ) -> dict[int, float]:
        """One series as CloudWatch has it, by the start of its periods, of which none began before `since`."""
        return dict(self.delivered([(metric, uuid)], since, time.time(), statistic, period)[metric, uuid])

    def wait_for_value(self, expected: float, metric: str, uuid: str = "", *, since: float, seconds: float = 20) -> int:
        """Wait for a whole period since a moment with nothing but `expected`; return its start."""

        def found() -> list[int]:
            lows, highs = (self.values(metric, uuid, since=since, statistic=name) for name in ("Minimum", "Maximum"))
            return [start for start in highs if start in lows and lows[start] == highs[start] == expected]

        wait_until(found, seconds)
        return found()[0]

    def delivered(
        self,
        series: Iterable[tuple[str, str]],
        since: float,
        until: float,
        statistic: str = "SampleCount",
        period: int = PERIOD_SECONDS,
    ) -> Counts:
        """One statistic of some series in CloudWatch (GetMetricData), of the periods that begin in a time."""
        start = -int(-since // period) * period
        wanted = list(series)
        if until <= start:
            return {key: {} for key in wanted}
        answer = self.cloud.cloudwatch.get_metric_data(
            StartTime=datetime.fromtimestamp(start, UTC),
            EndTime=datetime.fromtimestamp(-int(-until // period) * period, UTC),
            MetricDataQueries=[
                {"Id": f"q{number}", "MetricStat": self._statistic(*key, statistic, period)}
                for number, key in enumerate(wanted)
            ],
        )
        return {
            key: {
                int(stamp.timestamp()): value
                for stamp, value in zip(found["Timestamps"], found["Values"], strict=True)
                if stamp.timestamp() < until
            }
            for key, found in zip(wanted, answer["MetricDataResults"], strict=True)
        }

    def sampled(self, since: float, until: float) -> Counts:
        """What gpumon itself says that it sampled in the periods that begin in a time, from its second sink.

        That one writes to a local file, which none of the faults here concerns.
        """
        counts: dict[tuple[str, str], dict[int, float]] = defaultdict(lambda: defaultdict(float))
        for line in (self.root / RECORD).read_text().splitlines():
            document = json.loads(line)
            start = document["period_start_unix_seconds"]
            if since <= start < until:
                for metric, summary in document["metrics"].items():
                    counts[metric, (document["gpu"] or {"uuid": ""})["uuid"]][start] += summary["count"]
        return counts

    def _ip(self, words: str) -> None:
        """Run ip(8) in the instance's network namespace, which the instance itself may not change."""
        daemon = ["nsenter", f"--target={self.cloud.facts.process_id}", "--mount"]
        subprocess.run([*daemon, "ip", "-netns", self.instance["InstanceId"], *words.split()], check=True)

    def _statistic(self, metric: str, uuid: str, statistic: str, period: int) -> dict[str, Any]:
        dimensions = {"InstanceId": self.instance["InstanceId"]}
        if uuid:
            dimensions |= {"GpuIndex": str(self.uuids.index(uuid)), "GpuUuid": uuid}
        rows = [{"Name": name, "Value": value} for name, value in dimensions.items()]
        return {
            "Metric": {"Namespace": "GPU", "MetricName": metric, "Dimensions": rows},
            "Period": period,
            "Stat": statistic,
        }


@dataclass(frozen=True)
class Figures:
    """What a fault cost.

    Attributes:
        fault: in a few words.
        periods: that passed, by the clock.
        missing: of them, those in which a metric that is read with every sample has no datapoint.
        datapoints: that gpumon sampled: one per series and period.
        lost: of them, those that are not in CloudWatch, or there with fewer samples.
        twice: of them, those that are there with more samples than were taken. Counters do not count here: over a
            restart only the sink for CloudWatch knows what was added to them. What is sent twice is a whole call.
        samples_missing: readings of a GPU that should have been there, by the clock, and are in no datapoint.
    """

    fault: str
    periods: int
    missing: int
    datapoints: int
    lost: int
    twice: int
    samples_missing: int

    def __add__(self, other: Figures) -> Figures:
        """Both together, under the name of the first."""
        names = [field.name for field in fields(self) if field.name != "fault"]
        return Figures(self.fault, *(getattr(self, name) + getattr(other, name) for name in names))


def figures(host: GpumonHost, fault: str, since: float, until: float, *, with_clock: bool = True) -> Figures:
    """Compare CloudWatch with the clock and with what gpumon sampled, for the periods that begin in a time.

    Args:
        host: where the fault was.
        fault: its name.
        since: Unix seconds; rounded up to a period.
        until: same; the period that it is in must be over.
        with_clock: whether the clock says which periods there must be (it does not where it steps).
    """
    first, last = (-int(-moment // PERIOD_SECONDS) * PERIOD_SECONDS for moment in (since, until))
    sampled = host.sampled(first, last)
    delivered = host.delivered(sampled, first, last)
    steady = [("GpuUp", uuid) for uuid in host.uuids] + [("MemoryUsed", uuid) for uuid in host.uuids]
    steady += [("DriverUp", "")]
    expected = range(first, last, PERIOD_SECONDS) if with_clock else sorted(sampled["DriverUp", ""])
    found = {
        (metric, uuid, start): (delivered[metric, uuid].get(start, 0), count)
        for (metric, uuid), periods in sampled.items()
        for start, count in periods.items()
    }
    return Figures(
        fault,
        periods=len(expected),
        missing=sum(any(start not in delivered.get(key, {}) for key in steady) for start in expected),
        datapoints=len(found),
        lost=sum(arrived < count for arrived, count in found.values()),
        twice=sum(arrived > count for (metric, *_), (arrived, count) in found.items() if metric not in _COUNTERS),
        samples_missing=len(expected) * SAMPLES_PER_PERIOD - round(sum(delivered["DriverUp", ""].values())),
    )


def table(rows: Iterable[Figures]) -> str:
    """The figures for people."""
    lines = [
        f"one period of {PERIOD_SECONDS} s stands for a minute; {SAMPLES_PER_PERIOD} samples each",
        f"{'fault':44}{'periods':>9}{'missing':>9}{'datapoints':>12}{'lost':>6}{'twice':>7}{'samples missing':>17}",
    ]
    lines += [
        f"{row.fault:44}{row.periods:>9}{row.missing:>9}{row.datapoints:>12}{row.lost:>6}{row.twice:>7}"
        f"{row.samples_missing:>17}"
        for row in rows
    ]
    return "\n".join(lines)
