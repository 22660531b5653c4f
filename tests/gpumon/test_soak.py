"""10,000 periods with everything going wrong at random: what was read is delivered, dropped and counted, or waits.

The real service, overview, windows, channel, publisher, spool on disk and CloudWatch sink; only the driver, the clock
and boto3's client are stand-ins. The publisher works on the caller's thread. A process that is killed goes on as
another one with what the disk had at that moment. The seed is printed, and GPUMON_SOAK_SEED runs it again.
"""

from __future__ import annotations

import gc
import itertools
import json
import logging
import math
import os
import random
import shutil
import sqlite3
import sys
import time
import zlib
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from gpumon.channels import Channel
from gpumon.counters import CounterDeltas
from gpumon.errors import DriverMismatchError, DriverUnavailableError
from gpumon.identity import InstanceIdentity
from gpumon.inventory import Inventory
from gpumon.latest import Latest
from gpumon.metrics import load_metrics, of_tiers
from gpumon.overview import Overview
from gpumon.own_metrics import OwnMetrics
from gpumon.publisher import CALLS_PER_PUBLICATION, Publisher
from gpumon.readers import EVERYTHING, Due
from gpumon.samples import Gpu, GpuSample, Reading
from gpumon.service import Ending, Service
from gpumon.settings import load_settings
from gpumon.signals import Requests
from gpumon.sinks.cloudwatch import CloudWatchSink
from gpumon.spool_disk import DiskSpool
from gpumon.spool_file import FILE_NAME
from gpumon.spool_format import decode
from gpumon.state import StateFile
from gpumon.systemd import Notifier
from gpumon.window import Window
from gpumon.xid_counts import XidCounts
from gpumon.xids import XidEvent, load_xids
from tests.gpumon.fakes import FakeClock, FakeSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gpumon.samples import Batch, Datum, Sample

PERIODS = 10_000
PERIOD_SECONDS = 60
SAMPLE_SECONDS = 30.0
MEBIBYTE = 2**20
MOST_GROWTH_BYTES = MEBIBYTE
BYTES_PER_BLOCK = 64  # on average; objects of more than 512 bytes have none, but what holds them has
SPOOL_BYTES = MEBIBYTE
GPUS = tuple(Gpu(f"GPU-{number:04x}", number, "NVIDIA A10G", f"00000000:00:{number:02x}.0") for number in range(2))
TABLE = of_tiers(load_metrics(), ("core", "health"))
ROWS = {metric.name: metric for metric in TABLE}
ENERGY = ROWS["EnergyConsumed"]
BY_READER = {(metric.scope, metric.reader): metric for metric in TABLE}

# What may begin at a tick, and how probably.
MISFORTUNES = {
    "outage": 0.004,
    "lose": 0.004,
    "driver": 0.003,
    "wedge": 0.0015,
    "step": 0.002,
    "release": 0.002,
    "reload": 0.002,
    "stop": 0.002,
    "mismatch": 0.001,
    "xids": 0.003,
    "kill": 0.001,
    "kill_in_flight": 0.001,
}

# Limits of PutMetricData, as in its API reference.
DATUMS_PER_CALL = 1000
VALUES_PER_DATUM = 150
BYTES_PER_CALL = 1_000_000
OLDEST_SECONDS = 14 * 24 * 3600
NEWEST_SECONDS = 2 * 3600
MOST_SKEW_SECONDS = 300  # of a signature


class KilledError(BaseException):
    """Stands for kill -9."""


def key(name: str, gpu: str | None, unix_seconds: float, values: Sequence[float], counts: Sequence[int]) -> int:
    """Return what tells a datum from others; a number, so that the ledger keeps no datum alive."""
    return hash((name, gpu, unix_seconds, tuple(values), tuple(counts)))


def key_of(datum: Datum) -> int:
    return key(datum.metric, datum.gpu.uuid if datum.gpu else None, datum.unix_seconds, datum.values, datum.counts)


