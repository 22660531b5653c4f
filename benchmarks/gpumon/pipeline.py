"""A program: gpumon's whole pipeline on a clock that does not wait, so that hours of it take minutes.

usage: python -m benchmarks.gpumon.pipeline COLLECTIONS: with `Machine.gpumon_environment` in the environment. All parts
are those of `gpumon run`, on one thread: the reader, the sampler's schedule, the overview, window, spool and publisher
with boto3 calling the stub, and a rendered scrape every 15 seconds. Prints one JSON document (`Run`).
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpumon import moods
from benchmarks.gpumon.reader_speed import BUFFER_SECONDS
from gpumon.channels import Channel
from gpumon.counters import CounterDeltas
from gpumon.identity import fetch_identity
from gpumon.inventory import Inventory
from gpumon.latest import Latest
from gpumon.metrics import load_metrics, of_tiers
from gpumon.overview import Overview
from gpumon.own_metrics import OwnMetrics
from gpumon.publisher import CALLS_PER_PUBLICATION, DeliveryStats, Publisher
from gpumon.readers.nvml import NvmlReader
from gpumon.sampler import Sampler
from gpumon.settings import load_settings
from gpumon.sinks.cloudwatch import CloudWatchSink
from gpumon.sinks.prometheus import PrometheusSink
from gpumon.sinks.prometheus_collector import SnapshotCollector
from gpumon.spool_disk import DiskSpool
from gpumon.window import Window
from gpumon.xid_counts import XidCounts
from gpumon.xids import load_xids

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from gpumon.samples import Batch, Datum
    from gpumon.settings import Settings

SCRAPE_SECONDS = 15
WARM_UP_COLLECTIONS = 120  # two periods: every kind of reading and two calls
FIRST_RSS_AT = 1000
SLOW_COLLECTIONS = 60
LEAST_ACTIVITY_SECONDS = 0.11  # of real time between two readings of everything, else activity (GPM) is left out
HOUR_SECONDS = 3600
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass
class Run:
    """What came of it.

    Attributes:
        collections: How many there were.
        processor_ms_per_collection: User and system time of everything, after the warm-up.
        resident_mib: Resident memory by number of collections.
        calls_per_hour: PutMetricData calls in the first hour of simulated time, but for the very first one, which does
            not wait for its period; None if there was no whole hour.
        datums_per_period: Median.
        scrape_bytes: Size of the last scrape.
    """

    collections: int = 0
    processor_ms_per_collection: float = 0.0
    resident_mib: dict[int, float] = field(default_factory=dict)
    calls_per_hour: int | None = None
    datums_per_period: int = 0
    scrape_bytes: int = 0


class HurriedClock:
    """A `gpumon.clock.Clock` on which waiting takes no time, and does what else there is to do meanwhile."""

    def __init__(self) -> None:
        # Samples in the driver's buffer are dated by the real clock, so the simulated one starts there.
        self._start = time.time() // 60 * 60
        self._seconds = 0.0
        self.meanwhile: Callable[[], bool] = lambda: True  # says whether to go on

    def unix_seconds(self) -> float:
        """Return simulated wall-clock time."""
        return self._start + self._seconds

    def monotonic_seconds(self) -> float:
        """Return simulated time."""
        return self._seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Let the rest of the pipeline work, then be `seconds` later; set `event` once it is over."""
        if not self.meanwhile():
            event.set()
        self._seconds += max(0.0, seconds)
        return event.is_set()


