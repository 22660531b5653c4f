"""Working stand-ins for gpumon's own seams."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gpumon.errors import DriverUnavailableError, GpumonError
from gpumon.metrics import Metric
from gpumon.publisher import DeliveryStats
from gpumon.readers import Due
from gpumon.sampler import Outcome
from gpumon.samples import Datum, Gpu, GpuSample, Reading

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from gpumon.samples import Batch

GPU = Gpu("GPU-aaaa", 0, "Tesla T4")
OTHER_GPU = Gpu("GPU-bbbb", 1, "Tesla T4")


def gpu_sample(gpu: Gpu = GPU, **values: float | None) -> GpuSample:
    return GpuSample(gpu, values)


def metric(name: str, reader: str, scope: Literal["gpu", "host"] = "gpu", unit: str = "Bytes", **more: Any) -> Metric:
    """Return a row of a table of metrics; what is not given is as plain as can be."""
    rest = {"tier": "core", "every": "sample", "source": "x", "description": "x", **more}
    return Metric(name=name, scope=scope, unit=unit, reader=reader, **rest)


def datum(value: float = 1.0, unix_seconds: int = 60, name: str = "MemoryUsed", gpu: Gpu | None = GPU) -> Datum:
    return Datum(name, "Bytes", gpu, unix_seconds, (value,), (1,))


class FakeClock:
    """Time that passes only while something waits; `at` plans what happens meanwhile."""

    def __init__(self, unix_seconds: float = 1_700_000_000.0) -> None:
        self.wall = unix_seconds
        self.now = 1000.0
        self.waits = 0
        self._plan: list[tuple[float, Callable[[], None]]] = []

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do `action` when `seconds` have passed from now."""
        self._plan.append((self.now + seconds, action))
        self._plan.sort(key=lambda item: item[0])

    def unix_seconds(self) -> float:
        return self.wall

    def monotonic_seconds(self) -> float:
        return self.now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits += 1
        assert self.waits < 1_000_000, "the loop spins"
        end = self.now + max(0.0, seconds)
        while not event.is_set() and self._plan and self._plan[0][0] <= end:
            moment, action = self._plan.pop(0)
            self._pass(max(0.0, moment - self.now))
            action()
        if not event.is_set():
            self._pass(end - self.now)
        return event.is_set()

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


class FakeGpuReader:
    """Answers with what was set last: a reading, or an error to raise."""

    def __init__(self, answer: Reading | GpumonError) -> None:
        self.answer = answer
        self.asked: list[Due] = []
        self.is_closed = False

    def read(self, due: Due) -> Reading:
        self.asked.append(due)
        self.is_closed = False
        if isinstance(self.answer, GpumonError):
            raise self.answer
        return self.answer

    def close(self) -> None:
        self.is_closed = True


class FakeSource:
    """A `SampleSource` that gives `answer` (None: the driver is released) unless it hangs."""

    def __init__(self, clock: FakeClock, sample_seconds: float = 1.0) -> None:
        self.clock = clock
        self.sample_seconds = sample_seconds
        self.answer: Reading | DriverUnavailableError | None = Reading(())
        self.due = Due.SAMPLE
        self.hangs_since: float | None = None
        self.works = True
        self.given = 0
        self.stopped_after: float | None = None
        self._outcomes: list[Outcome] = []
        self._wake: threading.Event | None = None

    def start(self, wake: threading.Event) -> None:
        self._wake = wake
        self.clock.at(0, self._tick)

    def hang(self) -> None:
        self.hangs_since = self.clock.now

    def return_from_hanging(self) -> None:
        self.hangs_since = None

    def outcomes(self) -> list[Outcome]:
        found, self._outcomes = self._outcomes, []
        return found

    def busy_seconds(self) -> float | None:
        return None if self.hangs_since is None else self.clock.now - self.hangs_since

    def is_working(self) -> bool:
        return self.works

    def stop(self, seconds: float) -> bool:
        self.stopped_after = seconds
        return self.hangs_since is None

    def _tick(self) -> None:
        assert self._wake is not None
        if self.hangs_since is None:
            self.given += 1
            error = self.answer if isinstance(self.answer, DriverUnavailableError) else None
            reading = self.answer if isinstance(self.answer, Reading) else None
            self._outcomes.append(Outcome(self.clock.wall, self.clock.now, 0.01, self.due, reading, error))
            self._wake.set()
        self.clock.at(self.sample_seconds, self._tick)


@dataclass
class RecordingOutbox:
    """Remembers what was submitted, and when (monotonic seconds)."""

    clock: FakeClock
    submissions: list[tuple[float, Batch]] = field(default_factory=list)
    urgent: list[float] = field(default_factory=list)
    stopped_after: float | None = None
    works: bool = True
    figures: DeliveryStats = field(default_factory=DeliveryStats)

    def start(self) -> None:
        pass

    def submit(self, datums: Sequence[Datum], *, urgent: bool = False) -> None:
        if datums:
            self.submissions.append((self.clock.now, tuple(datums)))
        if urgent:
            self.urgent.append(self.clock.now)

    def is_working(self) -> bool:
        return self.works

    def stats(self) -> DeliveryStats:
        return self.figures

    def stop(self, seconds: float) -> None:
        self.stopped_after = seconds


class RecordingSink:
    """Takes batches of up to `most_datums`; raises the planned errors first (None: succeed)."""

    def __init__(self, *errors: GpumonError | None, most_datums: int = 1000) -> None:
        self.errors = list(errors)
        self.open_errors: list[GpumonError] = []
        self.opened = 0
        self.most_datums = most_datums
        self.published: list[Batch] = []

    def open(self) -> None:
        self.opened += 1
        if self.open_errors:
            raise self.open_errors.pop(0)

    def calls(self, datums: Sequence[Datum]) -> list[Batch]:
        return [tuple(datums[i : i + self.most_datums]) for i in range(0, len(datums), self.most_datums)]

    def publish(self, batch: Batch) -> None:
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        self.published.append(batch)
