"""Puts the parts of ``gpumon run`` together, and anew whenever the settings change."""

from __future__ import annotations

import functools
import logging
import random
import socket
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gpumon import __version__, state
from gpumon.channels import Channel
from gpumon.control import ReleaseFlag
from gpumon.counters import CounterDeltas
from gpumon.errors import GpumonError
from gpumon.identity import fetch_identity
from gpumon.inventory import Inventory
from gpumon.jobs import JobFiles
from gpumon.latest import Latest
from gpumon.metrics import load_metrics, of_tiers
from gpumon.overview import Overview
from gpumon.own_metrics import OwnMetrics
from gpumon.publisher import Publisher
from gpumon.readers import pci
from gpumon.readers.kmsg import KernelLog, KmsgPosition
from gpumon.readers.nvml import NvmlReader
from gpumon.readers.nvml.events import NvmlXidWatcher
from gpumon.sampler import DRIVER_RETRY_SECONDS, Sampler
from gpumon.service import Ending, Service
from gpumon.sinks.cloudwatch import CloudWatchSink
from gpumon.sinks.json_lines import JsonLinesSink
from gpumon.spool import MemorySpool
from gpumon.spool_disk import DiskSpool
from gpumon.window import Window
from gpumon.xid_counts import XidCounts
from gpumon.xids import XidTable, load_xids

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpumon.clock import Clock
    from gpumon.settings import Settings
    from gpumon.signals import Requests
    from gpumon.sinks import Sink
    from gpumon.sinks.prometheus import PrometheusSink
    from gpumon.spool import Spool
    from gpumon.systemd import Notifier

# Without a state directory this many calls, one per period, wait in memory. Eight busy GPUs take some 0.2 MB each time.
MOST_BATCHES_IN_MEMORY = 60
JSON_BATCHES_IN_MEMORY = 5
MEBIBYTE = 2**20
FIXED_SETTINGS = ("state_directory", "runtime_directory", "spool_megabytes")
CLOUDWATCH, JSON_LINES = "cloudwatch", "json_lines"
# A scrape shows no GPU whose values are older than this.
STALE_SECONDS = 30.0
STALE_SAMPLES = 3


log = logging.getLogger(__name__)