class CountingSink(CloudWatchSink):
    """A `CloudWatchSink` that counts."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.made_calls = 0
        self.datums: Counter[int] = Counter()  # by the start of their period

    def publish(self, batch: Batch) -> None:
        """Make the call."""
        super().publish(batch)
        self.made_calls += 1
        self.datums[batch[0].unix_seconds] += len(batch)


class AlertPublisher(Publisher):
    """A `Publisher` that knows whether something was submitted since somebody last looked."""

    has_work = False

    def submit(self, datums: Sequence[Datum], *, urgent: bool = False) -> None:
        """Put datums into the spool."""
        super().submit(datums, urgent=urgent)
        self.has_work = True


class Pipeline:
    """The parts of `gpumon run`, without its threads."""

    def __init__(self, settings: Settings, clock: HurriedClock) -> None:
        metrics = load_metrics()
        xids = XidCounts(load_xids())
        self._clock = clock
        self._latest = Latest()
        identity = functools.partial(fetch_identity, settings.metadata_endpoint)
        self.sink = CountingSink(settings.namespace, settings.region, identity)
        spool = DiskSpool(
            Path(settings.state_directory), clock, host="benchmark", most_bytes=settings.spool_megabytes * 2**20
        )
        self._publisher = AlertPublisher(self.sink, spool, clock)
        sendable = of_tiers([metric for metric in metrics if metric.cloudwatch], settings.cloudwatch_tiers)
        window = Window(sendable, settings.publish_seconds, CounterDeltas())
        self._channel = Channel("cloudwatch", window, self._publisher)
        self._overview = Overview(
            latest=self._latest,
            inventory=Inventory("benchmark", "boot"),
            xids=xids,
            own=OwnMetrics(),
            count_on_bus=lambda: None,
            delivery_stats=self._stats,
        )
        collector = SnapshotCollector(
            of_tiers(metrics, settings.prometheus_tiers),
            self._latest.snapshot,
            clock,
            hostname="benchmark",
            version="0",
            xids=xids.table,
        )
        self.prometheus = PrometheusSink(collector, "127.0.0.1:0", clock)
        reader = NvmlReader(unix_seconds=lambda: time.time() - BUFFER_SECONDS)
        self.sampler = Sampler(reader, clock, sample_seconds=1.0, slow_seconds=settings.slow_seconds)

    def work(self) -> None:
        """Do what `Service` and the publisher's thread do after a reading."""
        for outcome in self.sampler.outcomes():
            self._channel.add(self._overview.of_outcome(outcome))
        self._channel.step(self._clock.unix_seconds(), self._clock.monotonic_seconds())
        if self._publisher.has_work:  # what the publisher's own thread waits for
            self._publisher.has_work = False
            self._publisher.deliver(CALLS_PER_PUBLICATION)

    def _stats(self) -> Mapping[str, DeliveryStats]:
        return {"cloudwatch": self._publisher.stats()}


def main(collections: int) -> None:
    """Run and print."""
    clock = HurriedClock()
    pipeline = Pipeline(load_settings(os.environ).settings, clock)
    state = Path(os.environ["SIMGPU_STATE"])
    run = Run()
    begin = 0.0

    def meanwhile() -> bool:
        nonlocal begin
        pipeline.work()
        run.collections += 1
        if run.collections % SLOW_COLLECTIONS == 0:
            time.sleep(LEAST_ACTIVITY_SECONDS)
        if run.collections % moods.SECONDS_EACH == 0:
            moods.switch(state, run.collections // moods.SECONDS_EACH)
        if run.collections % SCRAPE_SECONDS == 0:
            run.scrape_bytes = len(pipeline.prometheus.render())
        if run.collections in {WARM_UP_COLLECTIONS, FIRST_RSS_AT, collections}:
            run.resident_mib[run.collections] = _resident_mib()
        if clock.monotonic_seconds() == HOUR_SECONDS:
            run.calls_per_hour = pipeline.sink.made_calls - 1
        if run.collections == WARM_UP_COLLECTIONS:
            begin = time.process_time()
        return run.collections < collections

    clock.meanwhile = meanwhile
    pipeline.sampler.run()
    run.processor_ms_per_collection = 1000 * (time.process_time() - begin) / (collections - WARM_UP_COLLECTIONS)
    run.datums_per_period = statistics.median_low(pipeline.sink.datums.values())
    sys.stdout.write(json.dumps(asdict(run)) + "\n")


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE_MIB


if __name__ == "__main__":
    main(int(sys.argv[1]))
