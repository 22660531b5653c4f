"""The memory staircase as it is climbed: allocate, publish, read back, free; what is seen is in `memory_checks`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gpunodes.aws import Clients
from gpunodes.proof import memory_checks
from gpunodes.proof.check import Check
from gpunodes.proof.clone import Shell
from gpunodes.proof.datapoints import DatapointReader, Readings, Series
from gpunodes.proof.gpu_checks import Gpu
from gpunodes.proof.gpu_load import GpuLoad
from gpunodes.proof.memory_checks import Level
from gpunodes.proof.outage import Outage, publishing_denied
from gpunodes.proof.promised_metrics import GPU_NAMESPACE, name_of
from gpunodes.proof.service_checks import GPUMON

_SAMPLES_SECONDS = 3.0  # gpumon samples each second: after this a level of memory is in its samples
_RESTART_SECONDS = 10.0
# Stopping publishes what is held, so that nobody waits for the minute to end.
_PUBLISH_NOW = f"! systemctl is-active --quiet {GPUMON} || sudo systemctl restart {GPUMON}"


@dataclass
class Staircase:
    """Memory of every GPU of an instance, climbed in three steps and freed.

    Attributes:
        instance_id: of the instance.
        shell: a connection to it.
        reader: of its datapoints.
        gpus: that were found; without any, every check fails.
        load: holds the memory.
        patience_seconds: how long a datapoint may take now; 0 while gpumon does not run.
        levels: climbed so far.
        freed_at: UTC, by the instance's clock; None while memory is held.
    """

    instance_id: str
    shell: Shell
    reader: DatapointReader
    gpus: list[Gpu]
    load: GpuLoad
    patience_seconds: Callable[[], float]
    levels: list[Level] = field(default_factory=list)
    freed_at: datetime | None = None
    _before: Readings = field(default_factory=dict)
    _rows: list[dict[str, Any]] = field(default_factory=list)

    def wait_for_first_datapoints(self) -> Check:
        """Every GPU's memory, published as in everyday life."""
        series = [self._series(gpu) for gpu in self.gpus]
        self._before = self.reader.wait_for(series, "Maximum", _all_arrived, self.patience_seconds())
        return memory_checks.memory_arrives(self._before)

    def climb(self) -> None:
        """All steps but the last."""
        for share in memory_checks.SHARES[:-1] if self.gpus else ():
            self._rows += self._see(self._allocate(share))

    def climb_in_an_outage(self, clients: Clients, role_name: str) -> list[Check]:
        """The last step, held while nothing may be published: it must be seen all the same, afterwards."""
        outage = Outage(denied_at=datetime.now(UTC))
        if self.gpus:
            with publishing_denied(clients, role_name):
                outage = self._notice(outage)
                level = self._allocate(memory_checks.SHARES[-1])
                self._publish_now()
                hidden = self._level_rows(level, self.reader.read(list(level.held_bytes), "Maximum"))
            rows = self._see(level)
            outage = replace(
                outage,
                was_hidden=not any(row["fits"] for row in hidden),
                was_filled=all(row["fits"] for row in rows),
                allowed_at=datetime.now(UTC),
            )
            self._rows += rows
        return [memory_checks.memory_rises(self._rows), outage.check()]

    def free(self) -> None:
        """Give the memory back."""
        if self.gpus:
            self.freed_at = self.load.free()
            self.load.stop()

    def see_memory_fall(self) -> Check:
        """In a minute that began after the allocation."""
        if not self.freed_at or not self.levels:
            return memory_checks.memory_falls(None, {}, {}, datetime.now(UTC))
        since = memory_checks.first_minute_after_free(self.levels[-1].at, self.freed_at)
        until = since + timedelta(seconds=_SAMPLES_SECONDS)
        time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()))

        def fall(minimum: Readings) -> Check:
            return memory_checks.memory_falls(self.levels[0], self._before, minimum, since)

        self._publish_now()
        return fall(
            self.reader.wait_for(
                list(self._before), "Minimum", lambda now: fall(now).passed is True, self._patience_as_things_are()
            )
        )

    @property
    def changes(self) -> list[datetime]:
        """When the load on the GPUs changed, by the instance's clock."""
        return [level.at for level in self.levels] + ([self.freed_at] if self.freed_at else [])

    def document(self) -> list[dict[str, Any]]:
        """What was held when, for each GPU, as the record of a proof has it."""
        freed_at = self.freed_at.isoformat() if self.freed_at else None
        return [
            {
                "gpu_index": gpu.index,
                "gpu_uuid": gpu.uuid,
                "steps": [
                    {"at": level.at.isoformat(), "bytes": level.held_bytes[self._series(gpu)], "share": level.share}
                    for level in self.levels
                ],
                "freed_at": freed_at,
            }
            for gpu in self.gpus
        ]

    def _allocate(self, share: float) -> Level:
        """Let each GPU hold a share of its memory, until that is in gpumon's samples."""
        sizes = memory_checks.level_sizes(self.gpus, share)
        held = dict(zip((self._series(gpu) for gpu in self.gpus), sizes, strict=True))
        level = Level(share, self.load.allocate(sizes), held)
        self.levels.append(level)
        time.sleep(_SAMPLES_SECONDS)
        return level

    def _notice(self, outage: Outage) -> Outage:
        """Wait until gpumon says that it may not publish: IAM takes its time."""
        deadline = time.monotonic() + self.patience_seconds()
        while not (line := outage.complaint(self.shell)) and time.monotonic() < deadline:
            self._publish_now()
        return replace(outage, complaint_line=line)

    def _level_rows(self, level: Level, maximum: Readings) -> list[dict[str, Any]]:
        first = [row for row in self._rows if row["share"] == self.levels[0].share]
        return memory_checks.level_rows(level, first, self._before, maximum)

    def _see(self, level: Level) -> list[dict[str, Any]]:
        """Publish and read a step back until it is what was allocated, or patience ends."""
        patience = self._patience_as_things_are()
        self._publish_now()
        readings = self.reader.wait_for(
            list(level.held_bytes),
            "Maximum",
            lambda now: all(row["fits"] for row in self._level_rows(level, now)),
            patience,
        )
        return self._level_rows(level, readings)

    def _patience_as_things_are(self) -> float:
        """What was wrong at a lower step will not be right now: then look as long as a restart takes."""
        has_fitted = all(row["fits"] for row in self._rows)
        return self.patience_seconds() if has_fitted else min(_RESTART_SECONDS, self.patience_seconds())

    def _publish_now(self) -> None:
        self.shell.run(_PUBLISH_NOW)

    def _series(self, gpu: Gpu) -> Series:
        dimensions = {"InstanceId": self.instance_id, "GpuIndex": str(gpu.index), "GpuUuid": gpu.uuid}
        return Series.of(GPU_NAMESPACE, name_of("memory_used_bytes"), dimensions)


def _all_arrived(readings: Readings) -> bool:
    return all(readings.values())
