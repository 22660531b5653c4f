"""Counts Xids per GPU and code, each once, whichever source sees it first.

How the service uses it::

    counts = XidCounts(load_xids(site_file), urgent=urgent)   # `urgent` wakes the main loop
    counts.know({"00000000:3B:00.0": "GPU-..."})               # by the reader, whenever it opened GPUs
    kernel_log.seed()                                          # once, before the first reading
    counts.of_gpu(uuid)                                        # at each slow reading, into the sample:
        .errors_since_start     -> xid_error_count             # counter that begins at 0 with this process
        .critical_since_start   -> xid_critical_count          # same
        .last_xid               -> xid_last_code               # gauge, DCGM_FI_DEV_XID_ERRORS; None: none since boot
    counts.totals()[uuid][code]                                # gpumon_xid_errors_total{gpu,UUID,xid,class}, since boot
    if urgent.is_set(): counts.take_critical(); publish        # not more often than the caller likes

Two figures, because restarting gpumon must neither hide what happened nor announce it twice. `totals` and `last` cover
everything since boot, as far as the kernel log reaches back. The counts ``..._since_start`` leave out history, which
is what an earlier gpumon has seen already; the delta of their first reading is the reading itself, since they began at
0. What happened while no gpumon ran is no history, so it shows up in the first delta.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from gpumon.xids import OTHER_XIDS, BusLoss, XidEvent, normal_pci_bus_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpumon.xids import XidTable

# Both sources see an event within milliseconds; a stalled thread may take seconds. Counted in whole seconds.
PAIRING_SECONDS = 5
UNKNOWN_GPU = "unknown"  # key of events whose GPU cannot be told
MOST_CODES = 256  # told apart per GPU, beside those of the table; the driver has fewer than 200
MOST_GPUS = 256  # told apart per host, by UUID or address
_MOST_SECONDS = 64  # in which events of one code wait for their twin from the other source
_MOST_CRITICAL = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GpuXids:
    """What is known of one GPU; all figures only ever grow.

    Attributes:
        errors_since_start: Xids since this process began, and those that nobody counted before it.
        critical_since_start: Those of them that are critical.
        bus_losses_since_start: How often the kernel log said, other than by an Xid, that it fell off the bus.
        last_xid: Code of the last Xid since boot, or None.
        last_unix_seconds: When that was, or None.
    """

    errors_since_start: int = 0
    critical_since_start: int = 0
    bus_losses_since_start: int = 0
    last_xid: int | None = None
    last_unix_seconds: float | None = None


class _Unpaired:
    """Events of one code that only one source has seen, per second: bursts take no memory."""

    def __init__(self) -> None:
        self._waiting: dict[str, Counter[int]] = {"nvml": Counter(), "kmsg": Counter()}

    def take(self, source: str, second: int) -> bool:
        """Use up the oldest event of `source` within the window around `second`; say whether there was one."""
        waiting = self._waiting[source]
        for candidate in range(second - PAIRING_SECONDS, second + PAIRING_SECONDS + 1):
            if candidate in waiting:
                waiting[candidate] -= 1
                if not waiting[candidate]:
                    del waiting[candidate]
                return True
        return False

    def add(self, source: str, second: int, count: int = 1) -> None:
        waiting = self._waiting[source]
        waiting[second] += count
        if len(waiting) > _MOST_SECONDS:
            del waiting[min(waiting)]

    def absorb(self, other: _Unpaired) -> int:
        """Take over what waits in `other`; return how many pairs that made."""
        pairs = 0
        for source, opposite in (("nvml", "kmsg"), ("kmsg", "nvml")):
            for second, count in sorted(other._waiting[source].items()):
                paired = 0
                while paired < count and self.take(opposite, second):
                    paired += 1
                pairs += paired
                if count > paired:
                    self.add(source, second, count - paired)
        return pairs


@dataclass
class _Gpu:
    """Counters of one GPU."""

    totals: Counter[int] = field(default_factory=Counter)
    since_start: Counter[int] = field(default_factory=Counter)
    unpaired: dict[int, _Unpaired] = field(default_factory=dict)
    bus_losses: int = 0
    bus_loss_unix_seconds: float | None = None
    last: tuple[int, float] | None = None


class XidCounts:
    """Thread-safe counters of Xids.

    The same Xid of the same GPU counts once though both sources see it: an event is paired off with one event of the
    other source that lies within `PAIRING_SECONDS` and has no twin yet. So N equal Xids count N, in whatever order the
    two sources tell of them. An event without a twin counts by itself, for the other source may be off. NVML's
    999 (no Xid) is never paired: the kernel log names the true code, which must not be lost.

    Args:
        table: What the codes mean.
        urgent: Is set at every critical event that is news; `take_critical` clears it.
    """

    def __init__(self, table: XidTable, urgent: threading.Event | None = None) -> None:
        self.table = table
        self.urgent = urgent or threading.Event()
        self._lock = threading.Lock()
        self._gpus: dict[str, _Gpu] = {}
        self._uuids: dict[str, str] = {}  # PCI address -> UUID
        self._critical: deque[XidEvent | BusLoss] = deque(maxlen=_MOST_CRITICAL)

    def know(self, uuids: Mapping[str, str]) -> None:
        """Learn which GPU sits at which PCI address; what was counted under an address goes over to its GPU.

        Args:
            uuids: PCI address, in any form that `normal_pci_bus_id` takes -> UUID.
        """
        with self._lock:
            for address, uuid in uuids.items():
                pci_bus_id = normal_pci_bus_id(address)
                if pci_bus_id is None or (pci_bus_id not in self._uuids and len(self._uuids) >= MOST_GPUS):
                    continue
                self._uuids[pci_bus_id] = uuid
                nameless = self._gpus.pop(pci_bus_id, None)
                if nameless is not None:
                    self._merge(self._gpu(uuid), nameless)

    def record(self, event: XidEvent, *, is_history: bool = False) -> bool:
        """Count an event; say whether it is news.

        Args:
            event: What happened.
            is_history: An earlier gpumon counted it: it is no news, counts into `totals` and `last` only, has no twin.
        """
        with self._lock:
            key = self._key(event.gpu_uuid, event.pci_bus_id)
            gpu = self._gpu(key)
            code = self._code(gpu, event.xid)
            if not is_history and self._has_twin(gpu, code, event):
                return False
            gpu.totals[code] += 1
            gpu.last = (event.xid, event.unix_seconds)
            if is_history:
                return False
            gpu.since_start[code] += 1
            info = self.table[event.xid]
            if info.critical:
                self._critical.append(event)
                self.urgent.set()
        # Without the text, which differs every time: a burst would fill the journal. The kernel log has it.
        # The code goes in as a word: lines that differ in numbers only are taken for repetitions of one.
        level = logging.ERROR if info.critical else logging.WARNING
        log.log(level, "Xid %s of GPU %s (%s): %s", str(event.xid), key, info.xid_class, info.description)
        return True

    def record_bus_loss(self, loss: BusLoss, *, is_history: bool = False) -> bool:
        """Count a loss; say whether it is news. Repetitions, each within the window of the one before, are one loss."""
        with self._lock:
            key = self._key(loss.gpu_uuid, loss.pci_bus_id)
            gpu = self._gpu(key)
            before, gpu.bus_loss_unix_seconds = gpu.bus_loss_unix_seconds, loss.unix_seconds
            if is_history or (before is not None and abs(loss.unix_seconds - before) <= PAIRING_SECONDS):
                return False
            gpu.bus_losses += 1
            self._critical.append(loss)
            self.urgent.set()
        log.error("GPU %s has fallen off the bus, says the kernel log", key)
        return True

    def totals(self) -> Mapping[str, Mapping[int, int]]:
        """Return key of the GPU -> code -> number since boot.

        The key is the UUID; the PCI address, where no UUID is known for it; or `UNKNOWN_GPU`. Code `OTHER_XIDS` stands
        for all that are not told apart.
        """
        with self._lock:
            return {key: dict(gpu.totals) for key, gpu in self._gpus.items() if gpu.totals}

    def of_gpu(self, uuid: str) -> GpuXids:
        """Return the figures of one GPU; zeros for one that never erred."""
        with self._lock:
            gpu = self._gpus.get(uuid)
            if gpu is None:
                return GpuXids()
            critical = sum(count for code, count in gpu.since_start.items() if self.table[code].critical)
            last_xid, last_unix_seconds = gpu.last or (None, None)
            return GpuXids(sum(gpu.since_start.values()), critical, gpu.bus_losses, last_xid, last_unix_seconds)

    def last(self, uuid: str) -> tuple[int, float] | None:
        """Return code and time (Unix seconds) of a GPU's last Xid since boot, or None."""
        with self._lock:
            gpu = self._gpus.get(uuid)
            return gpu.last if gpu else None

    def take_critical(self) -> tuple[XidEvent | BusLoss, ...]:
        """Return the critical events since the last call, the last 64 at most, and clear `urgent`."""
        with self._lock:
            self.urgent.clear()
            events = tuple(self._critical)
            self._critical.clear()
        return events

    def _key(self, uuid: str | None, pci_bus_id: str | None) -> str:
        if uuid:
            return uuid
        return self._uuids.get(pci_bus_id, pci_bus_id) if pci_bus_id else UNKNOWN_GPU

    def _gpu(self, key: str) -> _Gpu:
        if key not in self._gpus and len(self._gpus) >= MOST_GPUS:
            key = UNKNOWN_GPU
        return self._gpus.setdefault(key, _Gpu())

    def _code(self, gpu: _Gpu, xid: int) -> int:
        is_told_apart = xid in gpu.totals or xid in self.table or len(gpu.totals) < MOST_CODES
        return xid if is_told_apart else OTHER_XIDS

    def _merge(self, gpu: _Gpu, nameless: _Gpu) -> None:
        """Add what was counted under an address that now turns out to be this GPU's."""
        for xid, total in nameless.totals.items():
            code = self._code(gpu, xid)
            waiting = nameless.unpaired.get(xid, _Unpaired())
            pairs = gpu.unpaired.setdefault(code, _Unpaired()).absorb(waiting)
            gpu.totals[code] += total - pairs
            gpu.since_start[code] += nameless.since_start[xid] - pairs
        gpu.bus_losses += nameless.bus_losses
        moments = [moment for moment in (gpu.last, nameless.last) if moment is not None]
        gpu.last = max(moments, key=lambda moment: moment[1], default=None)

    @staticmethod
    def _has_twin(gpu: _Gpu, code: int, event: XidEvent) -> bool:
        other: Literal["nvml", "kmsg"] = "kmsg" if event.source == "nvml" else "nvml"
        second = int(event.unix_seconds)
        unpaired = gpu.unpaired.setdefault(code, _Unpaired())
        if unpaired.take(other, second):
            return True
        unpaired.add(event.source, second)
        return False