class Assembly:
    """Builds services one after the other; what was counted and is not delivered yet goes from one to the next."""

    def __init__(self, settings: Settings, requests: Requests, notifier: Notifier, clock: Clock) -> None:
        """Read what an earlier process left.

        Args:
            settings: For the directories, which stay the same as long as the process lives.
            requests: What the signals ask for.
            notifier: Talks to systemd.
            clock: Both clocks.
        """
        self._first_settings = settings
        self._requests = requests
        self._notifier = notifier
        self._clock = clock
        self._metrics = load_metrics()
        directory = Path(settings.state_directory) if settings.state_directory else None
        self._boot_id = state.boot_id()
        for wanted in (settings.state_directory, settings.runtime_directory):
            if wanted:
                with suppress(OSError):  # whoever needs it says what is missing
                    Path(wanted).mkdir(mode=0o700, exist_ok=True)
        self._state_file = state.StateFile(directory)
        left = self._state_file.load()
        self._inventory = Inventory(state.machine(), self._boot_id, left.get("inventory"))
        self._deltas = CounterDeltas(left.get("counters") if left.get("boot_id") == self._boot_id else None)
        self._kernel_log_position = KmsgPosition.from_dict(left.get("kernel_log"))
        self._flag = ReleaseFlag(Path(settings.runtime_directory) if settings.runtime_directory else None, clock)
        self._latest = Latest()
        self._xids = XidCounts(load_xids(), urgent=requests.wake)
        self._spool: Spool = (
            MemorySpool(MOST_BATCHES_IN_MEMORY)
            if directory is None
            else DiskSpool(directory, clock, host=state.machine_id(), most_bytes=settings.spool_megabytes * MEBIBYTE)
        )
        self._kernel_log: KernelLog | None = None
        self._has_kernel_history = False
        self._own = OwnMetrics()
        self._json_deltas = CounterDeltas()
        self._json_spool = MemorySpool(JSON_BATCHES_IN_MEMORY)
        self._publishers: dict[str, Publisher] = {}
        self._watcher = NvmlXidWatcher(self._xids, clock, threading.Event())
        self._reader: NvmlReader | None = None
        self._lists_processes = False
        self._turn = threading.Lock()  # one delivery at a time, though a reload leaves the one before behind
        self._channels: list[Channel] = []

    def check(self, settings: Settings) -> None:
        """Find out whether a service can be built from new settings, and say which of them come too late.

        Raises:
            SettingsError: It cannot.
        """
        _xid_table(settings)
        for key in FIXED_SETTINGS:
            if getattr(settings, key) != getattr(self._first_settings, key):
                log.warning("%s takes effect at the next start of gpumon, not at a reload", key)

    def run(self, settings: Settings, reload: Callable[[], bool]) -> Ending:
        """Build a service and run it to its end.

        Raises:
            GpumonError: It cannot go on; systemd must start a new process.
        """
        stop_threads = threading.Event()
        self._xids.table = _xid_table(settings)
        reader = self._reader_for(settings)
        prometheus = self._prometheus(settings)
        self._follow_kernel_log(settings, stop_threads)
        if prometheus is not None:
            prometheus.start()
        sampler = self._sampler(settings, reader)
        try:
            return self._service(settings, sampler, reload).run()
        finally:
            stop_threads.set()
            if prometheus is not None:
                prometheus.stop(settings.stop_seconds)
            if self._kernel_log is not None:
                self._kernel_log.close()
                self._note_position()
            # At the end of the process the session ends with it, and need not wait for whoever is in a call.
            if not self._requests.is_stopping() and not sampler.stop(0):
                raise GpumonError("Wait for systemd to start gpumon anew: a call into the driver does not come back.")

    def close(self) -> None:
        """Let the next process have the spool, and the runtime directory."""
        self._spool.close()
        self._flag.withdraw()

    def _reader_for(self, settings: Settings) -> NvmlReader:
        """Return the reader, whose session outlives a reload: opening one can take half a minute."""
        if self._reader is None or self._lists_processes != settings.process_memory:
            if self._reader is not None:
                self._reader.close()
            else:
                self._watcher.start()
            self._lists_processes = settings.process_memory
            self._reader = NvmlReader(
                known=self._inventory.gpus, with_processes=settings.process_memory, companion=self._watcher
            )
        return self._reader

    def _service(self, settings: Settings, sampler: Sampler, reload: Callable[[], bool]) -> Service:
        self._channels = channels = self._make_channels(settings)
        overview = Overview(
            latest=self._latest,
            inventory=self._inventory,
            xids=self._xids,
            own=self._own,
            before_xids=self._note_position,
            count_on_bus=pci.expected_gpus,
            delivery_stats=lambda: {channel.name: channel.stats() for channel in channels},
        )
        return Service(
            source=sampler,
            overview=overview,
            channels=channels,
            xids=self._xids,
            remember=self._remember,
            reload=reload,
            notifier=self._notifier,
            requests=self._requests,
            clock=self._clock,
            settings=settings,
        )

    def _sampler(self, settings: Settings, reader: NvmlReader) -> Sampler:
        flag = self._flag
        return Sampler(
            reader,
            self._clock,
            sample_seconds=settings.sample_seconds,
            slow_seconds=settings.slow_seconds,
            is_released=flag.is_released,
            on_held=lambda _reading: flag.report("held"),
            on_released=lambda: flag.report("released"),
        )

    def _make_channels(self, settings: Settings) -> list[Channel]:
        channels = []
        sendable = [metric for metric in self._metrics if metric.cloudwatch]
        if settings.cloudwatch:
            identity = functools.partial(fetch_identity, settings.metadata_endpoint)
            legacy_names = {metric.name for metric in self._metrics if metric.tier == "legacy"}
            sink = CloudWatchSink(settings.namespace, settings.region, identity, legacy_names=legacy_names)
            window = Window(of_tiers(sendable, settings.cloudwatch_tiers), settings.publish_seconds, self._deltas)
            phase_seconds = random.SystemRandom().uniform(0, settings.publish_phase_seconds)
            outbox = self._publisher(CLOUDWATCH, sink, self._spool)
            channels.append(Channel(CLOUDWATCH, window, outbox, phase_seconds))
        if settings.json_lines:
            window = Window(of_tiers(sendable, settings.json_lines_tiers), settings.publish_seconds, self._json_deltas)
            outbox = self._publisher(JSON_LINES, JsonLinesSink(), self._json_spool)
            channels.append(Channel(JSON_LINES, window, outbox))
        return channels

    def _publisher(self, name: str, sink: Sink, spool: Spool) -> Publisher:
        """Return a publisher that counts on from where the one before the reload ended."""
        before = self._publishers.get(name)
        turn = self._turn if spool is self._spool else None
        made = Publisher(sink, spool, self._clock, turn=turn, counted=before.counted() if before else None)
        self._publishers[name] = made
        return made

    def _note_position(self) -> None:
        """Remember up to where the kernel log was read before its Xids were told: a crash repeats rather than loses."""
        if self._kernel_log is not None:
            self._kernel_log_position = self._kernel_log.position

    def _prometheus(self, settings: Settings) -> PrometheusSink | None:
        if not settings.prometheus:
            return None
        # A host that nobody scrapes does not load a library and a web server for it.
        from gpumon.sinks.prometheus import PrometheusSink  # noqa: PLC0415
        from gpumon.sinks.prometheus_collector import SnapshotCollector  # noqa: PLC0415

        collector = SnapshotCollector(
            of_tiers(self._metrics, settings.prometheus_tiers),
            self._latest.snapshot,
            self._clock,
            hostname=socket.gethostname(),
            version=__version__,
            xids=self._xids.table,
            jobs=JobFiles(Path(settings.job_mapping_directory)) if settings.job_mapping_directory else None,
            job_labels=settings.job_labels,
            # A driver that is away is looked for ever more rarely, and so is everything then.
            stale_seconds=DRIVER_RETRY_SECONDS[1] + max(STALE_SECONDS, STALE_SAMPLES * settings.sample_seconds),
        )
        return PrometheusSink(collector, settings.prometheus_listen, self._clock)

    def _follow_kernel_log(self, settings: Settings, stop: threading.Event) -> None:
        self._kernel_log = None
        if settings.kernel_log:
            self._kernel_log = KernelLog(
                self._xids,
                clock=self._clock,
                stop=stop,
                position=self._kernel_log_position,
                path=Path(settings.kernel_log),
                with_history=not self._has_kernel_history,
            )
            self._has_kernel_history = True
            self._kernel_log.seed()
            self._kernel_log.start()

    def _remember(self) -> None:
        position = self._kernel_log_position
        self._state_file.save(
            {
                "boot_id": self._boot_id,
                "inventory": self._inventory.remembered(),
                "counters": self._deltas.baselines(),
                "kernel_log": None if position is None else position.to_dict(),
                "delivery": next(
                    (asdict(channel.stats()) for channel in self._channels if channel.name == CLOUDWATCH), None
                ),
            }
        )


def _xid_table(settings: Settings) -> XidTable:
    return load_xids(Path(settings.xid_table) if settings.xid_table else None)