class Ledger:
    """What became of every datum and sample."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()  # samples of gauges that this process was given
        self.handed: Counter[str] = Counter()  # those that it handed to its outbox
        self.lost_in_memory: Counter[str] = Counter()
        self.outstanding: Counter[int] = Counter()  # datums handed over, not delivered
        self.handed_datums = self.delivered_datums = self.dropped_datums = 0
        self.delivered_samples = 0
        self.vanished_datums = 0  # neither delivered nor waiting
        self.twice = 0
        self.energy_read = 0.0
        self.energy_handed = 0.0
        self.energy_twice = 0.0
        self.happened: Counter[str] = Counter()


class Server:
    """CloudWatch behind a bad network; refuses what the real one refuses, and one datum in a thousand for no reason."""

    def __init__(self, soak: Soak) -> None:
        self.soak = soak
        self.is_away = False
        self.kill_after_taking = False

    def put_metric_data(self, *, Namespace: str, MetricData: Sequence[Mapping[str, Any]]) -> object:  # noqa: N803 - boto3's names
        soak, rng = self.soak, self.soak.rng
        self._require_limits(Namespace, MetricData)
        if self.is_away:
            raise rng.choice(
                (
                    EndpointConnectionError(endpoint_url="x"),
                    ReadTimeoutError(endpoint_url="x"),
                    _client_error("InternalFailure", 500),
                    _client_error("ThrottlingException", 400),
                )
            )
        if abs(soak.clock.wall - soak.true_unix_seconds) > MOST_SKEW_SECONDS:
            raise _client_error("SignatureDoesNotMatch", 403)
        if any(self._is_bad(datum) for datum in MetricData):
            soak.ledger.happened["refusal"] += 1
            raise _client_error("InvalidParameterValue", 400)
        self._take(MetricData)
        if self.kill_after_taking:
            self.kill_after_taking = False
            soak.ledger.happened["kill with an answer under way"] += 1
            for datum in MetricData:
                soak.ledger.outstanding[_key_sent(datum)] += 1  # it will come once more, or be dropped
            soak.ledger.twice += len(MetricData)
            soak.kill()
        return {}

    def _require_limits(self, namespace: str, data: Sequence[Mapping[str, Any]]) -> None:
        assert namespace
        assert 0 < len(data) <= DATUMS_PER_CALL
        for datum in data:
            assert 0 < len(datum["MetricName"]) <= 255
            assert 0 < len(datum["Values"]) <= VALUES_PER_DATUM
            assert all(map(math.isfinite, datum["Values"]))
            assert len(datum.get("Counts", datum["Values"])) == len(datum["Values"])
            age = self.soak.clock.wall - datum["Timestamp"].timestamp()
            assert -NEWEST_SECONDS <= age <= OLDEST_SECONDS, age
        if len(data) > DATUMS_PER_CALL / 2:
            assert len(json.dumps(data, default=str)) <= BYTES_PER_CALL

    def _is_bad(self, datum: Mapping[str, Any]) -> bool:
        name = f"{datum['MetricName']} {datum['Dimensions'][-1]['Value']} {datum['Timestamp']}"
        return zlib.crc32(name.encode()) % 5000 == 0

    def _take(self, data: Sequence[Mapping[str, Any]]) -> None:
        ledger = self.soak.ledger
        for datum in data:
            found = _key_sent(datum)
            assert ledger.outstanding[found] > 0, f"{self.soak}: sent, but never handed over, or sent twice: {datum}"
            ledger.outstanding[found] -= 1
            if not ledger.outstanding[found]:
                del ledger.outstanding[found]
            ledger.delivered_datums += 1
            ledger.delivered_samples += sum(datum.get("Counts") or [1] * len(datum["Values"]))


class InlinePublisher(Publisher):
    """Delivers on the thread that submits."""

    def __init__(self, soak: Soak, sink: CloudWatchSink, spool: DiskSpool) -> None:
        super().__init__(sink, spool, soak.clock)
        self.soak = soak

    def start(self) -> None:
        pass

    def is_working(self) -> bool:
        return True

    def submit(self, datums: Sequence[Datum], *, urgent: bool = False) -> None:
        if self.soak.is_dead:
            return
        ledger = self.soak.ledger
        for datum in datums:
            ledger.outstanding[key_of(datum)] += 1
            ledger.handed_datums += 1
            if ROWS[datum.metric].kind == "gauge":
                ledger.handed[datum.metric] += sum(datum.counts)
            elif datum.metric == ENERGY.name:
                ledger.energy_handed += sum(v * n for v, n in zip(datum.values, datum.counts, strict=True))
        super().submit(datums, urgent=urgent)
        self.deliver(CALLS_PER_PUBLICATION)

    def stop(self, seconds: float) -> None:
        if not self.soak.is_dead:
            super().stop(seconds)


class CountingWindow(Window):
    """Counts what it is given, by the rules of the table and not by its own."""

    def __init__(self, soak: Soak, deltas: CounterDeltas) -> None:
        super().__init__(TABLE, PERIOD_SECONDS, deltas)
        self.soak = soak

    def add(self, sample: Sample) -> Batch:
        for gpu_sample in sample.gpus:
            self._note("gpu", gpu_sample.values)
            for name, values in gpu_sample.bursts.items():
                for value in values:
                    self._note("gpu", {name: value})
        self._note("host", sample.host)
        return super().add(sample)

    def _note(self, scope: str, values: Mapping[str, float | None]) -> None:
        for name, value in values.items():
            metric = BY_READER.get((scope, name))  # type: ignore[arg-type]
            if metric is None or value is None or metric.kind != "gauge" or not math.isfinite(value):
                continue
            if (metric.minimum is None or value >= metric.minimum) and (
                metric.maximum is None or value <= metric.maximum
            ):
                self.soak.ledger.seen[metric.name] += 1


class RandomSource(FakeSource):
    """Readings with random faults; all that goes wrong begins at one of its ticks."""

    def __init__(self, soak: Soak) -> None:
        super().__init__(soak.clock, SAMPLE_SECONDS)
        self.soak = soak

    def _tick(self) -> None:
        if self.soak.source is not self:
            return  # of a process that has ended
        self.soak.ticks += 1
        self.soak.misfortune()
        self.due = EVERYTHING if self.soak.ticks % 3 == 0 else Due.SAMPLE | Due.BUFFER
        if self.hangs_since is None:
            self.answer = self.soak.reading(self.due)
        super()._tick()


class Soak:
    """A host, its processes one after the other, and the ledger."""

    def __init__(self, seed: int, directory: Path, *, kills: bool = True) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.directory = directory
        self.kills = kills
        self.clock = FakeClock(1_700_000_007.0)
        self.true_offset = self.clock.wall - self.clock.now
        self.ledger = Ledger()
        self.server = Server(self)
        self.requests = Requests()
        self.settings = load_settings({"GPUMON_SAMPLE_SECONDS": str(SAMPLE_SECONDS)}).settings
        self.table_of_xids = load_xids()
        self.ticks = 0
        self.deaths = 0
        self.is_dead = False
        self.lost: set[Gpu] = set()
        self.energy = dict.fromkeys(GPUS, 0.0)
        self.was_read: set[Gpu] = set()
        self.driver_back_at = self.server_back_at = self.released_until = 0.0
        self.source: RandomSource | None = None
        self.is_mismatch = False
        self.last_tick = 0
        (directory / "0").mkdir()

    def __str__(self) -> str:
        return f"seed {self.seed}, period {self.periods}"

    @property
    def periods(self) -> int:
        return int(self.ticks * SAMPLE_SECONDS // PERIOD_SECONDS)

    @property
    def true_unix_seconds(self) -> float:
        return self.clock.now + self.true_offset

    @property
    def state_directory(self) -> Path:
        return self.directory / str(self.deaths)

    def run(self, periods: int) -> None:
        """Run processes until `periods` are over."""
        self.last_tick = int((periods - self.periods) * PERIOD_SECONDS / SAMPLE_SECONDS) + self.ticks
        while self.ticks < self.last_tick:
            self._process()

    def _process(self) -> None:
        """Run one process from its start to whatever ends it."""
        self.is_dead = False
        self.requests = Requests()
        state_file = StateFile(self.state_directory)
        left = state_file.load()
        inventory = Inventory("machine", "boot", left.get("inventory"))
        deltas = CounterDeltas(left.get("counters"))
        self.xids = XidCounts(self.table_of_xids, self.requests.wake)
        spool = DiskSpool(self.state_directory, self.clock, host="h", most_bytes=SPOOL_BYTES)
        own, latest = OwnMetrics(), Latest()
        ending = Ending.RELOAD
        dropped = 0
        try:
            while ending is Ending.RELOAD:
                identity = InstanceIdentity("i-1", "g5.12xlarge", "ami-1", "us-east-1")
                sink = CloudWatchSink("GPU", "", lambda: identity, lambda _region: self.server)  # noqa: B023
                outbox = InlinePublisher(self, sink, spool)
                channel = Channel("cloudwatch", CountingWindow(self, deltas), outbox, self.rng.uniform(0, 3))
                self.source = RandomSource(self)
                service = Service(
                    source=self.source,
                    overview=Overview(
                        latest=latest,
                        inventory=inventory,
                        xids=self.xids,
                        own=own,
                        count_on_bus=lambda: len(GPUS),
                        delivery_stats=lambda: {"cloudwatch": outbox.stats()},  # noqa: B023
                    ),
                    channels=[channel],
                    xids=self.xids,
                    remember=lambda: (
                        None
                        if self.is_dead
                        else state_file.save({"inventory": inventory.remembered(), "counters": deltas.baselines()})
                    ),
                    reload=lambda: True,
                    notifier=Notifier(),
                    requests=self.requests,
                    clock=self.clock,
                    settings=self.settings,
                )
                self.clock.waits = 0
                ending = service.run()
                self.ledger.dropped_datums += outbox.stats().dropped_datums - spool.state().dropped_datums
        except (KilledError, DriverMismatchError) as error:
            self.ledger.happened[type(error).__name__] += 1
            self.ledger.dropped_datums += outbox.stats().dropped_datums - spool.state().dropped_datums
        dropped = spool.state().dropped_datums
        spool.close()
        self.ledger.dropped_datums += dropped
        self._close_books()
        self.check_ledger()

    def _close_books(self) -> None:
        """Say what ended with the process: nothing, unless it was killed."""
        ledger = self.ledger
        unhanded = ledger.seen - ledger.handed
        assert not ledger.handed - ledger.seen, f"{self}: more handed over than read: {ledger.handed - ledger.seen}"
        if self.is_dead:
            # The open period, and one that waits for its phase.
            most = len(GPUS) * 2 * PERIOD_SECONDS / SAMPLE_SECONDS * 8
            assert max(unhanded.values(), default=0) <= most, f"{self}: {unhanded}"
            ledger.lost_in_memory += unhanded
        else:
            assert not unhanded, f"{self}: read, and never handed over: {unhanded}"
        ledger.seen.clear()
        ledger.handed.clear()

    def kill(self) -> None:
        """End this process; the next one finds what is on the disk now."""
        before = self.state_directory
        self.deaths += 1
        shutil.copytree(before, self.state_directory)
        self.is_dead = True
        raise KilledError

    def misfortune(self) -> None:
        """Begin or end what goes wrong, at random."""
        if self.ticks >= self.last_tick:
            self.requests.stop()
        if self.clock.now >= self.server_back_at:
            self.server.is_away = False
        chance = self.rng.random()
        limits = itertools.accumulate(MISFORTUNES.values())
        name = next((name for name, limit in zip(MISFORTUNES, limits, strict=True) if chance < limit), None)
        if name is not None and (self.kills or not name.startswith("kill")):
            self.ledger.happened[name] += 1
            getattr(self, f"_{name}")()

    def _outage(self) -> None:
        self.server.is_away = True
        self.server_back_at = self.clock.now + self.rng.choice((30, 300, 3600, 6 * 3600))

    def _lose(self) -> None:
        self.lost = set() if self.lost else {self.rng.choice(GPUS)}

    def _driver(self) -> None:
        self.driver_back_at = self.clock.now + self.rng.uniform(1, 600)

    def _wedge(self) -> None:
        assert self.source is not None
        self.source.hang()
        self.clock.at(self.rng.uniform(10, 400), self.source.return_from_hanging)

    def _step(self) -> None:
        """Step the wall clock; the time service puts it right within hours."""
        self.clock.wall += self.rng.choice((-86_400, -3600, -61, 59.5, 7200, 86_400))

        def undo() -> None:
            self.clock.wall = self.true_unix_seconds

        self.clock.at(self.rng.uniform(60, 4 * 3600), undo)

    def _release(self) -> None:
        self.released_until = self.clock.now + self.rng.uniform(1, 900)

    def _reload(self) -> None:
        self.clock.at(self._moment(), self.requests.reload)

    def _stop(self) -> None:
        self.clock.at(self._moment(), self.requests.stop)

    def _moment(self) -> float:
        """Return when something happens between two ticks, half of the times while a period waits for its phase."""
        left = PERIOD_SECONDS - self.clock.wall % PERIOD_SECONDS
        return self.rng.choice((self.rng.uniform(0, PERIOD_SECONDS), left + self.rng.uniform(0, 1)))

    def _mismatch(self) -> None:
        self.is_mismatch = True

    def _xids(self) -> None:
        for _ in range(self.rng.randint(1, 200)):
            xid = self.rng.choice((13, 31, 79, 95))
            self.xids.record(XidEvent(self.rng.choice(GPUS).uuid, None, xid, self.clock.wall, None, "nvml"))

    def _kill(self) -> None:
        self.kill()

    def _kill_in_flight(self) -> None:
        self.server.kill_after_taking = True

    def reading(self, due: Due) -> Reading | DriverUnavailableError | None:
        now = self.clock.now
        if self.is_mismatch:
            self.is_mismatch = False
            return DriverMismatchError("Start anew.")
        if now < self.driver_back_at:
            return DriverUnavailableError("Load the driver.")
        if now < self.released_until:
            return None
        return Reading(tuple(self._gpu(gpu, due) for gpu in GPUS), "580", self.rng.randint(0, 1))

    def _gpu(self, gpu: Gpu, due: Due) -> GpuSample:
        rng = self.rng
        if gpu in self.lost:
            return GpuSample(gpu, {"gpu_up": 0.0})
        values: dict[str, float | None] = {
            "gpu_up": 1.0,
            "memory_used_bytes": float(rng.randrange(2**30)),
            "temperature_celsius": rng.choice((30.0, 31.0, 90.0, math.nan, 5000.0)),
            "power_watts": rng.choice((rng.uniform(10, 300), None, math.inf, -1.0)),
            "sm_clock_megahertz": 300.0,
        }
        bursts = {"gpu_utilization_percent": tuple(float(rng.randrange(101)) for _ in range(rng.randrange(8)))}
        if Due.SLOW in due:
            self._count_energy(gpu)
            values["energy_millijoules"] = self.energy[gpu]
            values["ecc_correctable_count"] = rng.choice((0.0, 1.0, 7.0, None, math.nan))
        return GpuSample(gpu, values, bursts)

    def _count_energy(self, gpu: Gpu) -> None:
        """Let the counter grow; or begin anew, as a reloaded driver makes it."""
        if self.energy[gpu] > 50_000 and self.rng.random() < 0.01:
            self.ledger.happened["counter reset"] += 1
            self.energy[gpu] = 0.0
        more = float(self.rng.randint(0, 1000))
        self.energy[gpu] += more
        if gpu in self.was_read:
            self.ledger.energy_read += more
        self.was_read.add(gpu)

    def check_ledger(self) -> None:
        """Require that every datum was delivered once, dropped and counted, or waits in the spool; between processes.

        What was dropped is forgotten: if it is delivered after all, nothing was handed over that it could be.
        """
        ledger = self.ledger
        waiting = Counter(map(key_of, self._waiting()))
        assert not waiting - ledger.outstanding, f"{self}: in the spool, though delivered, or never handed over"
        ledger.vanished_datums += ledger.outstanding.total() - waiting.total()
        ledger.outstanding = waiting
        accounted = ledger.delivered_datums + ledger.vanished_datums + waiting.total()
        assert ledger.handed_datums + ledger.twice == accounted, str(self)
        assert ledger.vanished_datums == ledger.dropped_datums, (
            f"{self}: {ledger.vanished_datums} datums vanished, {ledger.dropped_datums} were counted as dropped"
        )

    def _waiting(self) -> Iterator[Datum]:
        file = self.state_directory / FILE_NAME
        with closing(sqlite3.connect(file)) as connection:
            for (payload,) in connection.execute("SELECT payload FROM entries"):
                yield from decode(payload)


def _client_error(code: str, status: int) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": "x"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutMetricData")


def _key_sent(datum: Mapping[str, Any]) -> int:
    dimensions = {entry["Name"]: entry["Value"] for entry in datum["Dimensions"]}
    counts = datum.get("Counts") or [1] * len(datum["Values"])
    moment = datum["Timestamp"].timestamp()
    return key(datum["MetricName"], dimensions.get("GpuUuid"), moment, datum["Values"], counts)


def allocated_bytes() -> int:
    """Return roughly what Python's objects take: tracemalloc would be exact, and three times as slow as the rest."""
    gc.collect()
    return sys.getallocatedblocks() * BYTES_PER_BLOCK


