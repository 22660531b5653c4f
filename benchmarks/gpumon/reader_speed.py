"""A program: how long gpumon's reader takes per collection, and how long its calls take through bare ctypes.

usage: python -m benchmarks.gpumon.reader_speed DUE COLLECTIONS CALLS-FILE: DUE is sample, buffer or everything; the
traced calls are written to CALLS-FILE as C. Prints nanoseconds of processor time per collection: of the reader,
and of its calls replayed with arguments that are at hand; then how many values a collection has.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.gpumon import c_source
from benchmarks.gpumon.trace import Buffer, Number, Trace, TracedCall, carried_over, tracing
from gpumon.readers import EVERYTHING, Due
from gpumon.readers.nvml import NvmlReader

DUES = {"sample": Due.SAMPLE, "buffer": Due.SAMPLE | Due.BUFFER, "everything": EVERYTHING}
# Activity (GPM) is compared only over more than 0.1 s, so collections with it have a pause before them.
PAUSE_SECONDS = {"sample": 0.0, "buffer": 0.0, "everything": 0.11}
# A wall clock that lags makes the reader ask for the same ten seconds of samples each time: it takes the lag for a step
# backwards of the clock.
BUFFER_SECONDS = 10.0
# Replayed calls ask for a little less, so that what comes fits into the memory that the trace had for it.
REPLAY_SHARE = 0.95


def main(due_name: str, collections: int, calls_file: Path) -> None:
    """Measure and print."""
    due, pause = DUES[due_name], PAUSE_SECONDS[due_name]
    reader = NvmlReader(unix_seconds=lambda: time.time() - BUFFER_SECONDS)
    with tracing() as trace:
        reader.read(EVERYTHING)
        time.sleep(pause)
        reader.read(EVERYTHING)
        time.sleep(pause)
        setup_count = len(trace.calls)
        reading = reader.read(due)
    before, collection = trace.calls[:setup_count], trace.calls[setup_count:]
    calls_file.write_text(c_source.write(before, collection, len(trace.holders)), encoding="ascii")
    bare = _nanoseconds(_replay(collection, trace), collections, pause)
    reader.close()
    reader.read(EVERYTHING)
    whole = _nanoseconds(lambda: reader.read(due), collections, pause)
    values = sum(len(sample.values) + sum(map(len, sample.bursts.values())) for sample in reading.gpus)
    sys.stdout.write(f"{whole} {bare} {values}\n")


def _nanoseconds(work: Callable[[], object], times: int, pause_seconds: float) -> int:
    spent = 0
    for number in range(times + 1):
        time.sleep(pause_seconds)
        begin = time.process_time_ns()
        work()
        spent += (time.process_time_ns() - begin) * (number > 0)  # the first one is to warm up
    return spent // times


def _replay(collection: list[TracedCall], trace: Trace) -> Callable[[], None]:
    """Return a function that makes the calls again, with the objects that they got."""
    pointer_bytes = ctypes.sizeof(ctypes.c_void_p)
    steps: list[tuple[Callable[..., object], tuple[object, ...]]] = []
    for old, new in carried_over(collection):  # what the collection before left in the place of what it freed
        to, source = (ctypes.addressof(trace.holders[number]) for number in (old, new))
        steps.append((ctypes.memmove, (to, source, pointer_bytes)))
    for call in collection:
        for argument, raw in zip(call.arguments, call.raw, strict=True):
            if isinstance(argument, Buffer):
                for offset, number in argument.handles.items():
                    place = ctypes.addressof(raw._obj) + offset  # noqa: SLF001 - ctypes's own
                    steps.append((ctypes.memmove, (place, ctypes.addressof(trace.holders[number]), pointer_bytes)))
            elif isinstance(argument, Number) and argument.value > 10**15:
                ago = int((time.time() * 1e6 - argument.value) * REPLAY_SHARE)
                steps.append((_set_stamp, (raw, ago)))
        steps.append((call.function, call.raw))

    def replay() -> None:
        for function, arguments in steps:
            function(*arguments)

    return replay


def _set_stamp(holder: ctypes.c_ulonglong, ago_microseconds: int) -> None:
    holder.value = int(time.time() * 1e6) - ago_microseconds


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
