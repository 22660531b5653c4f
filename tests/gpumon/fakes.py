"""Working stand-ins for gpumon's own seams."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpumon.errors import GpumonError
from gpumon.samples import Datum, Gpu, GpuSample

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from gpumon.samples import Batch

GPU = Gpu("GPU-aaaa", 0, "Tesla T4")
OTHER_GPU = Gpu("GPU-bbbb", 1, "Tesla T4")


def gpu_sample(gpu: Gpu = GPU, **values: float | None) -> GpuSample:
    return GpuSample(gpu, values)


def datum(value: float = 1.0, unix_seconds: int = 60, metric: str = "MemoryUsed", gpu: Gpu | None = GPU) -> Datum:
    return Datum(metric, "Bytes", gpu, unix_seconds, (value,), (1,))


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
    """Answers with what was set last: samples, or an error to raise."""

    def __init__(self, answer: tuple[GpuSample, ...] | GpumonError = ()) -> None:
        self.answer = answer
        self.reads = 0
        self.is_closed = False

    def read(self) -> tuple[GpuSample, ...]:
        self.reads += 1
        if isinstance(self.answer, GpumonError):
            raise self.answer
        return self.answer

    def close(self) -> None:
        self.is_closed = True


@dataclass
class RecordingOutbox:
    """Remembers what was submitted, and when (monotonic seconds)."""

    clock: FakeClock
    submissions: list[tuple[float, Batch]] = field(default_factory=list)
    stopped_after: float | None = None
    works: bool = True

    def start(self) -> None:
        pass

    def submit(self, datums: Sequence[Datum]) -> None:
        if datums:
            self.submissions.append((self.clock.now, tuple(datums)))

    def is_working(self) -> bool:
        return self.works

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