@pytest.fixture
def seed() -> int:
    seed = int(os.environ.get("GPUMON_SOAK_SEED") or random.SystemRandom().randrange(2**32))
    print(f"GPUMON_SOAK_SEED={seed}")  # noqa: T201 - runs it again
    return seed


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    """Keep pytest from collecting the log, which would be most of the memory."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_ten_thousand_periods_with_random_faults_lose_nothing_uncounted_and_no_memory(
    tmp_path: Path, seed: int
) -> None:
    start = time.monotonic()
    soak = Soak(seed, tmp_path)
    # Resident memory would be the better figure, but here it is the tests' own: benchmarks/gpumon has a process's.
    soak.run(PERIODS // 10)
    before = allocated_bytes()
    soak.run(PERIODS)
    growth = allocated_bytes() - before
    seconds = time.monotonic() - start

    ledger = soak.ledger
    print(  # noqa: T201 - figures for people
        f"{soak.periods} periods in {seconds:.0f} s: {ledger.handed_datums} datums handed over,"
        f" {ledger.delivered_datums} delivered ({ledger.twice} of them twice: killed before the answer),"
        f" {ledger.dropped_datums} dropped and counted; memory grew by {growth / 1024:.0f} KiB;"
        f" lost with kill -9: {ledger.lost_in_memory.total()} of {ledger.delivered_samples} samples;"
        f" energy {ledger.energy_handed / ENERGY.scale:.0f} of {ledger.energy_read:.0f} mJ; {dict(ledger.happened)}"
    )
    assert min(ledger.happened.values()) > 0
    assert len(ledger.happened) >= 15, f"{soak}: {ledger.happened}"
    assert growth <= MOST_GROWTH_BYTES, f"{soak}: memory grew by {growth} bytes"


def test_without_kills_counters_add_up_to_what_the_driver_counted(tmp_path: Path, seed: int) -> None:
    soak = Soak(seed, tmp_path, kills=False)
    soak.run(PERIODS // 10)

    assert soak.ledger.energy_handed / ENERGY.scale == pytest.approx(soak.ledger.energy_read, rel=1e-9), str(soak)
